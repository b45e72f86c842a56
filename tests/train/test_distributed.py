import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import Noise
from two_processes import SHARED, Apart

from umfuse.train import fit
from umfuse.train.checkpoints import latest
from umfuse.train.distributed import is_first, join

pytestmark = pytest.mark.slow

ONE = replace(SHARED, accumulate=2)  # the microbatches of two processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    script = Path(__file__).with_name("two_processes.py")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["--local-addr", "127.0.0.1", script, folder]  # no name to be looked up
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_two_processes_do_what_one_does_with_twice_the_microbatches(folder, tmp_path):
    task = Apart()
    fit(task, Noise(), ONE, tmp_path)
    for rank in (0, 1):
        theirs = torch.load(folder / f"straight-{rank}.pt")
        for name, ours in task.named_parameters():
            torch.testing.assert_close(theirs[name], ours, rtol=1e-5, atol=1e-6)
    logs = [
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (tmp_path, folder / "straight")
    ]
    assert [line["step"] for line in logs[0]] == [4, 8, 12]
    for one, two in zip(*logs, strict=True):
        for name in ("step", "lr", "loss", "plain", "gradient_norm"):
            assert one[name] == pytest.approx(two[name], rel=1e-4)


def test_both_go_on_bit_for_bit_each_with_its_own_buffers_and_randomness(folder):
    drawn = [torch.load(folder / f"straight-{rank}.pt")["drawn"] for rank in (0, 1)]
    assert drawn[0] != drawn[1]
    for rank in (0, 1):
        resumed = torch.load(folder / f"resumed-{rank}.pt")
        straight = torch.load(folder / f"straight-{rank}.pt")
        assert all(torch.equal(resumed[name], straight[name]) for name in straight)
        assert straight["last"] == 4 * 11 + 2 * rank + 1


def test_one_process_goes_on_where_two_stopped(folder, tmp_path):
    moved, straight = Apart(), Apart()
    assert latest(folder / "moved").name == "step-00000007"
    fit(moved, Noise(), ONE, folder / "moved")
    fit(straight, Noise(), ONE, tmp_path)
    for ours, theirs in zip(moved.parameters(), straight.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_gradients_are_added_up_and_stay_away_where_there_are_none(folder):
    for rank in (0, 1):
        first, second, both, none = torch.load(folder / f"gradients-{rank}.pt")
        assert torch.equal(first, torch.full((2, 3), 1.0))
        assert torch.equal(second, torch.full((2, 3), 2.0))
        assert torch.equal(both, torch.full((2, 3), 20.0))
        assert none is None


def test_the_first_process_validates_for_both(folder):
    assert (folder / "calls-0").read_text() == "validate validate"
    assert (folder / "calls-1").read_text() == ""
    names = sorted(path.name for path in (folder / "hooks/checkpoints").iterdir())
    assert names == ["best", "step-00000002", "step-00000004"]


def test_the_first_process_alone_says_that_the_run_has_started(folder):
    assert (folder / "started-0").read_text() == "started"
    assert (folder / "started-1").read_text() == ""
    assert [(folder / f"first-{rank}").read_text() for rank in (0, 1)] == ["True", "False"]


def test_nan_in_one_stops_both_and_leaves_the_whole_batch(folder):
    assert "at step 2" in (folder / "error-0").read_text()
    assert "at step 2" in (folder / "error-1").read_text()
    batch = torch.load(folder / "nan/nan_batch.pt", weights_only=True)["batch"]
    assert batch["seed"].tolist() == [8, 9, 10, 11]
    assert torch.equal(batch["image"][2], Noise()[10]["image"])


def test_an_interrupt_of_one_stops_both_after_the_same_step(folder):
    assert (folder / "stopped-0").exists()
    assert (folder / "stopped-1").exists()
    assert latest(folder / "stopped").name == "step-00000004"


def test_without_torchrun_there_is_one_process(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    world = join("cpu")
    assert (world.rank, world.size, world.device) == (0, 1, torch.device("cpu"))
    assert world.gather("own") == ["own"]
    assert is_first()
    assert join(None, torch.device("meta")).device == torch.device("meta")
    assert join("cpu", torch.device("meta")).device == torch.device("cpu")

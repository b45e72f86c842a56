"""Runs in other processes, which are killed or interrupted from outside."""

import io
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import replace

import pytest
import torch
from tiny import CONFIG, Noise, Task

from umfuse.train import checkpoints, fit
from umfuse.train.checkpoints import latest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals"),
]
FREQUENT = replace(CONFIG, steps=300, log_every=5, save_every=3, keep=2)


@pytest.fixture(scope="module")
def processes():
    """Starts processes from one that has imported what takes long."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["umfuse.train", "torch._dynamo"])
    return context


def measured(run):
    """A run that writes everything that a checkpoint can hold."""

    def validate(average):
        return {"gap": abs(float(average.network[2].weight.sum()) - 0.3)}

    def export(average, folder):
        (folder / "model").write_bytes(average.network[2].weight.numpy().tobytes())

    fit(
        Task(),
        Noise(),
        FREQUENT,
        run,
        validate=validate,
        validate_every=2,
        best="gap",
        export=export,
    )


def measured_slowly(run):
    """The same on a disk so slow that every checkpoint lies there half-written for a while."""
    save = torch.save

    def halting(state, file):
        whole = io.BytesIO()
        save(state, whole)
        half = len(whole.getvalue()) // 2
        file.write(whole.getvalue()[:half])
        file.flush()
        time.sleep(0.03)
        file.write(whole.getvalue()[half:])

    torch.save = halting
    measured(run)


def trained_in_a_group(run):
    """A run with workers, in a process group of its own as the shell gives one to a command."""
    os.setpgid(0, 0)
    multiprocessing.set_start_method("fork", force=True)  # of the workers; quicker to start
    config = replace(CONFIG, steps=10**6, log_every=1, save_every=10**6, workers=2)
    try:
        fit(Task(), Noise(), config, run)
    except KeyboardInterrupt:
        sys.exit(130)


def wait_for(condition, process):
    while process.is_alive() and not condition():
        time.sleep(0.001)


def logged(run, name):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line[name]) for line in lines if name in line]


def test_sigkill_at_any_moment_costs_nothing_but_time(tmp_path, processes):
    run, straight, chance = tmp_path / "killed", tmp_path / "straight", random.Random(0)
    halves = 0
    for attempt in range(12):
        before = latest(run)
        process = processes.Process(target=measured_slowly, args=(run,))
        process.start()
        wait_for(lambda before=before: latest(run) != before, process)
        if attempt % 2:
            wait_for(lambda: any(run.glob("checkpoints/unfinished-step-*/state.pt")), process)
        time.sleep(chance.uniform(0, 0.04))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        halves += any(run.glob("checkpoints/unfinished-step-*/state.pt"))
        assert (latest(run) / "model").stat().st_size == 16
        assert checkpoints.read(latest(run))["step"] < FREQUENT.steps
    assert halves
    measured(run)
    measured(straight)
    for name in ("best", f"step-{FREQUENT.steps:08d}"):
        ours, theirs = (folder / "checkpoints" / name for folder in (run, straight))
        assert (ours / "model").read_bytes() == (theirs / "model").read_bytes()
        ours, theirs = checkpoints.read(ours), checkpoints.read(theirs)
        assert ours["best"] == theirs["best"]
        for part in ("task", "average", "processes"):
            torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
        both = (one["optimiser"]["state"] for one in (ours, theirs))
        torch.testing.assert_close(*both, rtol=0, atol=0)
    assert logged(run, "gap") == logged(straight, "gap")
    assert logged(run, "lr") == logged(straight, "lr")


@pytest.mark.parametrize(
    ("number", "exitcode"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)]
)
def test_a_signal_to_the_whole_group_leaves_a_checkpoint(tmp_path, processes, number, exitcode):
    process = processes.Process(target=trained_in_a_group, args=(tmp_path,))
    process.start()
    log = tmp_path / "log.jsonl"
    wait_for(lambda: log.exists() and log.stat().st_size > 1000, process)
    os.killpg(process.pid, number)
    process.join(60)
    assert process.exitcode == exitcode
    assert checkpoints.read(latest(tmp_path))["step"] == logged(tmp_path, "loss")[-1][0]

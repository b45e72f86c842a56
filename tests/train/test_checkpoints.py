import os
import shutil

import pytest
import torch
from tiny import CONFIG, Noise, Task, equal

from umfuse.train import checkpoints, fit
from umfuse.train.checkpoints import latest


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def state(step):
    return {"step": step, "weights": torch.full((3,), float(step))}


def test_a_written_state_is_read(tmp_path):
    assert latest(tmp_path) is None
    checkpoints.write(tmp_path, state(9), keep=2)
    checkpoints.write(tmp_path, state(10), keep=2)
    assert latest(tmp_path).name == "step-00000010"
    read = checkpoints.read(latest(tmp_path))
    assert read["step"] == 10
    assert torch.equal(read["weights"], torch.full((3,), 10.0))


def test_a_crash_while_saving_costs_one_checkpoint_at_most(tmp_path, monkeypatch):
    save, calls = torch.save, []

    def crash(state, file):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half of it")
            raise OSError("No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="No space"):
        fit(Task(), Noise(), CONFIG, tmp_path / "run")
    assert names(tmp_path / "run") == ["step-00000005"]
    resumed = fit(Task(), Noise(), CONFIG, tmp_path / "run")
    assert equal(resumed, fit(Task(), Noise(), CONFIG, tmp_path / "straight"))
    assert names(tmp_path / "run") == ["step-00000010", "step-00000012"]


def test_a_checkpoint_has_no_name_before_its_export_is_complete(tmp_path):
    def export(folder):
        (folder / "half").touch()
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoints.write(tmp_path, state(1), keep=1, best=True, export=export)
    assert latest(tmp_path) is None
    assert names(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_the_best_is_a_whole_checkpoint_that_outlives_the_others(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for step in (1, 2, 3):
        checkpoints.write(
            tmp_path,
            state(step),
            keep=1,
            best=step < 3,
            export=lambda folder: (folder / "model").write_text(folder.name),
        )
    assert names(tmp_path) == ["best", "step-00000003"]
    best = tmp_path / "checkpoints/best"
    assert checkpoints.read(best)["step"] == 2
    assert (best / "model").read_text().endswith("step-00000002")


def refuse(*_):
    raise OSError("this file system has no hard links")


@pytest.mark.parametrize("moment", range(8))
def test_a_crash_at_any_moment_leaves_whole_checkpoints(tmp_path, monkeypatch, moment):
    """Every link, renaming and removal in turn is not done, or half-done, and nothing after it."""
    checkpoints.write(tmp_path, state(1), keep=1, best=True)
    acts, remove = [], shutil.rmtree

    def until(act):
        def last(*args, **options):
            acts.append(act)
            if len(acts) > moment:
                if act is remove:
                    (args[0] / "state.pt").unlink()
                raise KeyboardInterrupt
            return act(*args, **options)

        return last

    with monkeypatch.context() as patch:
        for owner, name in ((shutil, "rmtree"), (type(tmp_path), "rename"), (os, "link")):
            patch.setattr(owner, name, until(getattr(owner, name)))
        try:
            checkpoints.write(tmp_path, state(2), keep=1, best=True)
            complete = True
        except KeyboardInterrupt:
            complete = False
    assert complete == (moment >= 7)
    step = checkpoints.read(latest(tmp_path))["step"]
    assert step in (1, 2)
    best = tmp_path / "checkpoints/best"
    if best.exists():
        assert checkpoints.read(best)["step"] >= step
    if step == 1:
        checkpoints.write(tmp_path, state(2), keep=1, best=True)
        assert names(tmp_path) == ["best", "step-00000002"]
        assert checkpoints.read(best)["step"] == 2

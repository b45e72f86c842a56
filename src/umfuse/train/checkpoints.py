"""Checkpoints: folders that are whole or not there at all.

``RUN/checkpoints`` holds ``step-N`` for the newest steps and ``best``, a copy of the best one. In
each lies ``state.pt``, from which the run goes on, beside what the caller exports. A folder gets
its name when everything in it is on the disk; what a crash leaves has another name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

State = dict[str, Any]

_UNFINISHED = "unfinished-"


def latest(run: str | os.PathLike[str]) -> Path | None:
    """Returns the newest checkpoint folder of a run, or None if there is none."""
    found = sorted(Path(run).glob("checkpoints/step-*"))
    return found[-1] if found else None


def read(checkpoint: Path) -> State:
    """Returns the state that a checkpoint folder holds, on the CPU."""
    return torch.load(checkpoint / "state.pt", weights_only=True, map_location="cpu")


def write(
    run: Path,
    state: State,
    *,
    keep: int,
    best: bool = False,
    export: Callable[[Path], object] | None = None,
) -> None:
    """Writes a checkpoint, then drops the oldest.

    Args:
        run: The run folder.
        state: What `read` will return; ``"step"`` is its number, and that of no other.
        keep: How many of the newest checkpoints stay.
        best: Whether ``best`` becomes a copy of this one.
        export: Writes further files into the folder that it is given.

    Raises:
        OSError: If it cannot be written; the checkpoints before it are as they were.
    """
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    for left in folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left)
    name = f"step-{state['step']:08d}"
    unfinished = folder / f"{_UNFINISHED}{name}"
    unfinished.mkdir()
    try:
        _save(state, unfinished / "state.pt")
        if export is not None:
            export(unfinished)
        _sync(unfinished)
    except OSError as error:
        shutil.rmtree(unfinished)  # others may need the room that it takes
        raise OSError(
            error.errno,
            f"cannot write the checkpoint {folder / name}: {error.strerror or error}; the run can "
            "go on from the one before, check space and permissions",
        ) from error
    # The best comes first: a crash in between repeats this step and finds the same best again.
    if best:
        copy = folder / f"{_UNFINISHED}best"
        shutil.copytree(unfinished, copy, copy_function=_link)
        _drop(folder / "best")
        copy.rename(folder / "best")
    unfinished.rename(folder / name)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        _drop(old)


def _save(state: State, path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        # What torch has to say of a full disk, in the place of what the file said.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _drop(checkpoint: Path) -> None:
    """Removes a checkpoint: its name goes first, since its files go one by one."""
    if checkpoint.exists():
        shutil.rmtree(
            checkpoint.rename(checkpoint.with_name(f"{_UNFINISHED}{checkpoint.name}-old"))
        )


def _link(source: str, copy: str) -> None:
    """Copies a file that nobody will change, without a second place on the disk if possible."""
    try:
        os.link(source, copy)
    except OSError:  # a file system without hard links
        shutil.copy2(source, copy)


def _sync(folder: Path) -> None:
    """Returns when the files of a folder, and their names, are on the disk."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

"""Runs that are killed lose nothing: `python -m benchmarks.kills`.

`umfuse fuse` of two folders, with every kind of result, and `umfuse train` on rendered pairs are
killed by SIGKILL: every other time at a random moment, else while a file is being written.
What is visible then, which is all but names that begin with a dot or "unfinished-", is opened to
its end. The same command (of folders with `--resume`) takes the run up until it is complete, and
another run begins. In the end there must be what a run leaves that nobody stopped: of folders the
same files byte for byte, of training the same weights, optimiser, figures and samples bit for bit.

The disk takes its time, so that kills find files that are not complete. Needs POSIX.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import scenes
from PIL import Image

import umfuse
from umfuse import cli
from umfuse.train import checkpoints, recipes

PAIRS = 4
SIZE, INFRARED_SIZE = (96, 128), (80, 100)
STEPS = 6  # of a training, with a checkpoint after every other
FSYNC_S = 0.02  # that the disk takes for a file
AFTER_S = 0.02  # at most, from the beginning of a file to the kill
TIMES = ("s_per_step", "wait_s")  # figures that are no results


@dataclass
class Row:
    """What came of the kills of one command."""

    command: str
    kills: int = 0
    begun: int = 0  # kills that left a file that was not complete
    runs: int = 0  # that came to their end
    half: list[str] = field(default_factory=list[str])
    different: list[str] = field(default_factory=list[str])


def main() -> int:
    """Prints the table; the exit code says whether nothing was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=50, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        render(root)
        rows = [
            row
            for command, compare in ((fuse, differing_files), (train, differing_trainings))
            for row in [kill(root, command, compare, options.kills, options.seed)]
        ]
    print("| command | kills | while a file was written | runs to the end | half-written | lost |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        numbers = (row.kills, row.begun, row.runs, len(row.half), len(row.different))
        print(f"| {row.command} | {' | '.join(map(str, numbers))} |")
    lost = [line for row in rows for line in (*row.half, *row.different)]
    print("\n".join(lost), file=sys.stderr)
    return int(bool(lost))


def render(root: Path) -> None:
    """Writes pairs: ``raw`` and ``vis`` as two cameras see them, ``ir`` registered."""
    for seed in range(PAIRS):
        scene = scenes.render(seed, SIZE, infrared_size=INFRARED_SIZE)
        low, high = int(scene.infrared.min()), int(scene.infrared.max())
        for kind, counts in (("raw", scene.infrared), ("ir", scene.aligned_infrared)):
            (root / kind).mkdir(exist_ok=True)
            grey = ((counts.astype(float) - low) / (high - low) * 255).clip(0, 255).round()
            Image.fromarray(grey.astype(np.uint8)).save(root / kind / f"{seed}.png")
        (root / "vis").mkdir(exist_ok=True)
        Image.fromarray(scene.visible).save(root / "vis" / f"{seed}.png")


def fuse(root: Path, run: Path) -> list[str]:
    """Returns the words of a run of folders."""
    words: list[object] = ["fuse", root / "raw", root / "vis", "-o", run, "--resume"]
    words += ["--sheet", run / "sheets", "--flicker", run / "flickers", "--device", "cpu"]
    words += ["--save-registration", run / "registrations", "--html", run / "page.html"]
    return [str(word) for word in words]


def train(root: Path, run: Path) -> list[str]:
    """Returns the words of a training."""
    words: list[object] = ["train", "--what", "fusion", "--ir", root / "ir", "--vis", root / "vis"]
    words += ["--from", "embedded", "--out", run, "--steps", STEPS, "--batch", 1]
    words += ["--held-out", 0.25, "--yes-registered", "--device", "cpu"]
    return [str(word) for word in words]


def kill(
    root: Path,
    command: Callable[[Path, Path], list[str]],
    compare: Callable[[Path, Path], list[str]],
    kills: int,
    seed: int,
) -> Row:
    """Kills runs of a command, and takes them up, until it was killed often enough.

    Args:
        root: Where `render` has written pairs; the runs are written beside them.
        command: The words of a run that writes to a folder.
        compare: What differs between a straight run and one that was killed.
        kills: How often.
        seed: Of the moments.
    """
    # From a process that has imported what takes long.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["umfuse.api", "umfuse.train", "torch._dynamo"])
    straight, run = root / f"{command.__name__}-straight", root / f"{command.__name__}-killed"
    chance, row = random.Random(seed), Row(f"umfuse {command.__name__}")

    def start(folder: Path) -> Any:
        process = context.Process(target=_run, args=(command(root, folder), root / "said.txt"))
        process.start()
        return process

    def finish(process: Any) -> None:
        process.join()
        if process.exitcode != 0:
            raise RuntimeError((root / "said.txt").read_text("utf-8", "replace"))

    start(straight).join()  # the first one also waits for the imports
    shutil.rmtree(straight)
    begun = time.monotonic()
    finish(start(straight))
    whole = time.monotonic() - begun
    while row.kills < kills:
        seen = unfinished(run)
        process = start(run)
        if row.kills % 2:
            time.sleep(chance.uniform(0, whole))
            stop_within_a_file(process, run, seen, chance.uniform(0, AFTER_S))
        else:
            process.join(chance.uniform(0, whole))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            row.kills += 1
            row.begun += bool(unfinished(run) - seen)
            row.half += broken(run)
        else:
            finish(process)
            row.runs += 1
            row.different += compare(straight, run)
            shutil.rmtree(run)
    finish(start(run))
    row.runs += 1
    row.different += compare(straight, run)
    return row


def stop_within_a_file(process: Any, run: Path, seen: set[tuple[str, int]], after: float) -> None:
    """Stops a process a while after a file is begun, at the first that is not complete then."""
    while process.is_alive():
        if unfinished(run) - seen:
            time.sleep(after)
            with contextlib.suppress(ProcessLookupError):  # it has come to its end
                os.kill(process.pid, signal.SIGSTOP)
                if unfinished(run) - seen:
                    return
                os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.001)


def _run(words: Sequence[str], said: Path) -> None:
    """Runs a command in a process of its own, on a disk that takes its time."""
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    torch.set_num_threads(1)
    fsync = os.fsync

    def slow(file: int) -> None:
        time.sleep(FSYNC_S)
        fsync(file)

    os.fsync = slow
    recipe = recipes.RECIPES["default"]["fusion"]
    quick = replace(
        recipe,
        crops=replace(recipe.crops, size=(80, 80)),
        training=replace(recipe.training, save_every=2, log_every=1),
    )
    recipes.RECIPES = {**recipes.RECIPES, "default": {"fusion": quick}}
    sys.exit(cli.main(words))


# ---- what is on the disk -------------------------------------------------------------------------


def unfinished(run: Path) -> set[tuple[str, int]]:
    """Returns the files in a run folder whose names say that they are not complete, with times."""
    found = set[tuple[str, int]]()
    for name in _files(run):
        if _is_hidden(Path(name)):
            with contextlib.suppress(FileNotFoundError):  # it is complete by now
                found.add((name, (run / name).stat().st_mtime_ns))
    return found


def visible(run: Path) -> list[str]:
    """Returns the other files."""
    return [name for name in _files(run) if not _is_hidden(Path(name))]


def _files(run: Path) -> list[str]:
    found: list[str] = []
    for folder, _, names in os.walk(run):  # which does not mind what goes away meanwhile
        found += [(Path(folder) / name).relative_to(run).as_posix() for name in names]
    return sorted(found)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "unfinished-")) for part in path.parts)


def broken(run: Path) -> list[str]:
    """Returns a line for each visible file of a run that is not whole, and why."""
    lines: list[str] = []
    for name in visible(run):
        try:
            _open(run / name)
        except Exception as error:  # noqa: BLE001  (whatever a reader has to say of half a file)
            lines.append(f"half-written: {name}: {type(error).__name__}: {error}")
    for checkpoint in (run / "checkpoints").glob("*"):
        if not _is_hidden(Path(checkpoint.name)):
            try:
                umfuse.load(checkpoint, device="cpu")
            except Exception as error:  # noqa: BLE001
                lines.append(f"half-written: {checkpoint.name}: {type(error).__name__}: {error}")
    return lines


def _open(path: Path) -> None:
    """Reads a file to its end, or raises an error."""
    content = path.read_bytes()
    if path.suffix in (".png", ".jpg", ".gif"):
        with Image.open(path) as image:
            for frame in range(getattr(image, "n_frames", 1)):
                image.seek(frame)
                image.load()
    elif path.suffix == ".npz":
        if zipfile.ZipFile(path).testzip() is not None:
            raise ValueError("a damaged archive")
    elif path.suffix == ".csv":
        lines = content.decode().splitlines(keepends=True)
        if {len(row) for row in csv.reader(lines)} != {7} or not lines[-1].endswith("\n"):
            raise ValueError("a table that is cut short")
    elif path.suffix == ".html":
        if not content.rstrip().endswith(b"</html>"):
            raise ValueError("a page that is cut short")
    elif path.suffix == ".json":
        json.loads(content)
    elif path.suffix == ".jsonl":  # it grows by lines, and what is cut short is dropped
        for line in content.splitlines(keepends=True):
            if line.endswith(b"\n"):
                json.loads(line)
    elif path.name == "state.pt":
        checkpoints.read(path.parent)
    elif path.suffix not in (".safetensors", ".md"):  # with their checkpoint
        raise ValueError("a file of a kind that is not known here")


def differing_files(straight: Path, run: Path) -> list[str]:
    """Returns a line for each visible file that two folders do not both have, byte for byte."""
    names = [visible(straight), visible(run)]
    lines = [f"lost or left over: {name}" for name in sorted(set(names[0]) ^ set(names[1]))]
    for name in sorted(set(names[0]) & set(names[1])):
        if (straight / name).read_bytes() != (run / name).read_bytes():
            lines.append(f"different: {name}")
    return lines


def differing_trainings(straight: Path, run: Path) -> list[str]:
    """Returns a line for whatever two trainings do not both have, bit for bit."""
    names = [visible(straight), visible(run)]
    lines = [f"lost or left over: {name}" for name in sorted(set(names[0]) ^ set(names[1]))]
    for name in sorted(set(names[0]) & set(names[1])):
        ours, theirs = straight / name, run / name
        if name.startswith("samples/"):
            same = ours.read_bytes() == theirs.read_bytes()
        elif name == "log.jsonl":
            same = _figures(ours) == _figures(theirs)
        elif name.endswith("state.pt"):
            same = _equal(checkpoints.read(ours.parent), checkpoints.read(theirs.parent))
        elif name.endswith("model.safetensors"):
            models = [umfuse.load(path.parent, device="cpu") for path in (ours, theirs)]
            same = _equal(*(model.state_dict() for model in models))
        else:
            continue  # notes, cards and the curves, which show times
        if not same:
            lines.append(f"different: {name}")
    return lines


def _figures(log: Path) -> list[dict[str, float]]:
    """Returns the lines of a log, without times."""
    lines = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    return [{key: line[key] for key in line if key not in TIMES} for line in lines]


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_equal(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    if isinstance(ours, float) and math.isnan(ours):
        return isinstance(theirs, float) and math.isnan(theirs)
    return bool(ours == theirs)


if __name__ == "__main__":
    sys.exit(main())

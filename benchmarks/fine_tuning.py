"""Fine-tuning on a modality not seen before: `python -m benchmarks.fine_tuning`.

The near-infrared pairs of EPFL (``train/nirscene``) at half size, about 512x340: 30 to train on,
the other 19 to measure on, deformed by the protocols. What is run are the two commands that anyone
would run, `umfuse train --what registration --from embedded` and `umfuse evaluate --task
registration`; the table has the mean end-point error in pixels before and after.

Some of these pairs are not aligned as published, by up to 11 pixels at this size: their truth is
off as much. "aligned" are those that the search, which learns nothing, leaves where they are to 2
pixels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from benchmarks import data
from PIL import Image

from umfuse import cli, geometry, search
from umfuse.evaluate import Report, evaluate

TRAINED_ON = 30
PROTOCOLS = ("paper", "large")
ERROR = "EPE (px)"


def split(out: Path) -> tuple[Path, Path]:
    """Writes the pairs, at half size, to a folder to train on and one to measure on."""
    source = data.root() / "train" / "nirscene"
    stems = sorted(path.stem for path in (source / "ir").iterdir())
    places = [(k * len(stems)) // TRAINED_ON for k in range(TRAINED_ON)]  # evenly spread
    chosen = {stems[place] for place in places}
    for kind in ("ir", "vis"):
        for path in (source / kind).iterdir():
            folder = out / ("train" if path.stem in chosen else "test") / kind
            folder.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as image:
                image.reduce(2).save(folder / f"{path.stem}.png")
    return out / "train", out / "test"


def run(*words: object) -> None:
    """Runs a command of umfuse."""
    if cli.main([str(word) for word in words]):
        sys.exit(f"umfuse {words[0]} failed")


def aligned(folder: Path) -> set[str]:
    """Returns the stems of the pairs that the search moves by at most 2 pixels."""
    found: set[str] = set()
    for pair in data.pairs(folder):
        size = pair.visible.size
        transform = search.find_transform(pair.infrared.luma, pair.visible.luma).transform
        moved = geometry.project_grid(transform, size) - geometry.identity_grid(*size)
        if float(moved.square().sum(1).sqrt().mean()) <= 2:
            found.add(pair.name)
    return found


def rows(out: Path, steps: int | None) -> Iterator[tuple[object, ...]]:
    """Yields a line for each protocol."""
    train, test = split(out)
    for protocol in PROTOCOLS:
        run("deform", test, out / protocol, "--protocol", protocol)
    before = {name: measure("embedded", out / name) for name in PROTOCOLS}
    start = time.monotonic()
    pairs = ("--ir", train / "ir", "--vis", train / "vis")
    words = ("train", "--what", "registration", "--from", "embedded", *pairs, "--out", out / "run")
    run(*words, *(() if steps is None else ("--steps", steps)))
    minutes = (time.monotonic() - start) / 60
    right = aligned(test.absolute())
    for name in PROTOCOLS:
        after = measure(str(out / "run"), out / name)
        for label, stems in ((name, set(after.images)), (f"{name}, aligned", right)):
            came, first, last = (
                torch.tensor(
                    [image[which][ERROR] for s, image in report.images.items() if s in stems]
                )
                for report, which in ((after, "input"), (before[name], "result"), (after, "result"))
            )
            yield (
                label,
                len(last),
                float(came.mean()),
                float(first.mean()),
                float(last.mean()),
                f"{float(last.mean() / first.mean() - 1):+.0%}",
                f"{int((last < first).sum())} of {len(last)}",
                f"{minutes:.1f}",
            )


def measure(source: str, folder: Path) -> Report:
    """Returns the scores of weights on a deformed set."""
    return evaluate(source, folder, task="registration")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, help="other than the recipe's, for a quick try")
    parser.add_argument("--out", type=Path, default=data.CACHE.parent / "fine_tuning")
    data.page_option(parser)
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} is there already: remove it, or choose another --out")
    head = ("protocol", "pairs", "input, px", "before, px", "after, px", "change", "better")
    table = rows(arguments.out, arguments.steps)
    data.report(arguments, "fine-tuning", (*head, "minutes of training"), table)


if __name__ == "__main__":
    main()

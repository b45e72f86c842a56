"""Fine-tuning on other cameras than those of the weights: `python -m benchmarks.fine_tuning`.

What is run are the two commands that anyone would run, `umfuse train --what registration --from
embedded` and `umfuse evaluate --task registration`, on 30 pairs to train on and others to measure
on, deformed by the protocols; the table has the mean end-point error in pixels before and after.

- ``near-infrared``: pairs of EPFL (``train/nirscene``) at half size, about 512x340; 15 to measure
  on. Four pairs are left out: as published their images are 2 to 12 pixels apart at this size, and
  their truth is off as much.
- ``aerial``: rendered land straight from above (`benchmarks.scenes.aerial`), 20 to measure on, a
  quarter of all pairs at night. The infrared image has half the resolution of the visible one, and
  is enlarged to its size.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from benchmarks import data, scenes
from PIL import Image

from umfuse import cli, images
from umfuse.evaluate import Report, evaluate

TRAINED_ON, MEASURED_ON = 30, 20
MISALIGNED = {"0015", "0018", "0028", "0042"}  # by more than 2 pixels, as the search finds them
PROTOCOLS = ("paper", "large")
ERROR = "EPE (px)"


def near_infrared(out: Path) -> None:
    """Writes the pairs of EPFL, at half size, to a folder to train on and one to measure on."""
    source = data.root() / "train" / "nirscene"
    stems = sorted(path.stem for path in (source / "ir").iterdir())
    places = [(k * len(stems)) // TRAINED_ON for k in range(TRAINED_ON)]  # evenly spread
    chosen = {stems[place] for place in places}
    for kind in ("ir", "vis"):
        for path in (source / kind).iterdir():
            if path.stem in MISALIGNED:
                continue
            folder = out / ("train" if path.stem in chosen else "test") / kind
            folder.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as image:
                image.reduce(2).save(folder / f"{path.stem}.png")


def aerial(out: Path) -> None:
    """Writes rendered pairs to a folder to train on and one to measure on."""
    size = (384, 512)
    for part, first, count in (("train", 0, TRAINED_ON), ("test", 1000, MEASURED_ON)):
        for kind in ("ir", "vis"):
            (out / part / kind).mkdir(parents=True)
        for seed in range(first, first + count):
            half = (size[0] // 2, size[1] // 2)
            night = seed % 4 == 3
            scene = scenes.render(
                seed, size, infrared_size=half, strength=0.0, night=night, view="aerial"
            )
            counts = Image.fromarray(scene.infrared.astype(np.float32))
            counts = np.rint(counts.resize(size[::-1], Image.Resampling.BICUBIC))
            name = f"{seed:04}-{'night' if night else 'day'}.png"
            images.save(counts.astype(np.uint16), out / part / "ir" / name)
            images.save(scene.visible, out / part / "vis" / name)


DOMAINS: Mapping[str, Callable[[Path], None]] = {"near-infrared": near_infrared, "aerial": aerial}


def run(*words: object) -> None:
    """Runs a command of umfuse."""
    if cli.main([str(word) for word in words]):
        sys.exit(f"umfuse {words[0]} failed")


def rows(domain: str, out: Path, steps: int | None) -> Iterator[tuple[object, ...]]:
    """Yields a line for each protocol."""
    DOMAINS[domain](out)
    train, test = out / "train", out / "test"
    for protocol in PROTOCOLS:
        run("deform", test, out / protocol, "--protocol", protocol)
    before = {name: measure("embedded", out / name) for name in PROTOCOLS}
    start = time.monotonic()
    pairs = ("--ir", train / "ir", "--vis", train / "vis")
    words = ("train", "--what", "registration", "--from", "embedded", *pairs, "--out", out / "run")
    run(*words, *(() if steps is None else ("--steps", steps)))
    minutes = (time.monotonic() - start) / 60
    for name in PROTOCOLS:
        after = measure(str(out / "run"), out / name)
        came, first, last = (
            torch.tensor([image[which][ERROR] for image in report.images.values()])
            for report, which in ((after, "input"), (before[name], "result"), (after, "result"))
        )
        yield (
            f"{domain}, {name}",
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
    parser.add_argument("--domain", choices=DOMAINS, default="near-infrared")
    parser.add_argument("--steps", type=int, help="other than the recipe's, for a quick try")
    parser.add_argument("--out", type=Path, default=data.CACHE.parent / "fine_tuning")
    data.page_option(parser)
    arguments = parser.parse_args()
    out = arguments.out / arguments.domain
    if out.exists():
        sys.exit(f"{out} is there already: remove it, or choose another --out")
    head = (
        *("pairs of, protocol", "pairs", "input, px", "before, px", "after, px", "change"),
        *("better", "minutes of training"),
    )
    table = rows(arguments.domain, out, arguments.steps)
    data.report(arguments, "fine-tuning", head, table, some=True)


if __name__ == "__main__":
    main()

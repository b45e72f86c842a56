"""Registration by every method, on pairs whose truth is known: `python -m benchmarks.registration`.

The paper's Table 1 and ours. Methods are those of `benchmarks.methods`; the networks of the paper's
comparison are in the tables once `benchmarks.train` trained them. The cases:

- ``paper``: aligned test pairs at 256x256, infrared deformed by the protocol of that name.
- ``large``: the same pairs at full size, by the protocol of that name.
- ``published``: the warped pairs of SuperFusion.
- ``aligned``: pairs as published; what a method moves them is the data's own error or its harm.
- ``raw``: RoadScene as the two cameras saw it, resolution and field of view differ.
- ``constructed``: visible test pictures, and as infrared image their own luma through a curve that
  neither rises nor falls throughout. They are aligned without a doubt.

Where the aligned infrared image is known, MSE, NCC and MI (256 bins, nats) compare it with the
registered one, on the whole frame and on the interior without 8 pixels of each side; end-point
errors are pixels where the truth is valid. The raw pairs have the mean error on a 9x9 grid, in
infrared pixels. "worse": pairs that end further off than they came by more than 0.5 px. Other
people's registered images join with ``--results NAME=FOLDER``, where FOLDER holds a folder of
images a case, called as in the table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from benchmarks import data, matchers, methods
from torch import Tensor

import umfuse
from umfuse import geometry, images, metrics
from umfuse.evaluate.dataset import read_displacement, read_homographies
from umfuse.pipeline import Umfuse

BORDER = 8
# Table 1 of the paper: MSE, NCC, MI. Its pairs, displacements and trainings are not ours.
PAPER = {
    "paper-tno-256": {
        "misaligned input": (0.007, 0.876, 1.558),
        "FlowNet+STN": (0.029, 0.636, 1.095),
        "FlowNet+STN + CPSTN": (0.007, 0.893, 1.465),
        "VoxelMorph": (0.007, 0.880, 1.545),
        "VoxelMorph + CPSTN": (0.005, 0.919, 1.573),
        "paper's system": (0.004, 0.926, 1.648),
    },
    "paper-roadscene-256": {
        "misaligned input": (0.01, 0.894, 1.602),
        "FlowNet+STN": (0.009, 0.910, 1.549),
        "FlowNet+STN + CPSTN": (0.005, 0.949, 1.744),
        "VoxelMorph": (0.008, 0.914, 1.589),
        "VoxelMorph + CPSTN": (0.006, 0.941, 1.689),
        "paper's system": (0.004, 0.963, 1.833),
    },
}


@dataclass(frozen=True)
class Sample:
    """One pair of a case, with what is known of it."""

    name: str
    infrared: Tensor
    visible: Tensor
    reference: Tensor | None
    error: Callable[[Tensor], float]
    """From coordinates to pixels."""
    truth: Tensor | None = None
    """``(1, 2, H, W)`` coordinates, where they are known of every pixel."""


@dataclass
class Scores:
    """What one method did on one case."""

    errors: list[float] = field(default_factory=list)
    images: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def by_field(folder: Path, infrared: str) -> Iterator[Sample]:
    """Yields the pairs of a set with a known displacement, or of one that is aligned."""
    for pair in data.pairs(folder, infrared):
        size = pair.visible.size
        if infrared == "ir":
            reference, truth = pair.infrared.luma, torch.zeros(1, 2, *size)
            valid = torch.ones(1, 1, *size, dtype=torch.bool)
        else:
            aligned = next((data.root() / folder / "ir").glob(f"{pair.name}.*"))
            reference = images.read(aligned).luma
            path = data.root() / folder / "displacement" / f"{pair.name}.npz"
            truth, valid = read_displacement(path)

        yield _sample(pair, pair.infrared.luma, reference, truth, valid)


def constructed(folder: Path) -> Iterator[Sample]:
    """Yields pairs of one picture each, whose infrared image is made of the visible one."""
    for pair in data.pairs(folder):
        grey = pair.visible.luma
        infrared = 0.5 + 0.5 * torch.cos(1.5 * torch.pi * grey)  # white falls to black, then rises
        truth = torch.zeros(1, 2, *pair.visible.size)
        yield _sample(pair, infrared, infrared, truth, torch.ones_like(grey, dtype=torch.bool))


def _sample(
    pair: data.Pair, infrared: Tensor, reference: Tensor, truth: Tensor, valid: Tensor
) -> Sample:
    def error(coordinates: Tensor) -> float:
        found = coordinates - geometry.to_coordinates(torch.zeros_like(truth))
        return float(metrics.end_point_error(found, truth, valid))

    right = geometry.to_coordinates(truth)
    return Sample(pair.name, infrared, pair.visible.rgb, reference, error, right)


def by_homography(folder: Path) -> Iterator[Sample]:
    """Yields the raw pairs of RoadScene."""
    truths = read_homographies(data.root() / folder / "homography.json")
    published = zip(data.pairs(folder), data.pairs(folder, "ir_raw", "vis_hr"), strict=True)
    for aligned, pair in published:
        size = aligned.visible.size

        def error(
            coordinates: Tensor, name: str = pair.name, size: tuple[int, int] = size
        ) -> float:
            on_visible = data.on_grid(coordinates, size)
            return float(metrics.grid_error(on_visible, truths[name], size))

        yield Sample(pair.name, pair.infrared.luma, pair.visible.rgb, None, error)


def deformed(where: str, protocol: str, side: int | None) -> Iterator[Sample]:
    """Yields the pairs of a set deformed by a protocol."""
    return by_field(data.deformed(where, protocol, side), "ir_warp")


def cases() -> dict[str, Callable[[], Iterator[Sample]]]:
    """Returns the cases by name; deformed sets are made when they are needed."""
    found: dict[str, Callable[[], Iterator[Sample]]] = {}
    for where in ("test/roadscene", "test/tno"):
        for protocol, side in (("paper", 256), ("large", None)):
            name = data.deformed_name(where, protocol, side)
            found[name] = partial(deformed, where, protocol, side)
    for name in ("superfusion_road", "superfusion_msrs"):
        found[f"published-{name}"] = partial(by_field, Path("test") / name, "ir_warp")
    for name in ("roadscene", "tno"):
        found[f"aligned-{name}"] = partial(by_field, Path("test") / name, "ir")
        found[f"constructed-{name}"] = partial(constructed, Path("test") / name)
    for split in ("test", "train"):
        found[f"raw-{split}"] = partial(by_homography, Path(split) / "roadscene")
    return found


def measure(
    samples: Iterator[Sample], aligners: dict[str, methods.Align], results: dict[str, Path]
) -> dict[str, Scores]:
    """Returns the scores of every method on one case."""
    found = {name: Scores() for name in (*aligners, *results)}
    for sample in samples:
        for name, align in aligners.items():
            start = time.perf_counter()
            coordinates = align(sample.infrared, sample.visible)
            found[name].seconds.append(time.perf_counter() - start)
            found[name].errors.append(sample.error(coordinates))
            if sample.reference is not None:
                registered = geometry.sample(sample.infrared, coordinates)[0]
                found[name].images.append(compare(registered, sample.reference))
        for name, folder in results.items():
            if sample.reference is not None and folder.is_dir():
                registered = images.read(next(folder.glob(f"{sample.name}.*"))).luma
                found[name].images.append(compare(registered, sample.reference))
    return {name: scores for name, scores in found.items() if scores.errors or scores.images}


def compare(registered: Tensor, reference: Tensor) -> list[float]:
    """Returns MSE, NCC and MI on the whole frame, then on the interior."""
    return [
        float(metric(registered, reference, border=border))
        for border in (0, BORDER)
        for metric in metrics.REGISTRATION.values()
    ]


def rows(case: str, found: dict[str, Scores]) -> Iterator[tuple[object, ...]]:
    """Yields a line for every method."""
    before = torch.tensor(found["misaligned input"].errors)
    for name, scores in found.items():
        line: list[object] = [name]
        if scores.images:
            line += torch.tensor(scores.images).mean(0).tolist()
        line += errors(torch.tensor(scores.errors), before) if scores.errors else [""] * 7
        line.append(float(torch.tensor(scores.seconds).median()) if scores.seconds else "")
        if case in PAPER:
            paper = PAPER[case].get(name)
            line.append("" if paper is None else " / ".join(f"{value:.3f}" for value in paper))
        yield tuple(line)


def errors(after: Tensor, before: Tensor) -> list[object]:
    """Returns median, mean, 95th percentile, median as part of the input's, and shares."""
    median, at_first = float(after.quantile(0.5)), float(before.quantile(0.5))
    shares = (after < 5, after < 10, after > before + 0.5)
    return [
        median,
        float(after.mean()),
        float(after.quantile(0.95)),
        median / at_first if at_first else "",
        *(f"{float(share.float().mean()):.0%}" for share in shares),
    ]


def head(case: str) -> tuple[str, ...]:
    """Returns the head of the table of a case."""
    columns = ["method"]
    if not case.startswith("raw"):
        columns += [*metrics.REGISTRATION, *(f"{name} inside" for name in metrics.REGISTRATION)]
    columns += ["error, px: median", "mean", "95 %", "of input", "< 5 px", "< 10 px", "worse", "s"]
    if case in PAPER:
        columns.append("paper: MSE / NCC / MI")
    return tuple(columns)


def named(text: str) -> tuple[str, Path]:
    """Reads NAME=FOLDER."""
    name, _, folder = text.partition("=")
    if not name or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER with a folder, got {text!r}")
    return name, Path(folder)


def chosen(model: Umfuse, only: str) -> dict[str, methods.Align]:
    """Returns the aligners that hold a text in their name, and the input that all compare with."""
    every = methods.aligners(model)
    return {n: align for n, align in every.items() if only in n or n == "misaligned input"}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="as in umfuse.load; by default the embedded ones")
    parser.add_argument("--limit", type=int, help="pairs a case, for a quick look")
    parser.add_argument("--only", default="", help="cases that hold this text, such as raw")
    parser.add_argument("--method", default="", help="methods that hold this text, such as umfuse")
    parser.add_argument("--results", type=named, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument(
        "--matcher",
        type=matchers.named,
        action="append",
        default=[],
        metavar="LIBRARY:NAME",
        help="another row, such as vismatch:xoftr; without --method only these",
    )
    data.page_option(parser)
    arguments = parser.parse_args()
    data.root()
    method = arguments.method or ("misaligned input" if arguments.matcher else "")
    aligners = chosen(umfuse.load(arguments.weights, device="cpu", cpstn=True), method)
    aligners |= {name: methods.by_transform(find) for name, find in arguments.matcher}
    for case, samples in cases().items():
        if arguments.only in case:
            results = {name: folder / case for name, folder in arguments.results}
            some = data.progress(case, samples(), arguments.limit)
            found = measure(some, aligners, results)
            pairs = len(found["misaligned input"].errors)
            print(f"{case}, {pairs} pairs")
            some = bool(method)
            data.report(arguments, case, head(case), rows(case, found), some=some)


if __name__ == "__main__":
    main()

"""The global search alone, and what its confidence is worth: `python -m benchmarks.search`.

- raw: the raw RoadScene pairs (``ir_raw`` with ``vis_hr``); mean error on a 9x9 grid over ``vis``,
  in infrared pixels, against the given homography, beside that of plain resizing.
- confidence: how well it separates hits (10 px or less) from misses, and right pairs from wrong
  ones (the infrared image of another scene), as the area under the ROC curve.
- time: beside SimpleITK's affine Mattes mutual information, in turn on the same pairs.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from benchmarks import data, methods
from torch import Tensor

from umfuse import geometry, images, metrics
from umfuse.evaluate.dataset import read_homographies
from umfuse.search import SearchResult, find_transform

MISS = 10.0  # infrared pixels


class Raw(NamedTuple):
    """One raw pair: its files, the visible one on the grid of the truth, and the truth."""

    split: str
    name: str
    visible: Path
    infrared: Path
    small: Path
    truth: Tensor


class Found(NamedTuple):
    """What the search found for a raw pair."""

    pair: Raw
    resizing: float
    error: float
    search: SearchResult
    seconds: float


def raw_pairs(visible: str, every: int) -> Iterator[Raw]:
    """Yields the raw pairs of both splits, every n-th of each."""
    for split in ("train", "test"):
        folder = data.root() / split / "roadscene"
        for name, truth in sorted(read_homographies(folder / "homography.json").items())[::every]:
            kinds = (visible, "ir_raw", "vis")
            files = (next((folder / kind).glob(f"{name}.*")) for kind in kinds)
            yield Raw(split, name, *files, truth)


def luma(path: Path) -> Tensor:
    """Returns the luma of an image file, ``(1, 1, H, W)``."""
    return images.read(path).luma


def measure(pair: Raw) -> Found:
    """Runs the search on one raw pair."""
    visible, infrared = luma(pair.visible), luma(pair.infrared)
    size = images.read(pair.small).size
    plain = geometry.resize_transform(size, (infrared.shape[-2], infrared.shape[-1]))
    to_visible = geometry.resize_transform(size, (visible.shape[-2], visible.shape[-1]))
    start = time.perf_counter()
    found = find_transform(infrared, visible)
    seconds = time.perf_counter() - start
    resizing, error = (
        float(metrics.grid_error(transform, pair.truth, size))
        for transform in (plain, found.transform @ to_visible)
    )
    return Found(pair, resizing, error, found, seconds)


def wrong(pair: Raw, other: Raw) -> float:
    """Returns the confidence for the visible image of one scene and the infrared of another."""
    return find_transform(luma(other.infrared), luma(pair.visible)).confidence


def auc(hits: list[float], misses: list[float]) -> float:
    """Returns the chance that a hit has a higher value than a miss; ties count half."""
    if not hits or not misses:
        return math.nan
    a, b = np.array(hits)[:, None], np.array(misses)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def errors(results: list[Found]) -> Iterator[tuple[object, ...]]:
    """Yields a line for resizing, and of the search one for each split and one for all pairs."""
    found = {"resizing": [x.resizing for x in results]}
    for split in ("train", "test", "all"):
        found[split] = [x.error for x in results if split in (x.pair.split, "all")]
    for name, values in found.items():
        if values:
            e = np.array(values)
            shares = (f"{(e < bound).mean():.1%}" for bound in (2, 3, 5, 10))
            yield name, len(e), float(np.median(e)), *shares


def confidences(results: list[Found], false: list[float]) -> Iterator[tuple[object, ...]]:
    """Yields a line for hits, misses and wrong pairs."""
    hits = [x.search.confidence for x in results if x.error <= MISS]
    misses = [x.search.confidence for x in results if x.error > MISS]
    for name, values in (("hits", hits), ("misses", misses), ("wrong pairs", false)):
        quantiles = np.percentile(values, (0, 5, 50, 95, 100)).tolist() if values else [""] * 5
        area = auc(hits, values) if values and name != "hits" else ""
        yield name, len(values), *quantiles, area


def times(pairs: list[Raw]) -> Iterator[tuple[object, ...]]:
    """Yields the line of median seconds and their ratio."""
    ours: list[float] = []
    theirs: list[float] = []
    for pair in data.progress("time", pairs):
        ours.append(measure(pair).seconds)
        # SimpleITK gets the smaller visible image: it does not reduce large ones itself.
        visible, infrared = luma(pair.small), luma(pair.infrared)
        start = time.perf_counter()
        methods.mattes(infrared, visible)
        theirs.append(time.perf_counter() - start)
    a, b = float(np.median(ours)), float(np.median(theirs))
    yield len(pairs), torch.get_num_threads(), a, b, a / b


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--visible", choices=("vis_hr", "vis"), default="vis_hr")
    parser.add_argument("--every", type=int, default=1, help="take every n-th pair only")
    parser.add_argument("--timing", type=int, default=12, help="pairs for the timing")
    parser.add_argument("--skip", nargs="*", default=[], choices=("wrong", "time"))
    data.page_option(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    raw = list(raw_pairs(options.visible, options.every))
    with ProcessPoolExecutor(
        options.jobs, initializer=torch.set_num_threads, initargs=(options.threads,)
    ) as pool:
        results = list(data.progress("raw", pool.map(measure, raw)))
        head = ("split", "pairs", "median, px", "< 2", "< 3", "< 5", "< 10")
        data.report(options, "search", head, errors(results))
        for found in results:
            if found.error > MISS:
                name, confidence = found.pair.name, found.search.confidence
                print(f"miss: {name} {found.error:.1f} px, confidence {confidence:.2f}")
        false: list[float] = []
        if "wrong" not in options.skip:
            half = len(raw) // 2
            others = raw[half:] + raw[:half]
            false = list(data.progress("wrong", pool.map(wrong, raw[::3], others[::3])))
    head = ("confidence", "pairs", "lowest", "5 %", "median", "95 %", "highest", "AUC to hits")
    data.report(options, "search-confidence", head, confidences(results, false))
    if "time" not in options.skip:
        some = raw[:: max(1, len(raw) // options.timing)][: options.timing]
        head = ("pairs", "threads", "umfuse, s", "SimpleITK MI, s", "ratio")
        data.report(options, "search-time", head, times(some))


if __name__ == "__main__":
    main()

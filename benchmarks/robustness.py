"""Whether a registration is right, and says so if not: `python -m benchmarks.robustness`.

Pairs with known truth from three sources (`benchmarks.cases`), 30 a case. The error is the mean
distance on a 9x9 grid over the visible pixels that the infrared image shows, scaled to an infrared
image of 640 pixels on its long side. "Right" is an error below 5 px. Pairs without a truth
(constant infrared, infrared image of another scene) are never right, and wrong by more than any
bound.

- robustness: errors and confidence of each case.
- robustness-confidence: what the confidence is worth, over all results.
- robustness-reliability: how many are right of those that say so, by confidence.
- robustness-near: pairs that are nearly aligned, whose end-point error must not grow.
- robustness-busy (`--busy`): time beside an empty loop of another process on two cores.

With `--known` only cases are looked at of whose cameras something can be known, and it is said.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from benchmarks import cases, data
from benchmarks.search import auc

import umfuse
from umfuse import geometry, metrics
from umfuse.pipeline import Umfuse

LONG_SIDE = 640  # of the infrared image, that errors are scaled to
RIGHT, WRONG = 5.0, 10.0  # pixels
CONFIDENT = 0.5
SURE = 0.9  # what exact pairs should have
BINS = 10
POINTS = 9
CORES = 2  # of `--busy`
BUSY_PAIRS, ROUNDS = 3, 2
# It ends with the process that started it, however that ends.
LOOP = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(10**6):
        pass
"""


class Task(NamedTuple):
    """One pair of a case: what `cases.make` needs, and the weights."""

    case: str
    source: str
    split: str
    name: str
    other: str
    seed: int
    weights: str | None
    known: bool = False


@dataclass(frozen=True)
class Result:
    """What a registration said about a pair, and what is true.

    Attributes:
        error: Pixels at 640; None if there is no truth.
        before: End-point error of the pair as it came, infrared pixels; of nearly aligned pairs.
        after: The same of the registration.
    """

    case: str
    source: str
    split: str
    name: str
    error: float | None
    confidence: float
    method: str
    log_likelihood: float
    runner_up: float
    correlation: float
    seconds: float
    before: float | None = None
    after: float | None = None

    @property
    def right(self) -> bool:
        """Whether the error is below 5 px."""
        return self.error is not None and self.error < RIGHT

    @property
    def misleading(self) -> bool:
        """Whether it is confident and wrong by more than 10 px, or has no truth to be near to."""
        wrong = self.error is None or self.error > WRONG
        return self.confidence > CONFIDENT and wrong


def allot(pairs: int, available: dict[str, int]) -> dict[str, int]:
    """Returns how many pairs each source gives: in proportion to `cases.WEIGHTS`, if it can."""
    counts = dict.fromkeys(available, 0)
    for _ in range(pairs):
        left = [source for source, count in counts.items() if count < available[source]]
        if not left:
            break
        counts[max(left, key=lambda s: cases.WEIGHTS[s] / (counts[s] + 1))] += 1
    return counts


def tasks(options: argparse.Namespace, case: str) -> list[Task]:
    """Returns the pairs of a case."""
    source = cases.CASES[case].source
    wanted = [
        one for one in (cases.WEIGHTS if source is None else [source]) if one in options.sources
    ]
    names = {one: cases.names(one, options.split, options.seed) for one in wanted}
    if source is None:
        counts = allot(options.pairs, {one: len(every) for one, every in names.items()})
    else:
        counts = {one: min(options.pairs, len(every)) for one, every in names.items()}
    return [
        Task(case, source, options.split, one, other, options.seed, options.weights, options.known)
        for source, every in names.items()
        for one, other in zip(every[: counts[source]], every[1:] + every[:1], strict=False)
    ]


@functools.cache
def model(weights: str | None) -> Umfuse:
    """Returns the model of this process."""
    logging.getLogger("umfuse").setLevel(logging.ERROR)  # doubtful alignments are what we look for
    return umfuse.load(weights, device="cpu")


def measure(task: Task) -> Result:
    """Registers one pair."""
    pair = cases.make(task.case, task.source, task.split, task.name, task.other, task.seed)
    loaded = model(task.weights)
    known = cases.CASES[task.case].known if task.known else None
    said = known(pair) if known is not None else {}
    start = time.perf_counter()
    found = umfuse.register(pair.infrared, pair.visible, weights=loaded, **said)
    seconds = time.perf_counter() - start
    before = after = None
    if pair.restore is not None:
        after, before = (
            float(metrics.end_point_error(places, pair.truth, pair.valid))
            for places in (found.tensor(), geometry.identity_grid(*pair.visible_size))
        )
    return Result(
        task.case,
        task.source,
        task.split,
        task.name,
        None if pair.transform is None else error(pair, found),
        found.confidence,
        found.method,
        found.log_likelihood,
        found.runner_up,
        found.correlation,
        seconds,
        before,
        after,
    )


def error(pair: cases.Pair, found: umfuse.Registration) -> float:
    """Returns the mean error on a grid over what both images show, pixels at 640."""
    seen = pair.seen(pair.truth)[0, 0].nonzero()
    low, high = seen.amin(0).double(), seen.amax(0).double()
    steps = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    y, x = torch.meshgrid(
        *(first + steps * (last - first) for first, last in zip(low, high, strict=True)),
        indexing="ij",
    )
    points = torch.stack((x, y), -1).flatten(0, 1)
    truth = pair.locate(points)
    inside = pair.seen(truth.T[None, :, :, None])[0, 0, :, 0]
    gap = torch.from_numpy(found.map_points(points.numpy())) - truth
    distance = gap[inside].norm(dim=1).mean()
    return float(distance) * LONG_SIDE / max(pair.infrared_size)


def rows(results: Iterable[Result]) -> Iterator[tuple[object, ...]]:
    """Yields a line for each case."""
    for case, group in itertools.groupby(results, lambda result: result.case):
        some = list(group)
        errors = [result.error for result in some if result.error is not None]
        line: list[object] = [case, len(some), *[""] * 3]
        if errors:
            line[2] = statistics.median(errors)
            line[3:5] = (_share([e < bound for e in errors]) for bound in (RIGHT, WRONG))
        line.append(statistics.median(result.confidence for result in some))
        line.append(_share([result.misleading for result in some]))
        line.append(statistics.median(result.seconds for result in some))
        yield tuple(line)


def confidences(results: Sequence[Result]) -> Iterator[tuple[object, ...]]:
    """Yields a line for each measure of what the confidence is worth, over all results."""
    told = judged(results)
    strangers = [r.confidence > CONFIDENT for r in results if r.case == "wrong pair"]
    exact = [r.confidence >= SURE for r in results if r.case in ("aligned", "identical images")]
    values = [[r.confidence for r in told if r.right is right] for right in (True, False)]
    for name, of, value, bar in (
        (
            "above 0.5 and wrong by more than 10 px",
            len(results),
            _share([r.misleading for r in results], 2),
            "at most 0.5%",
        ),
        ("wrong pairs above 0.5", len(strangers), _share(strangers), "at most 2%"),
        ("aligned and identical pairs, 0.9 or more", len(exact), _share(exact), "95%"),
        ("expected calibration error", len(told), calibration_error(told), "at most 0.05"),
        ("AUC, right against wrong", len(told), auc(*values), "at least 0.98"),
    ):
        if of:
            yield name, of, "" if isinstance(value, float) and math.isnan(value) else value, bar


def judged(results: Sequence[Result]) -> list[Result]:
    """Returns the results whose truth tells right from wrong."""
    return [result for result in results if cases.CASES[result.case].exact]


def bins(results: Sequence[Result]) -> list[list[Result]]:
    """Returns the results in equal bins of confidence."""
    found: list[list[Result]] = [[] for _ in range(BINS)]
    for result in results:
        found[min(BINS - 1, int(result.confidence * BINS))].append(result)
    return found


def calibration_error(results: Sequence[Result]) -> float:
    """Returns how far confidence and share of right ones are apart, on average over the results."""
    gaps = [abs(sum(r.confidence - r.right for r in some)) for some in bins(results)]
    return sum(gaps) / len(results) if results else math.nan


def reliability(results: Sequence[Result]) -> Iterator[tuple[object, ...]]:
    """Yields a line for each bin of confidence."""
    for index, some in enumerate(bins(results)):
        name = f"{index / BINS:.1f} to {(index + 1) / BINS:.1f}"
        if some:
            mean = statistics.fmean(result.confidence for result in some)
            yield name, len(some), mean, _share([result.right for result in some])
        else:
            yield name, 0, "", ""


def near(results: Sequence[Result]) -> Iterator[tuple[object, ...]]:
    """Yields a line for each case of nearly aligned pairs."""
    known = [result for result in results if result.before is not None]
    for case, group in itertools.groupby(known, lambda result: result.case):
        some = list(group)
        before, after = (np.array([getattr(r, key) for r in some]) for key in ("before", "after"))
        means = float(before.mean()), float(after.mean())
        yield case, len(some), *means, means[1] / means[0], float((after - before).max())


def _share(values: Sequence[bool], digits: int = 0) -> str:
    return f"{statistics.fmean(values):.{digits}%}" if values else ""


def busy(some: Sequence[Task]) -> Iterator[tuple[object, ...]]:
    """Yields median seconds of registrations alone and beside an empty loop, and their ratio."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[:CORES]
        os.sched_setaffinity(0, cores)  # the loop inherits it; both go where they like on these
    torch.set_num_threads(CORES)
    measure(some[0])  # the first one loads the model
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in data.progress("busy", range(ROUNDS)):
        for beside, times in seconds.items():
            loop = subprocess.Popen([sys.executable, "-c", LOOP]) if beside else None
            try:
                times += [measure(task).seconds for task in some]
            finally:
                if loop is not None:
                    loop.kill()
                    loop.wait()
    alone, shared = (statistics.median(times) for times in seconds.values())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else ""
    yield len(some) * ROUNDS, torch.get_num_threads(), alone, shared, shared / alone, load


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="as in umfuse.load; by default the embedded ones")
    parser.add_argument("--split", choices=cases.SPLITS, default="test", help="video: train only")
    parser.add_argument("--sources", nargs="+", choices=cases.SOURCES, default=cases.SOURCES)
    parser.add_argument("--only", default="", help="cases that hold this text, such as FOV")
    parser.add_argument("--known", action="store_true", help="say what is known of the cameras")
    parser.add_argument("--pairs", type=int, default=30, help="of a case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--save", type=Path, metavar="FILE.json", help="every single result")
    parser.add_argument("--busy", action="store_true", help="only the time beside a busy process")
    data.page_option(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    options = _options(arguments)
    if options.sources != ["rendered"]:
        data.root()
    if options.busy:
        some = tasks(options, "raw")[:BUSY_PAIRS]
        head = ("runs", "threads", "alone, s", "beside a loop, s", "ratio", "load of the machine")
        data.report(options, "robustness-busy", head, busy(some))
        return
    wanted = [
        name
        for name, case in cases.CASES.items()
        if options.only in name and not (options.known and case.known is None)
    ]
    chosen = [task for case in wanted for task in tasks(options, case)]
    if not chosen:
        sys.exit("no case holds that text, or these sources have no pair of it")
    torch.set_num_threads(1)
    with ProcessPoolExecutor(
        options.jobs, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        measured = data.progress(f"of {len(chosen)} pairs:", pool.map(measure, chosen))
        shown, kept = itertools.tee(measured)
        head = ("case", "pairs", "median, px", "< 5 px", "< 10 px", "confidence")
        head += ("above 0.5 and wrong", "s")
        data.report(options, "robustness", head, rows(shown))
        results = list(kept)
    if options.save is not None:
        options.save.parent.mkdir(parents=True, exist_ok=True)
        options.save.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")
    head = ("measure", "pairs", "value", "bar")
    data.report(options, "robustness-confidence", head, confidences(results))
    head = ("confidence", "pairs", "mean", "right")
    data.report(options, "robustness-reliability", head, reliability(judged(results)))
    if any(result.before is not None for result in results):
        head = ("case", "pairs", "input, px", "output, px", "ratio", "worst: output - input, px")
        data.report(options, "robustness-near", head, near(results))


if __name__ == "__main__":
    main()

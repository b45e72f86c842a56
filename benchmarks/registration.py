"""Registration on pairs whose true displacement is known: `python -m benchmarks.registration`.

- synthetic: aligned test pairs, the infrared image deformed by fields of a given mean length, drawn
  from the name of the pair and a seed: affine with an elastic part of about a fifth, and once with
  as much of either. End-point error in pixels where the truth holds. The pairs themselves are
  aligned to 1-3 px only, so no method gets to zero.
- published: the warped pairs of SuperFusion, with their fields.
- raw: RoadScene as the two cameras saw it; mean error on a 9x9 grid, in infrared pixels.

Each is measured as it comes in (plain resizing), after the search alone, and after the whole
pipeline. "worse" is the share of pairs that end further off than they came in by more than 0.5 px.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from benchmarks import data
from torch import Tensor

import umfuse
from umfuse import metrics, warp
from umfuse.pipeline import Umfuse
from umfuse.train.deform import DeformConfig, deformation

STAGES = ("input", "search", "pipeline")


@dataclass
class Errors:
    """Errors of one case, pixels: a list a stage, and which stage each pair was left at."""

    of: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    kept: list[str] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def displaced(
    infrared: Tensor, name: str, mean: float, seed: int = 0, elastic: float = 0.2
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the deformed image, the field that restores it and where it holds."""
    config = DeformConfig((mean, mean), affine=1.0, perspective=0.0, elastic=elastic, parallax=0.0)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name}/{mean}/{seed}".encode()))
    size = (infrared.shape[-2], infrared.shape[-1])
    drawn = deformation(1, size, config, generator)
    return warp.warp(infrared, drawn.deform)[0], drawn.restore, drawn.valid


def measure(
    model: Umfuse, infrared: Tensor, visible: Tensor, truth: Tensor, valid: Tensor, into: Errors
) -> None:
    """Registers one pair of equal size and adds its end-point errors."""
    start = time.perf_counter()
    found = model.align(infrared, visible)
    into.seconds.append(time.perf_counter() - start)
    size = (visible.shape[-2], visible.shape[-1])
    grid = warp.identity_grid(*size)
    fields = {
        "input": torch.zeros_like(truth),
        "search": warp.from_transform(found.transform, size) - grid,
        "pipeline": found.coordinates - grid,
    }
    for stage, displacement in fields.items():
        into.of[stage].append(float(metrics.end_point_error(displacement, truth, valid)))
    into.kept.append(found.stage)
    into.confidence.append(found.confidence)


def cases(model: Umfuse, limit: int | None, seed: int, only: str) -> Iterator[tuple[str, Errors]]:
    """Yields the name of every case that holds ``only`` in its name, and its errors."""
    kinds = ((0.0, 0.2), (4.0, 0.2), (8.0, 0.2), (16.0, 0.2), (8.0, 1.0))
    for where in ("test/roadscene", "test/tno"):
        for mean, elastic in kinds:
            label = f"{where} {mean:g} px" + (", half elastic" if elastic == 1 else "")
            if only in label:
                errors = Errors()
                for pair in data.progress(label, data.pairs(where), limit):
                    infrared = pair.infrared.luma
                    if mean:
                        moved = displaced(infrared, pair.name, mean, seed, elastic)
                        infrared, truth, valid = moved
                    else:
                        truth = torch.zeros(1, 2, *pair.infrared.size)
                        valid = torch.ones(1, 1, *pair.infrared.size, dtype=torch.bool)
                    measure(model, infrared, pair.visible.rgb, truth, valid, errors)
                yield label, errors
    for where in ("test/superfusion_road", "test/superfusion_msrs"):
        if only in where:
            errors = Errors()
            for pair in data.progress(where, data.pairs(where, infrared="ir_warp"), limit):
                truth, valid = data.published(where, pair.name)
                measure(model, pair.infrared.luma, pair.visible.rgb, truth, valid, errors)
            yield f"{where}, published", errors
    if only in "test/roadscene raw":
        yield "test/roadscene raw, grid", raw(model, limit)


def raw(model: Umfuse, limit: int | None) -> Errors:
    """Returns the grid errors of the raw RoadScene pairs."""
    where, errors = "test/roadscene", Errors()
    truths = data.homographies(where)
    sizes = {pair.name: pair.visible.size for pair in data.pairs(where)}
    wanted = (p for p in data.pairs(where, "ir_raw", "vis_hr") if p.name in truths)
    for pair in data.progress(f"{where} raw", wanted, limit):
        start = time.perf_counter()
        found = model.align(pair.infrared.luma, pair.visible.rgb)
        errors.seconds.append(time.perf_counter() - start)
        size, full = sizes[pair.name], pair.visible.size
        maps = {
            "input": warp.resize_transform(size, pair.infrared.size),
            "search": found.transform @ warp.resize_transform(size, full),
            "pipeline": data.on_grid(found.coordinates, size),
        }
        for stage, map_ in maps.items():
            error = metrics.grid_error(map_, truths[pair.name], size)
            errors.of[stage].append(float(error))
        errors.kept.append(found.stage)
        errors.confidence.append(found.confidence)
    return errors


def rows(label: str, errors: Errors) -> Iterator[tuple[object, ...]]:
    """Yields a line of the table for every stage."""
    before = torch.tensor(errors.of["input"])
    for stage in STAGES:
        after = torch.tensor(errors.of[stage])
        median, mean = float(after.quantile(0.5)), float(after.mean())
        ratio = median / max(float(before.quantile(0.5)), 1e-9) if before.any() else float("nan")
        worse = float((after > before + 0.5).float().mean())
        share = [float((after < bound).float().mean()) for bound in (5, 10)]
        last = stage == "pipeline"
        yield (
            f"{label} ({len(after)})" if stage == "input" else "",
            stage,
            median,
            mean,
            float(after.quantile(0.95)),
            float(after.max()),
            ratio,
            f"{worse:.0%}",
            *(f"{one:.0%}" for one in share),
            f"{errors.kept.count('dense') / len(errors.kept):.0%}" if last else "",
            float(torch.tensor(errors.seconds).median()) if last else "",
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="as in umfuse.load; by default the embedded ones")
    parser.add_argument("--limit", type=int, help="pairs a case, for a quick look")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic fields")
    parser.add_argument("--only", default="", help="cases that hold this text, such as raw")
    arguments = parser.parse_args()
    model = umfuse.load(arguments.weights, device="cpu")
    head = ("case (pairs)", "stage", "median", "mean", "p95", "max", "of input", "worse")
    head += ("< 5 px", "< 10 px", "dense kept", "s")
    print(data.table(head, ()), flush=True)
    for label, errors in cases(model, arguments.limit, arguments.seed, arguments.only):
        print(data.lines(rows(label, errors)), flush=True)


if __name__ == "__main__":
    main()

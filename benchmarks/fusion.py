"""Fusion of aligned pairs, and after every registration: `python -m benchmarks.fusion`.

The paper's Table 2 and ours. Metrics are those of `umfuse.metrics`. The reference infrared image is
the aligned one, always: with the misaligned image as the reference every misaligned result would
look well. The cases:

- ``fusion-NAME``: aligned pairs at full size, all metrics, and the mean rank over CC, SSIM, VIF,
  MI, Qabf and SCD among the methods of the table, and "sky": by how many of 255 levels places
  change in the mean that are bright and empty, in those pairs that have some.
- ``fused-CASE``: misaligned pairs of `benchmarks.registration` after every way to align, on the
  inner part without a tenth of each side. "kept" is the smallest of the six metrics as part of what
  the same way to fuse reaches on the aligned pair. "known displacement" is what resampling alone
  costs. "SSIM legacy" has the magnitudes of the paper.

Other people's fused images join with ``--results NAME=FOLDER``, where FOLDER holds a folder of
images a case, called as in the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from statistics import mean

import torch
from benchmarks import data, methods, registration
from torch import Tensor

import umfuse
from umfuse import geometry, images, metrics
from umfuse.evaluate.dataset import read_homographies
from umfuse.pipeline import Umfuse, luma
from umfuse.train import losses

RANKED = ("CC", "SSIM", "VIF", "MI", "Qabf", "SCD")
ALIGNED = "aligned"
KNOWN = "known displacement"
SETS = ("tno", "roadscene", "msrs_gray")
MISALIGNED = (
    *("paper-roadscene-256", "paper-tno-256", "large-roadscene", "raw-test"),
    *("aligned-roadscene", "aligned-tno"),
)
FUSERS_AFTER = ("average", "Laplacian pyramid", "paper's DIFN", "umfuse")
# CC / VIF / SSIM of the paper's Table 2, of its best competitor after each registration and of its
# own method, and of its Table 4. Which VIF that is cannot be told: no definition gives both of its
# magnitudes.
PAPER = {
    "paper-roadscene-256": {
        ("misaligned input", "paper's DIFN"): "DIFN .563 / .543 / .367",
        ("MRRN", "paper's DIFN"): "MRRN + DIFN .601 / .673 / .422",
        ("FlowNet+STN", "umfuse"): "RFN .587 / .563 / .319",
        ("VoxelMorph", "umfuse"): "DENSE .597 / .521 / .355",
        ("paper's system", "paper's DIFN"): "Ours .621 / .895 / .507",
    },
    "paper-tno-256": {
        ("misaligned input", "paper's DIFN"): "DIFN .438 / .732 / .369",
        ("MRRN", "paper's DIFN"): "MRRN + DIFN .476 / .876 / .418",
        ("FlowNet+STN", "umfuse"): "RFN .392 / .671 / .300",
        ("VoxelMorph", "umfuse"): "RFN .465 / .728 / .349",
        ("paper's system", "paper's DIFN"): "Ours .481 / 1.016 / .473",
    },
}
SKY = 0.01  # of an image: less is no sky

Metrics = Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]]
LEGACY: Metrics = {"SSIM legacy": partial(metrics.ssim, legacy=True)}
SHORT: Metrics = {name: metrics.FUSION[name] for name in RANKED} | LEGACY
FULL: Metrics = {**metrics.FUSION, **LEGACY}


def scores(fused: Tensor, infrared: Tensor, visible: Tensor, which: Metrics) -> Tensor:
    """Returns the metrics of one image."""
    return torch.stack([metric(fused, infrared, visible)[0] for metric in which.values()])


def inner(image: Tensor) -> Tensor:
    """Cuts a tenth off each side."""
    y, x = image.shape[-2] // 10, image.shape[-1] // 10
    return image[..., y : image.shape[-2] - y, x : image.shape[-1] - x]


def read(folder: Path, name: str) -> Tensor:
    """Returns the luma of an image of somebody's results."""
    return images.read(next(folder.glob(f"{name}.*"))).luma


def of_aligned(
    pairs: Iterable[data.Pair], fusers: dict[str, methods.Fuse], results: dict[str, Path]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns of every method on aligned pairs the mean metrics and what becomes of a sky."""
    found: dict[str, list[Tensor]] = {name: [] for name in (*fusers, *results)}
    skies: dict[str, list[float]] = {name: [] for name in found}
    for pair in pairs:
        infrared, visible = pair.infrared.luma, pair.visible.luma
        for name in found:
            fused = fusers[name](infrared, visible) if name in fusers else None
            fused = read(results[name], pair.name) if fused is None else fused
            found[name].append(scores(fused, infrared, visible, FULL))
            where = losses.bright_and_empty(infrared, visible)
            if float(where.mean()) >= SKY:
                change = float((where * (fused - visible)).sum() / where.sum())
                skies[name].append(255 * change)
    sky = {name: f"{mean(some):+.1f}" if some else "" for name, some in skies.items()}
    return {name: torch.stack(values).mean(0) for name, values in found.items()}, sky


def mean_ranks(table: dict[str, Tensor]) -> dict[str, float]:
    """Returns the mean rank of every method over the ranked metrics; 1 is the best."""
    columns = [list(FULL).index(name) for name in RANKED]
    values = torch.stack(list(table.values()))[:, columns]  # (methods, metrics)
    ranks = 1 + (values[None] > values[:, None]).sum(1)
    return dict(zip(table, ranks.double().mean(1).tolist(), strict=True))


def after(
    samples: Iterable[registration.Sample],
    aligners: dict[str, methods.Align],
    fusers: dict[str, methods.Fuse],
    results: dict[str, Path],
) -> dict[tuple[str, str], Tensor]:
    """Returns the mean metrics after every alignment and fusion."""
    found: dict[tuple[str, str], list[Tensor]] = {}
    for sample in samples:
        visible, reference = luma(sample.visible), sample.reference
        registered = {} if reference is None else {ALIGNED: reference}
        if sample.truth is not None:
            registered[KNOWN] = geometry.sample(sample.infrared, sample.truth)[0]
        for name, align in aligners.items():
            coordinates = align(sample.infrared, sample.visible)
            registered[name] = geometry.sample(sample.infrared, coordinates)[0]
        fused = {
            (alignment, name): fuse(image, visible)
            for alignment, image in registered.items()
            for name, fuse in fusers.items()
        }
        fused |= {(name, "its own"): read(path, sample.name) for name, path in results.items()}
        inside = (inner(registered[ALIGNED]), inner(visible))
        for key, image in fused.items():
            found.setdefault(key, []).append(scores(inner(image), *inside, SHORT))
    return {key: torch.stack(values).mean(0) for key, values in found.items()}


def kept(values: Tensor, aligned: Tensor) -> float:
    """Returns the smallest of the ranked metrics as part of its value on the aligned pair."""
    return float((values / aligned)[: len(RANKED)].min())


def raw_on_visible() -> Iterator[registration.Sample]:
    """Yields the raw RoadScene pairs on the grid of ``vis``, with the aligned infrared image."""
    where = "test/roadscene"
    truths = read_homographies(data.root() / where / "homography.json")
    both = zip(data.pairs(where), data.pairs(where, "ir_raw"), strict=True)
    for aligned, raw in both:
        truth = geometry.project_grid(truths[raw.name], raw.visible.size)
        pair, reference = (raw.infrared.luma, raw.visible.rgb), aligned.infrared.luma
        yield registration.Sample(raw.name, *pair, reference, lambda _: 0.0, truth)


def aligned_rows(
    name: str, model: Umfuse, limit: int | None, results: dict[str, Path]
) -> Iterator[tuple[object, ...]]:
    """Yields a line for every way to fuse."""
    pairs = data.progress(name, data.pairs(f"test/{name}"), limit)
    table, sky = of_aligned(pairs, methods.fusers(model), results)
    ranks = mean_ranks(table)
    for method, values in table.items():
        yield method, *values.tolist(), ranks[method], sky[method]


def misaligned_rows(
    case: str,
    model: Umfuse,
    method: str,
    fuser: str,
    limit: int | None,
    results: dict[str, Path],
) -> Iterator[tuple[object, ...]]:
    """Yields a line for every way to align and fuse."""
    samples = raw_on_visible() if case == "raw-test" else registration.cases()[case]()
    every = methods.fusers(model)
    fusers = {name: every[name] for name in FUSERS_AFTER if fuser in name}
    aligners = registration.chosen(model, method)
    table = after(data.progress(case, samples, limit), aligners, fusers, results)
    for names, values in table.items():
        alignment, fusion = names
        aligned = table.get((ALIGNED, fusion))
        share = "" if aligned is None or alignment == ALIGNED else kept(values, aligned)
        line = (*names, *values.tolist(), share)
        yield (*line, PAPER[case].get(names, "")) if case in PAPER else line


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="as in umfuse.load; by default the embedded ones")
    parser.add_argument("--limit", type=int, help="pairs a set, for a quick look")
    parser.add_argument("--only", default="", help="cases that hold this text, such as fusion-")
    parser.add_argument("--method", default="", help="alignments that hold this text")
    parser.add_argument("--fuser", default="", help="fusions after them that hold this text")
    parser.add_argument(
        "--results", type=registration.named, action="append", default=[], metavar="NAME=FOLDER"
    )
    data.page_option(parser)
    arguments = parser.parse_args()
    data.root()
    model = umfuse.load(arguments.weights, device="cpu", cpstn=True)

    def results(case: str) -> dict[str, Path]:
        folders = {name: folder / case for name, folder in arguments.results}
        return {name: folder for name, folder in folders.items() if folder.is_dir()}

    for name in SETS:
        case = f"fusion-{name}"
        if arguments.only in case:
            print(case)
            rows = aligned_rows(name, model, arguments.limit, results(case))
            data.report(arguments, case, ("method", *FULL, "mean rank", "sky"), rows)
    for name in MISALIGNED:
        case = f"fused-{name}"
        if arguments.only in case:
            print(case)
            head = ("aligned by", "fused by", *SHORT, "kept")
            head += ("paper: CC / VIF / SSIM",) if name in PAPER else ()
            chosen = (arguments.method, arguments.fuser)
            rows = misaligned_rows(name, model, *chosen, arguments.limit, results(case))
            data.report(arguments, case, head, rows, some=any(chosen))


if __name__ == "__main__":
    main()

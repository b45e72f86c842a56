"""Prints how well `umfuse.search` aligns real pairs: `UMFUSE_DATA=... python -m benchmarks.search`.

Raw pairs: all RoadScene raw pairs of both splits (130 train, on which the constants were chosen,
and 41 test). Input: the raw infrared frame and the visible image in its own resolution. Error: mean
distance on a 9x9 grid over `vis`, in infrared pixels, to the given homography.

Warped pairs: aligned pairs whose infrared image is warped by a seeded affine map (rotation, scale,
shear, translation) of 2 to 16 px mean displacement. Error: mean end-point error against that map,
in pixels; the residue of the data itself (1-3 px) is in it.

Confidence: area under the ROC curve of the confidence, hits (error <= 10 px) against misses, and
against wrong pairs (the infrared image of another scene).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from umfuse.search import Search, search

LEVELS = (2.0, 4.0, 8.0, 16.0)
Aligner = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Raw(NamedTuple):
    """One raw pair: where its files lie, and the truth."""

    split: str
    name: str
    visible: str
    infrared: str
    size: tuple[int, int]
    truth: list[list[float]]


def luma(path: str | Path) -> torch.Tensor:
    """Returns the BT.601 luma of an image file, ``(H, W)`` in [0, 1]."""
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"), np.float32) / 255
    return torch.from_numpy(rgb @ np.array([0.299, 0.587, 0.114], np.float32))


def resizing(source: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    """Returns plain resizing as a transform."""
    y, x = target[0] / source[0], target[1] / source[1]
    rows = [[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


def grid_error(found: torch.Tensor, truth: torch.Tensor, size: tuple[int, int]) -> float:
    """Returns the mean distance between two transforms of a 9x9 grid over an image."""
    y, x = (torch.linspace(0, n - 1, 9, dtype=torch.float64) for n in size)
    points = torch.stack((x.repeat(9), y.repeat_interleave(9), torch.ones(81).double()))
    a, b = found @ points, truth @ points
    return float((a[:2] / a[2] - b[:2] / b[2]).norm(dim=0).mean())


def raw_pairs(root: Path, split: str, visible: str) -> Iterator[Raw]:
    """Yields the raw pairs of a split."""
    folder = root / split / "roadscene"
    truth = json.loads((folder / "homography.json").read_text())
    for name in sorted(truth):
        with Image.open(next((folder / "vis").glob(f"{name}.*"))) as image:
            size = (image.height, image.width)
        files = [str(next((folder / kind).glob(f"{name}.*"))) for kind in (visible, "ir_raw")]
        yield Raw(split, name, files[0], files[1], size, truth[name]["H"])


def align(visible: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
    """Returns what the library finds."""
    return search(visible, infrared).transform


def mattes(visible: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
    """Returns SimpleITK's affine map of the largest Mattes mutual information."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(torch.get_num_threads())
    start = resizing((visible.shape[0], visible.shape[1]), (infrared.shape[0], infrared.shape[1]))
    affine = sitk.AffineTransform(2)
    affine.SetMatrix(start[:2, :2].flatten().tolist())
    affine.SetTranslation(start[:2, 2].tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetInitialTransform(affine, True)
    method.Execute(
        sitk.GetImageFromArray(visible.numpy()), sitk.GetImageFromArray(infrared.numpy())
    )
    found = torch.eye(3, dtype=torch.float64)
    found[:2, :2] = torch.tensor(affine.GetMatrix(), dtype=torch.float64).view(2, 2)
    found[:2, 2] = torch.tensor(affine.GetTranslation(), dtype=torch.float64)
    return found


def sift(visible: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
    """Returns the homography of OpenCV's SIFT matches by RANSAC; plain resizing without one."""
    import cv2

    detector = cv2.SIFT_create(4000)
    pictures = [(x.numpy() * 255).astype(np.uint8) for x in (visible, infrared)]
    (a, da), (b, db) = (detector.detectAndCompute(picture, None) for picture in pictures)
    plain = resizing((visible.shape[0], visible.shape[1]), (infrared.shape[0], infrared.shape[1]))
    if da is None or db is None or len(b) < 2:
        return plain
    pairs = cv2.BFMatcher().knnMatch(da, db, k=2)
    good = [m for m, n in pairs if m.distance < 0.85 * n.distance]
    if len(good) < 4:
        return plain
    points = [
        np.array([a[m.queryIdx].pt for m in good]),
        np.array([b[m.trainIdx].pt for m in good]),
    ]
    found, _ = cv2.findHomography(points[0], points[1], cv2.RANSAC, 5.0)
    return plain if found is None else torch.from_numpy(found)


def ecc(visible: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
    """Returns OpenCV's ECC affine map from plain resizing; plain resizing where it fails."""
    import cv2

    plain = resizing((visible.shape[0], visible.shape[1]), (infrared.shape[0], infrared.shape[1]))
    warp = plain[:2].numpy().astype(np.float32)
    rule = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
    try:
        _, warp = cv2.findTransformECC(
            visible.numpy(), infrared.numpy(), warp, cv2.MOTION_AFFINE, rule, None, 5
        )
    except cv2.error:
        return plain
    return torch.cat((torch.from_numpy(warp).double(), plain[2:]))


def plainly(visible: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
    """Returns plain resizing."""
    return resizing((visible.shape[0], visible.shape[1]), (infrared.shape[0], infrared.shape[1]))


def measure(job: tuple[Raw, str]) -> tuple[Raw, float, Search | None, float]:
    """Returns the error, the answer and the seconds of one raw pair."""
    pair, method = job
    visible, infrared = luma(pair.visible), luma(pair.infrared)
    to_visible = resizing(pair.size, (visible.shape[0], visible.shape[1]))
    start = time.perf_counter()
    found = search(visible, infrared) if method == "umfuse" else None
    transform = found.transform if found else METHODS[method](visible, infrared)
    seconds = time.perf_counter() - start
    truth = torch.tensor(pair.truth, dtype=torch.float64)
    return pair, grid_error(transform @ to_visible, truth, pair.size), found, seconds


METHODS: dict[str, Aligner] = {
    "resizing": plainly,
    "umfuse": align,
    "SimpleITK MI": mattes,
    "SIFT+RANSAC": sift,
    "ECC": ecc,
}


def auc(hits: list[float], misses: list[float]) -> float:
    """Returns the chance that a hit has a higher value than a miss; ties count half."""
    if not hits or not misses:
        return math.nan
    a, b = np.array(hits)[:, None], np.array(misses)[None]
    return float((a > b).mean() + 0.5 * (a == b).mean())


def affine(
    generator: torch.Generator, size: tuple[int, int], level: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns a random affine map of a mean displacement, and its displacement ``(H, W, 2)``."""
    h, w = size
    draw = torch.empty(6, dtype=torch.float64).uniform_(-1, 1, generator=generator)
    angle, scale, stretch, shear = (draw[:4] * torch.tensor([0.05, 0.05, 0.02, 0.02])).tolist()
    linear = torch.tensor(
        [[scale + stretch, shear - angle], [angle, scale - stretch]], dtype=torch.float64
    )
    centre = torch.tensor([(w - 1) / 2, (h - 1) / 2], dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(h).double(), torch.arange(w).double(), indexing="ij")
    points = torch.stack((x, y), -1)
    field = (points - centre) @ linear.T + draw[4:] * 0.03 * max(h, w)
    field = field * (level / field.norm(dim=-1).mean())
    a, b, c = field[0, 0], field[0, -1], field[-1, 0]
    change = torch.eye(3, dtype=torch.float64)
    change[:2, 0] += (b - a) / (w - 1)
    change[:2, 1] += (c - a) / (h - 1)
    change[:2, 2] = a
    return change, field


def warped(job: tuple[str, str, int, float]) -> tuple[float, float, float]:
    """Returns level, end-point error in pixels and confidence of one aligned pair, warped."""
    visible_path, infrared_path, seed, level = job
    visible, infrared = luma(visible_path), luma(infrared_path)
    size = (visible.shape[0], visible.shape[1])
    generator = torch.Generator().manual_seed(seed)
    change, _ = affine(generator, size, level)
    # moving(q) = infrared(change^-1 q), so that moving(change p) = infrared(p).
    y, x = torch.meshgrid(
        torch.arange(size[0]).double(), torch.arange(size[1]).double(), indexing="ij"
    )
    grid = torch.stack((x, y, torch.ones_like(x)), -1)
    back = (grid @ torch.linalg.inv(change).T)[..., :2]
    back = (2 * back + 1) / torch.tensor([size[1], size[0]]) - 1
    moving = F.grid_sample(
        infrared[None, None], back[None].float(), padding_mode="border", align_corners=False
    )
    found = search(visible, moving[0, 0])
    here, there = grid @ found.transform.T, grid @ change.T
    error = (here[..., :2] / here[..., 2:] - there[..., :2]).norm(dim=-1).mean()
    return level, float(error), found.confidence


def wrong(job: tuple[Raw, Raw]) -> float:
    """Returns the confidence for the visible image of one scene and the infrared of another."""
    return search(luma(job[0].visible), luma(job[1].infrared)).confidence


def row(name: str, errors: list[float]) -> str:
    """Returns one line of the raw table."""
    e = np.array(errors)
    under = "".join(f"{100 * (e < k).mean():8.1f}%" for k in (2, 3, 5, 10))
    return f"{name:24}{len(e):6}{np.median(e):9.2f}{under}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--visible", choices=("vis_hr", "vis"), default="vis_hr")
    parser.add_argument("--every", type=int, default=1, help="take every n-th pair only")
    parser.add_argument("--timing", type=int, default=12, help="pairs for the timing")
    parser.add_argument("--baselines", action="store_true", help="all pairs by SIFT, ECC, MI")
    parser.add_argument("--skip", nargs="*", default=[], choices=("raw", "wrong", "warped", "time"))
    options = parser.parse_args()
    root = Path(os.environ["UMFUSE_DATA"])
    torch.set_num_threads(options.threads)
    raw = [
        pair
        for split in ("train", "test")
        for pair in list(raw_pairs(root, split, options.visible))[:: options.every]
    ]
    with ProcessPoolExecutor(
        options.jobs, initializer=torch.set_num_threads, initargs=(options.threads,)
    ) as pool:
        if "raw" not in options.skip:
            report_raw(
                list(pool.map(measure, [(pair, "umfuse") for pair in raw])), pool, raw, options
            )
        if "warped" not in options.skip:
            for name, folder in (("RoadScene", "test/roadscene"), ("TNO", "test/tno")):
                report_warped(name, root / folder, pool, options.every)
    if "time" not in options.skip:
        report_time(raw[:: max(1, len(raw) // options.timing)][: options.timing])


def report_raw(
    results: list[tuple[Raw, float, Search | None, float]],
    pool: ProcessPoolExecutor,
    raw: list[Raw],
    options: argparse.Namespace,
) -> None:
    """Prints the raw pairs and the confidence."""
    print(f"\nRaw RoadScene pairs ({options.visible} and ir_raw), grid error in infrared pixels")
    print(f"{'':24}{'pairs':>6}{'median':>9}" + "".join(f"{f'<{k} px':>9}" for k in (2, 3, 5, 10)))
    for split in ("train", "test", "all"):
        some = [error for pair, error, _, _ in results if split in (pair.split, "all")]
        print(row(f"umfuse, {split}", some))
    print(row("resizing, all", [measure((pair, "resizing"))[1] for pair in raw]))
    if options.baselines:
        for method in ("SimpleITK MI", "SIFT+RANSAC", "ECC"):
            jobs = [(pair, method) for pair in raw]
            print(row(f"{method}, all", [x[1] for x in pool.map(measure, jobs)]))
    print(f"seconds a pair, median: {np.median([x[3] for x in results]):.2f}")
    hits = [found.confidence for _, error, found, _ in results if found and error <= 10]
    misses = [found.confidence for _, error, found, _ in results if found and error > 10]
    print(f"confidence, hits vs {len(misses)} misses: AUC {auc(hits, misses):.3f}")
    for pair, error, found, _ in results:
        if error > 10 and found:
            print(f"  miss {pair.split} {pair.name}: {error:.1f} px, conf. {found.confidence:.2f}")
    if "wrong" not in options.skip:
        half = len(raw) // 2
        jobs = [(pair, raw[(k + half) % len(raw)]) for k, pair in enumerate(raw)][::3]
        false = list(pool.map(wrong, jobs))
        print(f"confidence, hits vs {len(false)} wrong pairs: AUC {auc(hits, false):.3f}")
        q = np.percentile(false, [50, 95, 100])
        print(f"  wrong pairs: median {q[0]:.2f}, 95 % {q[1]:.2f}, highest {q[2]:.2f}")
        q = np.percentile(hits, [0, 5, 50])
        print(f"  hits: lowest {q[0]:.2f}, 5 % {q[1]:.2f}, median {q[2]:.2f}")


def report_warped(name: str, folder: Path, pool: ProcessPoolExecutor, every: int) -> None:
    """Prints the end-point errors of warped aligned pairs."""
    files = sorted((folder / "vis").iterdir())[::every]
    jobs = [
        (str(file), str(next((folder / "ir").glob(f"{file.stem}.*"))), 10 * k + n, level)
        for k, file in enumerate(files)
        for n, level in enumerate(LEVELS)
    ]
    results = list(pool.map(warped, jobs))
    print(f"\nAligned {name} ({folder.parent.name}) warped by affine maps: end-point error, px")
    print(f"{'level':>10}{'pairs':>7}{'median':>9}{'95 %':>9}{'largest':>9}{'> 20 px':>9}")
    for level in (*LEVELS, None):
        e = np.array([x[1] for x in results if level in (x[0], None)])
        label = "all" if level is None else f"{level:.0f} px"
        print(
            f"{label:>10}{len(e):7}{np.median(e):9.2f}{np.percentile(e, 95):9.2f}{e.max():9.1f}"
            f"{100 * (e > 20).mean():8.1f}%"
        )


def report_time(pairs: list[Raw]) -> None:
    """Prints the time beside that of SimpleITK, in turn on the same pairs."""
    ours: list[float] = []
    theirs: list[float] = []
    for pair in pairs:
        ours.append(measure((pair, "umfuse"))[3])
        # SimpleITK gets the smaller visible image: it does not reduce large ones itself.
        small = pair._replace(visible=pair.visible.replace("vis_hr", "vis"))
        candidates = list(Path(small.visible).parent.glob(f"{pair.name}.*"))
        theirs.append(measure((small._replace(visible=str(candidates[0])), "SimpleITK MI"))[3])
    a, b = np.median(ours), np.median(theirs)
    print(
        f"\nTime on {len(pairs)} pairs, {torch.get_num_threads()} thread(s), in turn: umfuse "
        f"{a:.2f} s, SimpleITK affine Mattes MI (all pixels, 3 levels, at most 200 steps) {b:.2f} s"
        f", ratio of medians {a / b:.2f}"
    )


if __name__ == "__main__":
    main()

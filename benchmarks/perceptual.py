"""Which features tell the right place from a wrong one: `python -m benchmarks.perceptual`.

Eq. 13 compares features of the infrared image with those of the pseudo-infrared one. On aligned
pairs of the train split, crops of 256x256, that similarity is computed at the right place and at
wrong ones, and the table says how often the right one wins:

- shift: all of the infrared image moved by whole pixels, in four directions.
- field: a smooth field of that mean against the same field at 0.5 px, both interpolated alike.
- downhill: a shift against one twice as far, 2 to 16 px: whether the way to the right place shows.

The fixed image is what the embedded CPSTN renders, or the luma of the visible image. The pairs are
about 1 px off themselves, so nothing reaches 1 at 2 px. A coin has 0.5.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from benchmarks import data
from torch import Tensor, nn

import umfuse
from umfuse import filters, geometry, search
from umfuse.networks.difn import global_means
from umfuse.pipeline import Umfuse, registration_input
from umfuse.train import DeformConfig, deformation, losses
from umfuse.train.perceptual import Mind, vgg19

SIDE, MARGIN = 256, 24
SHIFTS, FIELDS = (2, 4, 8, 16), (2.0, 4.0, 8.0)
NEAR = 0.5  # px of the field that counts as right
SETS = (("train/roadscene", 6), ("train/m3svd", 6), ("train/msrs_gray", 5))  # every so many
Maps = list[Tensor]
Features = Callable[[Tensor], Maps]


def random_vgg(seed: int = 0) -> Features:
    """Returns VGG-19's five layers at a quarter of its width, with random weights."""
    torch.manual_seed(seed)
    blocks: list[nn.Sequential] = []
    inputs = 3
    for block, (width, depth) in enumerate(((16, 2), (32, 2), (64, 4), (128, 4), (128, 1))):
        for i in range(depth):
            conv = nn.Conv2d(inputs, width, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight)
            pool: list[nn.Module] = [nn.MaxPool2d(2)] if block and not i else []
            blocks.append(nn.Sequential(*pool, conv, nn.ReLU()))
            inputs = width

    def features(image: Tensor) -> Maps:
        maps: Maps = []
        x = 4 * (image.expand(-1, 3, -1, -1) - 0.45)
        for index, block in enumerate(blocks):
            x = block(x)
            if index in (0, 2, 4, 8, 12):
                maps.append(x)
        return maps

    return features


def embedded(model: Umfuse) -> dict[str, Features]:
    """Returns what the embedded networks see."""

    def of_matcher(image: Tensor) -> Maps:
        seen = model.mrrn.encoder(
            registration_input(image, image, model.config.orientation_sigma, model.mrrn)
        )
        return [seen.fine, seen.coarse]

    def of_cpstn(image: Tensor) -> Maps:
        maps: Maps = []
        x = 2 * image.expand(-1, 3, -1, -1) - 1
        for layer in model.cpstn.encoder:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                maps.append(x)
        return maps

    def of_difn(image: Tensor) -> Maps:
        means = global_means(image, image).expand(-1, -1, *image.shape[-2:])
        return [model.difn.infrared(torch.cat((image, means), 1))]

    return {
        "embedded matcher, descriptors": of_matcher,
        "embedded CPSTN, encoder": of_cpstn,
        "embedded DIFN, infrared path": of_difn,
    }


def candidates(model: Umfuse, vgg: str | None) -> dict[str, tuple[Features, tuple[float, ...]]]:
    """Returns features by name, with the weights of their layers."""

    def alike(features: Features, count: int) -> tuple[Features, tuple[float, ...]]:
        return features, (1 / count,) * count

    def orientations(image: Tensor) -> Maps:
        return [search.orientation(image, sigma) for sigma in (1.0, 2.0, 4.0, 8.0)]

    def gradients(image: Tensor) -> Maps:
        right, down = filters.sobel(image)
        return [(right.square() + down.square()).sum(1, keepdim=True).sqrt() / 8]

    found = {
        "intensity": alike(lambda image: [image], 1),
        "gradient magnitude": alike(gradients, 1),
        "orientation, 4 scales": alike(orientations, 4),
        "MIND, 3 levels": (Mind(), Mind().layer_weights),
        "MIND, 3 levels, radius 2": (Mind(radius=2), Mind().layer_weights),
        "MIND, 1 level": (Mind(levels=1), (1.0,)),
    }
    counts = (2, 3, 1)
    for (name, features), count in zip(embedded(model).items(), counts, strict=True):
        found[name] = alike(features, count)
    found["random VGG-19, 1/4 width"] = (random_vgg(), (1 / 32, 1 / 16, 1 / 8, 1.0, 1.0))
    if vgg is not None:
        trained = vgg19(None if vgg == "hub" else vgg)
        found["VGG-19"] = (trained, trained.layer_weights)
    return found


def crops(
    model: Umfuse,
) -> Iterator[tuple[dict[str, Tensor], dict[tuple[str, float, int], Tensor]]]:
    """Yields of each pair the fixed images, and the infrared one at the right and wrong places."""
    for where, every in SETS:
        pairs = [pair for k, pair in enumerate(data.pairs(where)) if k % every == 0]
        for k, pair in enumerate(data.progress(where, pairs)):
            images = (pair.infrared.luma, pair.visible.luma, model.cpstn(pair.visible.rgb).float())
            least = SIDE + 2 * max(SHIFTS)
            up = max(1.0, least / min(pair.visible.size))
            size = [math.ceil(up * side) for side in pair.visible.size]
            infrared, grey, pseudo = (
                F.interpolate(one, size, mode="bilinear", antialias=True).clamp(0, 1)
                for one in images
            )
            y, x = ((side - SIDE) // 2 for side in size)

            def cut(image: Tensor, right: int = 0, down: int = 0, y: int = y, x: int = x) -> Tensor:
                return image[..., y + down : y + down + SIDE, x + right : x + right + SIDE]

            places = {("shift", 0.0, n): cut(infrared) for n in range(4)}
            for shift in SHIFTS:
                for n in range(4):
                    angle = math.pi * (n / 2 + k % 2 / 4)
                    right, down = round(shift * math.cos(angle)), round(shift * math.sin(angle))
                    places["shift", float(shift), n] = cut(infrared, right, down)
            for n in range(2):
                generator = torch.Generator().manual_seed(2 * k + n)
                field = deformation(1, (SIDE, SIDE), DeformConfig(mean=(8.0, 8.0)), generator)
                for mean in (NEAR, *FIELDS):
                    moved, _ = geometry.warp(cut(infrared), field.deform * (mean / 8))
                    places["field", mean, n] = moved
            yield {"pseudo-infrared": cut(pseudo), "luma": cut(grey)}, places


def inner(maps: Maps) -> Maps:
    """Cuts off the border of feature maps, where some places hold repeated pixels."""
    cuts = [max(1, round(MARGIN * one.shape[-1] / SIDE)) for one in maps]
    return [one[..., m:-m, m:-m] for one, m in zip(maps, cuts, strict=True)]


@torch.inference_mode()
def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Compares perceptual features for Eq. 13.")
    parser.add_argument("--vgg19", help='a file of VGG-19, or "hub" to download it')
    parser.add_argument("--only", default="", help="features that hold this text, such as MIND")
    data.page_option(parser)
    options = parser.parse_args()
    model = umfuse.load(device="cpu", cpstn=True)
    everything = candidates(model, options.vgg19)
    tried = {name: one for name, one in everything.items() if options.only in name}
    wins: dict[tuple[str, str], dict[str, list[bool]]] = {}
    seconds = dict.fromkeys(tried, 0.0)
    images = 0
    for fixed, places in crops(model):
        images += len(fixed) + len(places)
        for name, (features, weights) in tried.items():
            begun = time.perf_counter()
            moving = {place: inner(features(image)) for place, image in places.items()}
            for kind, image in fixed.items():
                there = inner(features(image))
                loss = {
                    place: float(losses.similarity(there, maps, weights))
                    for place, maps in moving.items()
                }
                cells = wins.setdefault((kind, name), {})
                for cell, right, wrong in comparisons():
                    cells.setdefault(cell, []).append(loss[right] < loss[wrong])
            seconds[name] += time.perf_counter() - begun
    head = list(next(iter(wins.values())))
    rows = [
        (kind, name, *(sum(won) / len(won) for won in cells.values()), seconds[name] / images)
        for (kind, name), cells in sorted(wins.items(), key=lambda item: item[0][0])
    ]
    data.report(options, "perceptual", ("fixed image", "features", *head, "s an image"), rows)


def comparisons() -> Iterator[tuple[str, tuple[str, float, int], tuple[str, float, int]]]:
    """Yields the column, the right place and the wrong one."""
    for shift in SHIFTS:
        for n in range(4):
            yield f"shift {shift}", ("shift", 0.0, n), ("shift", float(shift), n)
    for mean in FIELDS:
        for n in range(2):
            yield f"field {mean:.0f}", ("field", NEAR, n), ("field", mean, n)
    for shift in SHIFTS[:-1]:
        for n in range(4):
            yield "downhill", ("shift", float(shift), n), ("shift", 2.0 * shift, n)


if __name__ == "__main__":
    main()

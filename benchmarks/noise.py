"""How much of the noise of both cameras reaches the fused image: `python -m benchmarks.noise`.

Synthetic noise is added to one image of an aligned test pair. What changes in the fused image is
what has reached it: its root mean square, as part of that of the noise itself. 1 is all of it; an
average lets one half through. The kinds, in 255 grey levels:

- white: `WHITE` of infrared or visible, different in each pixel.
- stripes: `STRIPES` of columns and rows of the infrared image, the fixed pattern of
  microbolometers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from statistics import mean

import torch
from benchmarks import data, methods
from benchmarks.fusion import SETS
from torch import Tensor

import umfuse

WHITE, STRIPES = 8.0, 4.0


def white(image: Tensor, generator: torch.Generator) -> Tensor:
    """Returns an image ``(1, 1, H, W)`` with noise that differs from pixel to pixel."""
    return image + WHITE / 255 * torch.randn(image.shape, generator=generator)


def stripes(image: Tensor, generator: torch.Generator) -> Tensor:
    """Returns an image ``(1, 1, H, W)`` with noise of its columns and rows."""
    columns, rows = (torch.randn(side, generator=generator) for side in image.shape[:1:-1])
    return image + STRIPES / 255 * (columns + rows[:, None])


KINDS: Mapping[str, tuple[int, Callable[[Tensor, torch.Generator], Tensor]]] = {
    "infrared, white": (0, white),
    "infrared, stripes": (0, stripes),
    "visible, white": (1, white),
}


def reached(fuse: methods.Fuse, images: tuple[Tensor, Tensor], seed: int) -> list[float]:
    """Returns which part of each kind of noise is in what a way to fuse makes of a pair."""
    clean, parts = fuse(*images), list[float]()
    for place, add in KINDS.values():
        noisy = list(images)
        noisy[place] = add(images[place], torch.Generator().manual_seed(seed)).clamp(0, 1)
        change, added = fuse(*noisy) - clean, noisy[place] - images[place]
        parts.append(float((change.square().mean() / added.square().mean()).sqrt()))
    return parts


def rows(
    fusers: Mapping[str, methods.Fuse], pairs: Mapping[str, Iterable[data.Pair]]
) -> Iterator[tuple[object, ...]]:
    """Yields a line for every way to fuse: the means of all kinds, set by set."""
    found = {name: list[float]() for name in fusers}
    for some in pairs.values():
        parts = {name: list[list[float]]() for name in fusers}
        for seed, pair in enumerate(some):
            images = (pair.infrared.luma, pair.visible.luma)
            for name, fuse in fusers.items():
                parts[name].append(reached(fuse, images, seed))
        for name, of_pairs in parts.items():
            found[name] += map(mean, zip(*of_pairs, strict=True))
    for name, means in found.items():
        yield name, *means


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="as in umfuse.load; by default the embedded ones")
    parser.add_argument("--limit", type=int, help="pairs a set, for a quick look")
    data.page_option(parser)
    arguments = parser.parse_args()
    data.root()
    model = umfuse.load(arguments.weights, device="cpu")
    pairs = {
        name: data.progress(name, data.pairs(f"test/{name}"), arguments.limit) for name in SETS
    }
    head = ("method", *(f"{name}: {kind}" for name in SETS for kind in KINDS))
    data.report(arguments, "noise", head, rows(methods.fusers(model), pairs))


if __name__ == "__main__":
    main()

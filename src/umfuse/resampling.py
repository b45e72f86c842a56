"""An infrared image on the visible grid, once and from its own pixels, and how far it reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import borders, filters, geometry, tiles
from umfuse.borders import Box

ALIASING = 1.5  # image pixels in one of the grid, above which the image is reduced first
FEATHER = 1 / 64  # of the image's longer side: how softly it ends where the grid goes on


class Places:
    """The pixels of images that a grid looks at, computed for a part of the grid at a time.

    Args:
        size: Height and width of the grid.
        part: Returns the coordinates ``(B, 2, h, w)`` of some of its rows and columns.
    """

    def __init__(self, size: tuple[int, int], part: Callable[[slice, slice], Tensor]) -> None:
        self.size = size
        self.part = part

    @classmethod
    def of(cls, coordinates: Tensor) -> Places:
        """Returns coordinates ``(B, 2, H, W)`` that are there already."""
        size = (coordinates.shape[-2], coordinates.shape[-1])
        return cls(size, lambda rows, columns: coordinates[..., rows, columns])

    def each(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns what a function makes of the coordinates, computed band by band.

        Args:
            function: ``(B, 2, h, w)`` to ``(B, C, h, w)``.
        """
        bands = [function(self.part(rows, slice(None))) for rows in tiles.bands(self.size)]
        return bands[0] if len(bands) == 1 else torch.cat(bands, 2)

    def whole(self) -> Tensor:
        """Returns all coordinates, ``(B, 2, H, W)``."""
        return self.each(lambda coordinates: coordinates)

    def inside(self, size: tuple[int, int]) -> Tensor:
        """Returns the mask of `geometry.inside` of images of a size, ``(B, 1, H, W)``."""
        return self.each(partial(geometry.inside, size=size))

    def between(self, seen: Box | None, content: Box | None) -> Places:
        """Returns the places of a part of the grid in a part of the images.

        Args:
            seen: Part of the grid; None for all of it.
            content: Part of the images; None for all of them.
        """
        box = seen or Box(0, 0, *self.size)

        def part(rows: slice, columns: slice) -> Tensor:
            window = _within(rows, box.top, box.bottom), _within(columns, box.left, box.right)
            return borders.within(self.part(*window), content)

        return Places(box.size, part)

    def steps(self) -> list[float]:
        """Returns how many pixels apart neighbours of each grid look, but at least 1."""
        stride = max(1, min(self.size) // 32)
        every = slice(None, None, stride)
        return _steps(self.part(every, every).detach(), stride)

    def ends(self, size: tuple[int, int]) -> Tensor:
        """Returns how far each grid stays within images, ``(B, 4, 1, 1)``, negative beyond them.

        Args:
            size: Height and width of the images.
        """
        parts = [_ends(self.part(rows, slice(None)), size) for rows in tiles.bands(self.size)]
        return torch.stack(parts).amin(0)


class Sampler:
    """Samples images once, from their own pixels, on grids.

    An image much finer than its grid is reduced to it first, since sampling it would alias.

    Args:
        image: ``(B, C, h, w)``, in any units.
        steps: How many of its pixels lie between neighbours of its grid, for each image.
    """

    def __init__(self, image: Tensor, steps: Sequence[float]) -> None:
        size = (image.shape[-2], image.shape[-1])
        self.images = [image]
        self.scales: list[Tensor] | None = None
        if max(steps) < ALIASING:
            return
        self.images, self.scales = [], []
        for one, step in zip(image, steps, strict=True):
            reduced, scale = one[None], torch.eye(3, dtype=torch.float64)
            if step >= ALIASING:
                smaller = (max(8, round(size[0] / step)), max(8, round(size[1] / step)))
                reduced = F.interpolate(reduced.float(), smaller, mode="bilinear", antialias=True)
                scale = geometry.resize_transform(size, smaller)
            self.images.append(reduced)
            self.scales.append(scale)

    def __call__(self, coordinates: Tensor) -> Tensor:
        """Returns ``(B, C, H, W)`` float32, with replicated borders.

        Args:
            coordinates: ``(B, 2, H, W)`` pixels of the images.
        """
        if self.scales is None:
            return geometry.interpolate(self.images[0], coordinates)
        every = zip(self.images, self.scales, coordinates, strict=True)
        return torch.cat(
            [geometry.interpolate(one, geometry.project(s, place[None])) for one, s, place in every]
        )


def resample(image: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Samples images on other grids, as `Sampler`.

    An exported graph cannot choose a size by its data: it samples images as they are.

    Args:
        image: ``(B, C, h, w)``, in any units.
        coordinates: ``(B, 2, H, W)`` pixels of the images.

    Returns:
        ``(B, C, H, W)`` float32, with replicated borders, and the mask of `geometry.inside`.
    """
    valid = geometry.inside(coordinates, (image.shape[-2], image.shape[-1]))
    steps = [1.0] if exporting() else Places.of(coordinates).steps()
    return Sampler(image, steps)(coordinates), valid


def sampled(image: Tensor, places: Places, *, nearest: bool = False) -> Tensor:
    """Returns the values of `resample`, computed a part at a time.

    Args:
        image: ``(B, C, h, w)``, in any units.
        places: Which of its pixels the grid looks at.
        nearest: Takes the nearest pixel, without reducing the image first.
    """
    return places.each(
        partial(geometry.nearest, image) if nearest else Sampler(image, places.steps())
    )


def hidden(missing: Tensor, places: Places) -> Tensor:
    """Returns where a grid sees pixels without data more than others, ``(B, 1, H, W)`` bool.

    Args:
        missing: ``(B, 1, h, w)`` bool, pixels of the image without data.
        places: Which of its pixels the grid looks at.
    """
    return sampled(missing.float(), places) > 0.5


def coverage(coordinates: Tensor, size: tuple[int, int], missing: Tensor | None = None) -> Tensor:
    """Returns how much of the image a pixel of the grid sees: ``(B, 1, H, W)`` in [0, 1].

    1 inside, 0 outside, and a soft passage inside of each border beyond which the grid goes on, and
    around pixels without data as far as they are many.

    Args:
        coordinates: ``(B, 2, H, W)`` pixels of the image.
        size: Height and width of the image.
        missing: ``(B, 1, *size)`` bool, its pixels without data; None if all have.
    """
    weight = None
    if missing is not None:
        weight, _ = resample(shown(missing), coordinates)
    return feathered(coordinates, size, _ends(coordinates, size), weight)


def shown(missing: Tensor) -> Tensor:
    """Returns how much is to be seen of pixels near those without data, ``(B, 1, h, w)`` in [0, 1].

    Args:
        missing: ``(B, 1, h, w)`` bool, pixels of the image without data.
    """
    around = filters.box(missing.float(), max(1, round(FEATHER * max(missing.shape[-2:]))))
    return _soft(1 - 2 * around) * ~missing


def feathered(
    coordinates: Tensor, size: tuple[int, int], ends: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Returns `coverage` of a part of a grid.

    Args:
        coordinates: ``(B, 2, H, W)`` pixels of the image.
        size: Height and width of the image.
        ends: `Places.ends` of the whole grid.
        weight: ``(B, 1, H, W)``, `shown` on the grid; None if all pixels have data.
    """
    weight = torch.ones_like(coordinates[:, :1]) if weight is None else weight
    widest = FEATHER * max(size)
    for number, distance in enumerate(_distances(coordinates, size)):
        end = ends[:, number : number + 1]
        part = _soft(distance / (-end).clamp(1e-3, widest))
        weight = weight * torch.where(end < 0, part, 1.0)
    return weight


def exporting() -> bool:
    """Says whether a graph is being exported, in which nothing depends on data."""
    asked = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(asked())


def _soft(share: Tensor) -> Tensor:
    """Returns a passage from 0 to 1 without corners."""
    share = share.clamp(0, 1)
    return share * share * (3 - 2 * share)


def _within(part: slice, first: int, last: int) -> slice:
    """Returns a part of what lies between two ends as a part of the whole."""
    start, stop, step = part.indices(last - first)
    return slice(first + start, first + stop, step)


def _distances(coordinates: Tensor, size: tuple[int, int]) -> tuple[Tensor, ...]:
    """Returns how far pixels are within each of the four ends of an image, ``(B, 1, H, W)``."""
    x, y = coordinates[:, :1], coordinates[:, 1:]
    return x + 0.5, size[1] - 0.5 - x, y + 0.5, size[0] - 0.5 - y


def _ends(coordinates: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the least of these distances, ``(B, 4, 1, 1)``."""
    return torch.cat([one.amin((2, 3), keepdim=True) for one in _distances(coordinates, size)], 1)


def _steps(some: Tensor, stride: int) -> list[float]:
    """Returns the steps of grids of which every so many rows and columns are given."""
    across = some[:, 0].diff(dim=-1).abs().flatten(1).median(1).values
    down = some[:, 1].diff(dim=-2).abs().flatten(1).median(1).values
    return cast("list[float]", (torch.maximum(across, down) / stride).clamp_min(1).tolist())

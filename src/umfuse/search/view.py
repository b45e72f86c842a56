"""An image as the search looks at it: its features at several sizes, and as transforms lay them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import geometry
from umfuse.search import features
from umfuse.search.features import BORDER

SMALLEST = 8  # pixels; below it there is nothing to search
RUNG = 1.12  # from one size to the next: features forgive a scale that is off by half of it
STRONG = 8  # times as many points are kept as are followed: a transform shows a part of the image


class Points(NamedTuple):
    """The strongest features of an image, the strongest first."""

    places: Tensor
    """``(N, 2)`` float32, (x, y) pixels of the image."""
    values: Tensor
    """``(N, 2)`` features."""


class View:
    """An image and its features, computed once for each size and blur.

    Features are those of the image's own frame. A transform moves and turns them, which is what
    features of the moved image would be but for a change of scale within half a rung.

    Args:
        image: ``(1, 1, H, W)`` in [0, 1].

    Attributes:
        image: As it came.
        size: Height and width.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self.size = size_of(image)
        self._features: dict[tuple[tuple[int, int], float], Tensor] = {}
        self._strongest: dict[tuple[tuple[int, int], float, int], Points] = {}

    def features(self, longest: int, sigma: float) -> Tensor:
        """Returns the whitened features of the image reduced to a long side, ``(1, 2, h, w)``.

        Args:
            longest: Pixels; the image is never enlarged.
            sigma: Blur, pixels of this size.
        """
        key = (fitted_size(self.size, longest), sigma)
        if key not in self._features:
            self._features[key] = features.whitened(resized(self.image, key[0]), sigma)
        return self._features[key]

    def laid(
        self, transforms: Tensor, grid: tuple[int, int], sigma: float, stride: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Returns the features as transforms lay them on a grid, and where they are known.

        Args:
            transforms: ``(N, 3, 3)``, pixel of the image to pixel of the grid.
            grid: Height and width.
            sigma: Blur, pixels of the grid.
            stride: From one pixel of the grid to the next that is looked at.

        Returns:
            ``(N, 2, h, w)``, 0 where they are not known, and ``(N, 1, h, w)``, 1 where they are.
        """
        every = geometry.identity_grid(*grid, device=self.image.device)[..., ::stride, ::stride]
        shape = (every.shape[-2], every.shape[-1])
        laid = every.new_zeros(len(transforms), 2, *shape)
        masks = every.new_zeros(len(transforms), 1, *shape)
        for some, longest, linear in self._rungs(transforms):
            seen = self.features(longest, sigma)
            size = size_of(seen)
            back = (transforms[some] @ geometry.resize_transform(size, self.size)).inverse()
            coordinates = geometry.project(back.to(every.device), every)
            mask = geometry.inside(coordinates, size, BORDER).to(every.dtype)
            moved = geometry.interpolate(seen, coordinates).movedim(1, -1)
            moved = turned(moved, linear).movedim(-1, 1)
            laid[some], masks[some] = moved * mask, mask
        return laid, masks

    def strongest(
        self, transforms: Tensor, grid: tuple[int, int], sigma: float, count: int
    ) -> tuple[Tensor, Tensor]:
        """Returns where transforms lay the strongest features that they lay on a grid.

        Args:
            transforms: ``(N, 3, 3)``, pixel of the image to pixel of the grid.
            grid: Height and width.
            sigma: Blur, pixels of the grid.
            count: Of points.

        Returns:
            Places, pixels of the grid, and values of the features: ``(N, count, 2)`` each. Where
            fewer lie on the grid the rest have the value 0.
        """
        places = torch.zeros(len(transforms), count, 2, device=self.image.device)
        values = torch.zeros_like(places)
        for some, longest, linear in self._rungs(transforms):
            points = self._points(longest, sigma, STRONG * count)
            batch, number = len(some), len(points.places)
            seen = geometry.project_points(transforms[some], points.places.expand(batch, -1, 2))
            on = geometry.inside(seen.movedim(-1, 0)[None], grid, 0)[0, 0]
            first = on * torch.arange(number, 0, -1, device=on.device)
            index = first.topk(min(count, number)).indices
            places[some, : index.shape[1]] = seen.gather(1, index[..., None].expand(-1, -1, 2))
            chosen = turned(points.values[index], linear) * on.gather(1, index)[..., None]
            values[some, : index.shape[1]] = chosen
        return places, values

    def _points(self, longest: int, sigma: float, count: int) -> Points:
        key = (fitted_size(self.size, longest), sigma, count)
        if key not in self._strongest:
            maps = self.features(longest, sigma)
            size = size_of(maps)
            place, values = _ridges(maps * inner_mask(maps), count)
            self._strongest[key] = Points(
                geometry.project_points(geometry.resize_transform(size, self.size), place), values
            )
        return self._strongest[key]

    def _rungs(self, transforms: Tensor) -> Iterator[tuple[Tensor, int, Tensor]]:
        """Yields which transforms look at the image at a long side, and that: few sizes serve all.

        It is near to what transforms make of it, and never above its own. Their `_linear` follow.
        """
        longest = max(self.size)
        linear = _linear(transforms, self.size)
        area = linear.det().abs()
        steps = (area.clamp_min(1e-12).log() / (-2 * torch.tensor(RUNG).log())).round().clamp_min(0)
        for step in cast("list[float]", steps.unique().tolist()):
            some = (steps == step).nonzero()[:, 0]
            yield some, max(SMALLEST, round(longest * RUNG**-step)), linear[some]


def turned(features: Tensor, linear: Tensor) -> Tensor:
    """Returns features of an image as it looks turned, or mirrored, by linear maps.

    Args:
        features: ``(N, ..., 2)``.
        linear: ``(N, 2, 2)``, of the places of the image.
    """
    side = linear.det().sign()  # -1 where the image is mirrored
    upright = torch.stack((linear[..., 0], linear[..., 1] * side[:, None]), -1)
    angle = 2 * geometry.rotation(upright)
    shape = (-1, *[1] * (features.ndim - 2))
    cos, sin, side = (x.to(features).view(shape) for x in (angle.cos(), angle.sin(), side))
    x, y = features.unbind(-1)
    y = y * side
    return torch.stack((x * cos - y * sin, x * sin + y * cos), -1)


def _linear(transforms: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns what transforms make of a step to the right and down, on the mean: ``(N, 2, 2)``."""
    place = geometry.corners(transforms, size)
    right = (place[:, [1, 3]] - place[:, [0, 2]]).mean(1) / (size[1] - 1)
    down = (place[:, [2, 3]] - place[:, [0, 1]]).mean(1) / (size[0] - 1)
    return torch.stack((right, down), -1)


def _ridges(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the places of the strongest ridges of features, and their values, ``(N, 2)`` each."""
    energy = maps.square().sum(1)
    ridge = F.max_pool2d(F.max_pool2d(energy, (1, 3), 1, (0, 1)), (3, 1), 1, (1, 0)) == energy
    # Ridge points first, then what lies beside them.
    order = torch.where(ridge, energy, energy * 1e-3).flatten()
    index = order.topk(min(count, order.numel())).indices
    width = maps.shape[-1]
    place = torch.stack((index % width, index // width), -1).float()
    return place, maps[0].flatten(1)[:, index].T


def size_of(image: Tensor) -> tuple[int, int]:
    """Returns height and width."""
    return image.shape[-2], image.shape[-1]


def fitted_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Returns a size reduced, never enlarged, to a long side."""
    scale = min(1.0, longest / max(size))
    return max(SMALLEST, round(size[0] * scale)), max(SMALLEST, round(size[1] * scale))


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns an image at another size, antialiased."""
    if size_of(image) == size:
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def inner_mask(image: Tensor) -> Tensor:
    """Returns 1 for the pixels of an image whose gradients are trusted: ``(1, 1, H, W)``."""
    mask = torch.zeros(1, 1, *size_of(image), device=image.device)
    mask[..., BORDER:-BORDER, BORDER:-BORDER] = 1
    return mask

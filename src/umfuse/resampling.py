"""An infrared image on the visible grid, once and from its own pixels, and how far it reaches."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import filters, geometry

ALIASING = 1.5  # image pixels in one of the grid, above which the image is reduced first
FEATHER = 1 / 64  # of the image's longer side: how softly it ends where the grid goes on


def resample(image: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Samples images once, from their own pixels, on other grids.

    An image much finer than its grid is reduced to it first, since sampling it would alias. (An
    exported graph cannot choose a size by its data: it samples images as they are.)

    Args:
        image: ``(B, C, h, w)``, in any units.
        coordinates: ``(B, 2, H, W)`` pixels of the images.

    Returns:
        ``(B, C, H, W)`` float32, with replicated borders, and the mask of `geometry.inside`.
    """
    size = (image.shape[-2], image.shape[-1])
    valid = geometry.inside(coordinates, size)
    steps = [1.0] if exporting() else _steps(coordinates)
    if max(steps) < ALIASING:
        return geometry.interpolate(image, coordinates), valid
    values: list[Tensor] = []
    for one, place, step in zip(image, coordinates, steps, strict=True):
        reduced, scale = one[None], torch.eye(3, dtype=torch.float64)
        if step >= ALIASING:
            smaller = (max(8, round(size[0] / step)), max(8, round(size[1] / step)))
            reduced = F.interpolate(reduced.float(), smaller, mode="bilinear", antialias=True)
            scale = geometry.resize_transform(size, smaller)
        values.append(geometry.interpolate(reduced, geometry.project(scale, place[None])))
    return torch.cat(values), valid


def hidden(missing: Tensor, coordinates: Tensor) -> Tensor:
    """Returns where a grid sees pixels without data more than others, ``(B, 1, H, W)`` bool.

    Args:
        missing: ``(B, 1, h, w)`` bool, pixels of the image without data.
        coordinates: ``(B, 2, H, W)`` pixels of the image.
    """
    return resample(missing.float(), coordinates)[0] > 0.5


def coverage(coordinates: Tensor, size: tuple[int, int], missing: Tensor | None = None) -> Tensor:
    """Returns how much of the image a pixel of the grid sees: ``(B, 1, H, W)`` in [0, 1].

    1 inside, 0 outside, and a soft passage inside of each border beyond which the grid goes on, and
    around pixels without data as far as they are many.

    Args:
        coordinates: ``(B, 2, H, W)`` pixels of the image.
        size: Height and width of the image.
        missing: ``(B, 1, *size)`` bool, its pixels without data; None if all have.
    """
    x, y = coordinates[:, :1], coordinates[:, 1:]
    widest = FEATHER * max(size)
    weight = torch.ones_like(x)
    if missing is not None:
        around = filters.box(missing.float(), max(1, round(widest)))
        weight, _ = resample(_soft(1 - 2 * around) * ~missing, coordinates)
    for distance in (x + 0.5, size[1] - 0.5 - x, y + 0.5, size[0] - 0.5 - y):
        beyond = -distance.amin((2, 3), keepdim=True)
        part = _soft(distance / beyond.clamp(1e-3, widest))
        weight = weight * torch.where(beyond > 0, part, 1.0)
    return weight


def exporting() -> bool:
    """Says whether a graph is being exported, in which nothing depends on data."""
    asked = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(asked())


def _soft(share: Tensor) -> Tensor:
    """Returns a passage from 0 to 1 without corners."""
    share = share.clamp(0, 1)
    return share * share * (3 - 2 * share)


def _steps(coordinates: Tensor) -> list[float]:
    """Returns how many pixels apart neighbours of each grid look, but at least 1."""
    stride = max(1, min(coordinates.shape[-2:]) // 32)
    some = coordinates.detach()[..., ::stride, ::stride]
    across = some[:, 0].diff(dim=-1).abs().flatten(1).median(1).values
    down = some[:, 1].diff(dim=-2).abs().flatten(1).median(1).values
    return cast("list[float]", (torch.maximum(across, down) / stride).clamp_min(1).tolist())

"""A pair at the size that it is searched at, and one of its images as a transform lays it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import borders, geometry
from umfuse.search.features import BORDER
from umfuse.search.known import NOTHING, Known

WORKING_SIZE = 640  # pixels of the long side; larger images are reduced to it at once
TINY, ENLARGED = 200, 320  # pixels of the long side: smaller images are enlarged to the other
CONSTANT = 1e-4  # standard deviation of a luma in [0, 1] that shows nothing, such as a shutter
SMALLEST = 8  # pixels; below it there is nothing to search


class WorkingPair(NamedTuple):
    """The two images at their working size: transforms of the search are between these pixels."""

    infrared: Tensor
    """``(1, 1, h, w)`` in [0, 1], upright as far as is known."""
    visible: Tensor
    """``(1, 1, H, W)`` luma in [0, 1]."""
    known: Known = NOTHING
    """Of the two cameras."""

    @property
    def plain(self) -> Tensor:
        """Plain resizing, or what is known: visible pixel to infrared pixel."""
        return self.known.resized(size_of(self.visible), size_of(self.infrared))

    def distance(self, transforms: Tensor, other: Tensor) -> Tensor:
        """Returns how far transforms ``(N, 3, 3)`` are from another one, ``(N,)``.

        The mean over the corners and the centre of the visible image, as a part of the long side
        of the infrared one.
        """
        places = geometry.corners(transforms, size_of(self.visible))
        apart = length(places - geometry.corners(other, size_of(self.visible))).mean(-1)
        return apart / max(size_of(self.infrared))


class Prepared(NamedTuple):
    """A pair at its working size without bars at its edges, and the way to it and back."""

    pair: WorkingPair
    before: Tensor
    """``(3, 3)``, visible pixel to working pixel of the visible image."""
    after: Tensor
    """``(3, 3)``, infrared pixel to working pixel of the infrared image."""
    plain: Tensor
    """``(3, 3)``, visible pixel to infrared pixel where what is between bars is only resized."""

    def inward(self, transform: Tensor) -> Tensor:
        """Returns a transform ``(3, 3)`` between the images' pixels as one between working ones."""
        return self.after @ transform @ self.before.inverse()

    def outward(self, transform: Tensor) -> Tensor:
        """Returns a transform ``(3, 3)`` between working pixels as one between the images'."""
        found = self.after.inverse() @ transform @ self.before
        return found / found[2, 2]


def prepared(infrared: Tensor, visible: Tensor, known: Known = NOTHING) -> Prepared:
    """Returns a pair at its working size: large images are reduced, tiny ones enlarged.

    Bars at the edges (`borders.content`) are left out.

    Args:
        infrared: ``(1, 1, h, w)`` in [0, 1], upright as far as is known.
        visible: ``(1, 1, H, W)`` luma in [0, 1].
        known: Of the two cameras.
    """
    boxes = borders.content(infrared), borders.content(visible)
    to_infrared, to_visible = (borders.inward(box) for box in boxes)
    infrared, visible = borders.part(infrared, boxes[0]), borders.part(visible, boxes[1])
    pair = WorkingPair(enlarged(fitted(infrared)), enlarged(fitted(visible)), known)
    plain = known.resized(size_of(visible), size_of(infrared))
    return Prepared(
        pair,
        geometry.resize_transform(size_of(visible), size_of(pair.visible)) @ to_visible,
        geometry.resize_transform(size_of(infrared), size_of(pair.infrared)) @ to_infrared,
        to_infrared.inverse() @ plain @ to_visible,
    )


def is_constant(luma: Tensor) -> bool:
    """Says whether an image ``(..., h, w)`` shows nothing, but for bars at its edges."""
    return float(borders.part(luma, borders.content(luma)).std()) < CONSTANT


def size_of(image: Tensor) -> tuple[int, int]:
    """Returns height and width."""
    return image.shape[-2], image.shape[-1]


def length(offsets: Tensor) -> Tensor:
    """Returns the lengths of vectors along the last axis."""
    return offsets.square().sum(-1).sqrt()


def fitted_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Returns a size reduced, never enlarged, to a long side."""
    scale = min(1.0, longest / max(size))
    return max(SMALLEST, round(size[0] * scale)), max(SMALLEST, round(size[1] * scale))


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns an image at another size, antialiased."""
    if size_of(image) == size:
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def enlarged(image: Tensor) -> Tensor:
    """Returns an image that is too small for the windows of features at a size that is not."""
    longest = max(size_of(image))
    if longest >= TINY:
        return image
    scale = ENLARGED / longest
    size = [max(SMALLEST, round(side * scale)) for side in size_of(image)]
    return F.interpolate(image, size, mode="bicubic", align_corners=False).clamp(0, 1)


def fitted(image: Tensor, longest: int = WORKING_SIZE) -> Tensor:
    """Returns an image reduced, never enlarged, to a long side."""
    return resized(image, fitted_size(size_of(image), longest))


def inner_mask(image: Tensor) -> Tensor:
    """Returns 1 for the pixels of an image whose gradients are trusted: ``(1, 1, H, W)``."""
    mask = torch.zeros(1, 1, *size_of(image), device=image.device)
    mask[..., BORDER:-BORDER, BORDER:-BORDER] = 1
    return mask


def rendered(visible: Tensor, transform: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns the visible image as a transform lays it on the infrared grid, and where it lies.

    Args:
        visible: ``(1, 1, H, W)``.
        transform: ``(3, 3)``, visible pixel to pixel of the grid.
        grid: Height and width.

    Returns:
        ``(1, 1, *grid)`` each; the mask is 1 where gradients of the image are trusted.
    """
    shape = size_of(visible)
    corner = geometry.corners(transform, shape)
    across, down = corner[[1, 3]] - corner[[0, 2]], corner[[2, 3]] - corner[[0, 1]]
    x, y = float(length(across).mean()) / shape[1], float(length(down).mean()) / shape[0]
    # Reduced first to the resolution it will have, or sampling would alias.
    size = (
        min(shape[0], max(SMALLEST, round(shape[0] * y))),
        min(shape[1], max(SMALLEST, round(shape[1] * x))),
    )
    back = (transform @ geometry.resize_transform(shape, size).inverse()).inverse()
    coordinates = geometry.project_grid(back.to(visible.device), grid)
    image = geometry.interpolate(resized(visible, size), coordinates)
    return image, geometry.inside(coordinates, size, BORDER).to(image.dtype)

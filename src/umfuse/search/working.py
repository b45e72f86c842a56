"""A pair at the size that it is searched at, and the way to it and back."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import borders, geometry
from umfuse.search.known import NOTHING, Known
from umfuse.search.view import SMALLEST, View, fitted_size, resized, size_of

WORKING_SIZE = 640  # pixels of the long side; larger images are reduced to it at once
TINY, ENLARGED = 200, 320  # pixels of the long side: smaller images are enlarged to the other
CONSTANT = 1e-4  # standard deviation of a luma in [0, 1] that shows nothing, such as a shutter


class WorkingPair(NamedTuple):
    """The two images at their working size: transforms of the search are between these pixels."""

    infrared: View
    """Upright as far as is known."""
    visible: View
    """Its luma."""
    known: Known = NOTHING
    """Of the two cameras."""

    @property
    def plain(self) -> Tensor:
        """Plain resizing, or what is known: visible pixel to infrared pixel."""
        return self.known.resized(self.visible.size, self.infrared.size)

    def distance(self, transforms: Tensor, other: Tensor) -> Tensor:
        """Returns how far transforms ``(N, 3, 3)`` are from another one, ``(N,)``.

        The mean over the corners and the centre of what the other one lets both images see, as a
        part of the long side of the infrared one.
        """
        height, width = self.visible.size
        edge = torch.tensor([width - 1.0, height - 1.0], dtype=torch.float64)
        places = geometry.corners(other.inverse(), self.infrared.size).clamp_min(0).minimum(edge)
        there = geometry.project_points(transforms, places.expand(len(transforms), -1, -1))
        apart = length(there - geometry.project_points(other, places)).mean(-1)
        return apart / max(self.infrared.size)


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
    pair = WorkingPair(_view(infrared), _view(visible), known)
    plain = known.resized(size_of(visible), size_of(infrared))
    return Prepared(
        pair,
        geometry.resize_transform(size_of(visible), pair.visible.size) @ to_visible,
        geometry.resize_transform(size_of(infrared), pair.infrared.size) @ to_infrared,
        to_infrared.inverse() @ plain @ to_visible,
    )


def is_constant(luma: Tensor) -> bool:
    """Says whether an image ``(..., h, w)`` shows nothing, but for bars at its edges."""
    return float(borders.part(luma, borders.content(luma)).std()) < CONSTANT


def length(offsets: Tensor) -> Tensor:
    """Returns the lengths of vectors along the last axis."""
    return offsets.square().sum(-1).sqrt()


def enlarged(image: Tensor) -> Tensor:
    """Returns an image that is too small for the windows of features at a size that is not."""
    longest = max(size_of(image))
    if longest >= TINY:
        return image
    scale = ENLARGED / longest
    size = [max(SMALLEST, round(side * scale)) for side in size_of(image)]
    return F.interpolate(image, size, mode="bicubic", align_corners=False).clamp(0, 1)


def _view(image: Tensor) -> View:
    """Returns an image at its working size."""
    return View(enlarged(resized(image, fitted_size(size_of(image), WORKING_SIZE))))

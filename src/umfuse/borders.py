"""Constant bars at the edges of an image, and the picture between them.

Letterboxes, frames and the empty strips that somebody's registration left: no camera saw them, and
their inner edges would outweigh the picture's own. What might be picture is no bar: lines without a
deviation, all of one value, that end at once, at both ends of the image or exactly constant.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST = 3  # lines of a bar
LEVEL = 2.5 / 255  # how far pixels of a bar are from its value, after compression
STEP = 8 / 255  # how far pixels of the picture are from it
SHARE = 0.5  # of the first line of the picture that is so far from it
WHOLE = 0.9  # the same of a bar that has no other one opposite, which might be a clear sky
BLOCK = 8  # lines within which a compressed bar ends
SOFT = 2  # lines within which a bar without another one opposite ends
KEPT, SMALLEST = 0.25, 16  # part of a side, and pixels, that the picture has at least


Lines: TypeAlias = NDArray[np.float32]


class Box(NamedTuple):
    """A part of an image: rows from top to before bottom, columns from left to before right."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left


class _Bar(NamedTuple):
    """Lines from an edge of an image to the first one of the picture."""

    lines: int
    value: float
    certain: bool  # without another one opposite


def content(luma: Tensor) -> Box | None:
    """Returns the part of an image between constant bars, None if it has none.

    Args:
        luma: ``(h, w)`` in [0, 1], or with axes of size 1 before.
    """
    height, width = luma.shape[-2:]
    image: Lines = luma.detach().float().reshape(height, width).cpu().numpy()
    before, box = None, Box(0, 0, height, width)
    while box != before:  # what is a bar may show only when others are gone
        before, box = box, _cropped(image, box)
    return None if box.size == (height, width) else box


def part(image: Tensor, box: Box | None) -> Tensor:
    """Returns a part of images ``(..., h, w)``, without a copy; all of them for None."""
    return image if box is None else image[..., box.top : box.bottom, box.left : box.right]


def inward(box: Box | None) -> Tensor:
    """Returns the transform ``(3, 3)`` float64 from pixels of an image to those of its part."""
    shift = torch.eye(3, dtype=torch.float64)
    if box is not None:
        shift[0, 2], shift[1, 2] = -box.left, -box.top
    return shift


def within(coordinates: Tensor, box: Box | None) -> Tensor:
    """Returns coordinates ``(B, 2, H, W)`` of pixels of an image as those of its part."""
    if box is None:
        return coordinates
    return coordinates - coordinates.new_tensor([box.left, box.top]).view(1, 2, 1, 1)


def inner(image: Tensor, coordinates: Tensor, box: Box | None) -> tuple[Tensor, Tensor]:
    """Returns a part of images, and coordinates of pixels of the images as those of the part."""
    return part(image, box), within(coordinates, box)


def _cropped(image: Lines, box: Box) -> Box:
    """Returns a box without the bars at its top and bottom, and then at its left and right."""
    top, left, bottom, right = box
    above, below = _bars(image[top:bottom, left:right])
    before, after = _bars(np.swapaxes(image[top + above : bottom - below, left:right], 0, 1))
    return Box(top + above, left + before, bottom - below, right - after)


def _bars(image: Lines) -> tuple[int, int]:
    """Returns how many rows ``(h, w)`` are bars at the top and at the bottom."""
    ends = _bar(image), _bar(image[::-1])
    alike = abs(ends[0].value - ends[1].value) <= LEVEL if ends[0] and ends[1] else False
    top, bottom = (end.lines if end and (alike or end.certain) else 0 for end in ends)
    kept = max(SMALLEST, KEPT * len(image))
    return (top, bottom) if len(image) - top - bottom >= kept else (0, 0)


def _bar(image: Lines) -> _Bar | None:
    """Returns the bar that rows ``(h, w)`` begin with, None if they begin with picture."""
    value = float(np.median(image[0]))
    if np.abs(image[0] - value).max() > LEVEL:
        return None
    off = np.abs(image - value)
    flat = int(np.argmax(off.max(1) > LEVEL))
    if flat < LEAST:  # also where nothing but the bar is there
        return None
    shown = (off[flat : flat + BLOCK] > STEP).mean(1)
    if shown.max() < SHARE:
        return None
    soft = int(np.argmax(shown >= SHARE))
    certain = not off[:flat].any() and soft < SOFT and shown[: soft + 2].max() >= WHOLE
    return _Bar(flat + soft, value, bool(certain))

"""Two images of one size in one picture, to see whether they are aligned."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from umfuse.draw.shown import Displayable, shown


def checkerboard(a: Displayable, b: Displayable, cells: int = 8) -> Image.Image:
    """Two aligned images in alternating squares: edges that break at the borders are misaligned.

    Args:
        a: Shown in the upper left square.
        b: Of the same size.
        cells: Squares along the longer side.

    Raises:
        ValueError: If the sizes differ or `cells` is less than 2.
    """
    first, second = _same_size(a, b)
    if cells < 2:
        raise ValueError(f"expected at least 2 cells, got {cells}")
    height, width = first.shape[:2]
    side = math.ceil(max(height, width) / cells)
    y, x = np.ogrid[:height, :width]
    odd = ((y // side + x // side) % 2 == 1)[..., None]
    return Image.fromarray(np.where(odd, second, first))


def overlay(infrared: Displayable, visible: Displayable) -> Image.Image:
    """Both images in one: infrared in magenta, visible in green, grey where they agree.

    Raises:
        ValueError: If the sizes differ.
    """
    warm, seen = (Image.fromarray(image).convert("L") for image in _same_size(infrared, visible))
    return Image.merge("RGB", (warm, seen, warm))


def _same_size(a: Displayable, b: Displayable) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    first, second = shown(a), shown(b)
    if first.shape != second.shape:
        raise ValueError(
            f"expected two images of one size, got {first.shape[1]} x {first.shape[0]} and "
            f"{second.shape[1]} x {second.shape[0]}; resize one of them first"
        )
    return first, second

"""Two images of one size in one picture, to see whether they are aligned."""

from __future__ import annotations

import io
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


def flicker(a: Displayable, b: Displayable, seconds: float = 0.5, max_width: int = 640) -> bytes:
    """Two aligned images in turn, an endless GIF: what jumps is misaligned.

    Args:
        a: Shown first.
        b: Of the same size.
        seconds: Of each image, 0.02 to 60.
        max_width: Largest width, pixels.

    Returns:
        The file.

    Raises:
        ValueError: If the sizes differ, or `seconds` or `max_width` is out of its bounds.
    """
    if not 0.02 <= seconds <= 60 or max_width < 1:
        raise ValueError(
            f"expected 0.02 to 60 seconds and a max_width of 1, got {seconds} and {max_width}"
        )
    pictures = [Image.fromarray(image) for image in _same_size(a, b)]
    for picture in pictures:
        picture.thumbnail((max_width, picture.height))
    content = io.BytesIO()
    first, second = (picture.quantize() for picture in pictures)  # each with its own 256 colours
    first.save(
        content, "GIF", save_all=True, append_images=[second], duration=1000 * seconds, loop=0
    )
    return content.getvalue()


def _same_size(a: Displayable, b: Displayable) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    first, second = shown(a), shown(b)
    if first.shape != second.shape:
        raise ValueError(
            f"expected two images of one size, got {first.shape[1]} x {first.shape[0]} and "
            f"{second.shape[1]} x {second.shape[0]}; resize one of them first"
        )
    return first, second

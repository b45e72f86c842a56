"""How certain an alignment is as a picture: from dark to bright over the image, with a legend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from umfuse.draw.paper import INK, PAPER, letters
from umfuse.draw.shown import Displayable, shown

# From 0 to 1 at equal steps, ever brighter: in grey, and to eyes that see fewer colours, too.
COLORS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
VEIL = 0.65  # share of the colour where an image is seen through it


def certainty_color(certainty: NDArray[Any], image: Displayable | None = None) -> Image.Image:
    """A map of numbers in [0, 1] as an RGB picture: violet is 0, blue, green, and yellow 1.

    Args:
        certainty: As `umfuse.Registration.certainty`, (H, W); NaN has no colour.
        image: Seen through the colours, in grey, so that one sees of what they are said; it is
            resized to the map. None for the colours alone.

    Raises:
        ValueError: If the map has another shape.
    """
    values = np.asarray(certainty, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"expected a map of shape (H, W), got {values.shape}")
    known = np.isfinite(values)
    color = _color(np.where(known, values, 0))
    under, veil = np.full(color.shape, 127.5), 1.0
    if image is not None:
        grey = Image.fromarray(shown(image)).convert("L").resize(values.shape[::-1])
        under, veil = np.asarray(grey, dtype=np.float64)[..., None], VEIL
    mixed = under + veil * known[..., None] * (color - under)
    picture = Image.fromarray(np.rint(mixed).astype(np.uint8))
    _legend(picture)
    return picture


def _color(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers as colours, (H, W, 3)."""
    steps = np.linspace(0, 1, len(COLORS))
    return np.stack([np.interp(values, steps, one) for one in zip(*COLORS, strict=True)], -1)


def _legend(picture: Image.Image) -> None:
    """Draws the colours from 0 to 1 into the lower left corner, if there is room."""
    height = min(picture.size) // 16
    if height < 6:
        return
    font = letters(max(height * 0.9, 9))
    brush = ImageDraw.Draw(picture)
    width, beside = 6 * height, int(brush.textlength("0", font=font)) + 10
    top = picture.height - 2 * height
    brush.rectangle((0, top, width + 2 * beside, picture.height), fill=PAPER)
    ramp = np.broadcast_to(np.linspace(0, 1, width), (height, width))
    bar = Image.fromarray(np.rint(_color(ramp)).astype(np.uint8))
    picture.paste(bar, (beside, top + height // 2))
    for left, text in ((beside // 2, "0"), (beside + width + beside // 2, "1")):
        brush.text((left, top + height), text, fill=INK, font=font, anchor="mm")

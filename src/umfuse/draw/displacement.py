"""A displacement as a picture: its direction and length as colour, with a legend."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from umfuse.draw.paper import INK, PAPER, letters


def flow_color(displacement: NDArray[Any], max_px: float | None = None) -> Image.Image:
    """A displacement field as an RGB picture: hue is the direction, saturation the length.

    White is no displacement, full colour is `max_px` or more, grey is NaN. Red points right,
    yellow-green down, cyan left, violet up, as the wheel in the corner shows; the number beside it
    is `max_px`.

    Args:
        displacement: (x, y) in pixels, (H, W, 2).
        max_px: Length of full colour; the longest of the field by default.

    Raises:
        ValueError: If the field has another shape or `max_px` is not positive.
    """
    field = np.asarray(displacement, dtype=np.float64)
    if field.ndim != 3 or field.shape[2] != 2 or field.size == 0:
        raise ValueError(f"expected a displacement of shape (H, W, 2), got {field.shape}")
    if max_px is not None and not max_px > 0:
        raise ValueError(
            f"expected max_px to be positive, got {max_px}; leave it out for the maximum"
        )
    if max_px is None:
        lengths = np.hypot(field[..., 0], field[..., 1])
        max_px = float(lengths.max(where=np.isfinite(lengths), initial=0.0))
    # A field of zeros is white, not rounding noise in full colour.
    picture = Image.fromarray(_direction_color(field / max(max_px, 1e-3)))
    _legend(picture, max_px)
    return picture


def _direction_color(field: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Vectors of length 0 to 1 as colours, uint8 (H, W, 3)."""
    x, y = field[..., 0], field[..., 1]
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(known, x, 0), np.where(known, y, 0)
    sector = (np.arctan2(y, x) / (2 * np.pi) * 6)[..., None]
    pure = np.clip(np.abs((sector + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    saturation = np.clip(np.hypot(x, y), 0, 1)[..., None]
    color = np.where(known[..., None], 1 - saturation * (1 - pure), 0.5)
    return np.rint(color * 255).astype(np.uint8)


def _legend(picture: Image.Image, max_px: float) -> None:
    """Draws the wheel and its number into the lower left corner, if there is room."""
    radius = min(picture.size) // 16
    if radius < 6:
        return
    turn = np.linspace(-1, 1, 2 * radius + 1)
    wheel = np.stack(np.meshgrid(turn, turn), axis=-1)
    inside = Image.fromarray(((np.hypot(wheel[..., 0], wheel[..., 1]) <= 1) * 255).astype(np.uint8))
    font = letters(max(radius * 0.7, 9))
    text = f"{max_px:.3g} px"
    brush = ImageDraw.Draw(picture)
    top = picture.height - 2 * radius - 8
    right = 2 * radius + 14 + int(brush.textlength(text, font=font))
    brush.rectangle((0, top - 4, right, picture.height), fill=PAPER)
    picture.paste(Image.fromarray(_direction_color(wheel)), (4, top), inside)
    brush.text((2 * radius + 9, top + radius), text, fill=INK, font=font, anchor="lm")

"""What all pictures are drawn on, and with: colours and letters."""

from __future__ import annotations

from PIL import ImageFont

PAPER = (24, 26, 30)
INK = (232, 234, 238)


def letters(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Returns the font of all pictures, of some pixels' height."""
    return ImageFont.load_default(size=size)

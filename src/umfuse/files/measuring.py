"""How large an image is by the head of its file, before anything is decoded."""

from __future__ import annotations

import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from umfuse.files import heif, tiff
from umfuse.files.refused import DECODE_ERRORS, HEADER


def size(path: Path) -> tuple[int, int] | None:
    """Height and width of the first image of a file, before it is turned upright.

    None if the file says nothing that is understood here; opening it says why.

    Raises:
        DecompressionBombError: If it has more than twice the pixels that Pillow trusts.
        OSError: If the file cannot be opened.
    """
    with path.open("rb") as file:
        header = file.read(HEADER)
    try:
        if heif.is_heif(header):
            return heif.size(path)
        if tiff.is_misread(header):
            return tiff.size(path)
        try:
            return _by_pillow(path)
        except UnidentifiedImageError:
            return tiff.size(path) if tiff.is_tiff(header) else None
    except DECODE_ERRORS:
        return None


def _by_pillow(path: Path) -> tuple[int, int]:
    with warnings.catch_warnings():
        # A number is what is asked for, and who asks judges it.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image: Image.Image = Image.open(path)
        with image:
            return image.height, image.width

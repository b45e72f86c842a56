"""16-bit PNG with colour or alpha, which Pillow reduces to 8 bits."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from umfuse.files.arrays import Array

logger = logging.getLogger(__name__)

_DEPTH, _KIND = 24, 25  # bytes of a file: after its signature and the name of the chunk IHDR
_GREY_ALPHA = 4


def is_deep(header: bytes) -> bool:
    """Whether a file of this beginning is a PNG that Pillow would reduce."""
    return (
        header.startswith(b"\x89PNG\r\n\x1a\n")
        and header[_DEPTH : _DEPTH + 1] == b"\x10"
        and header[_KIND] in (2, _GREY_ALPHA, 6)
    )


def read(data: bytes, path: object) -> Image.Image | Array:
    """A deep PNG, upright: colour as an array, uint16 (H, W, 3 or 4); grey without its alpha.

    Args:
        data: The whole file.
        path: What to call it in the log.
    """
    if data[_KIND] != _GREY_ALPHA:
        return _plane(data, "B") << 8 | _plane(data, "L")
    # Two numbers of 16 bits are four of 8: named RGBA, the four bytes of each pixel come as stored.
    header = bytearray(data[:33])
    header[_DEPTH], header[_KIND] = 8, 6
    header[29:] = struct.pack(">I", zlib.crc32(header[12:29]))
    image = Image.open(io.BytesIO(bytes(header) + data[33:]))
    stored = np.ascontiguousarray(ImageOps.exif_transpose(image)).view(">u2")
    logger.info("%s: the alpha channel is dropped", path)
    return Image.fromarray(stored[..., 0].astype(np.uint16))


def _plane(data: bytes, order: str) -> Array:
    """One of the two bytes of every number: Pillow keeps the one that is high in a byte order."""
    image: Any = Image.open(io.BytesIO(data))
    image.tile = [(*tile[:3], f"{image.mode};16{order}") for tile in image.tile]
    return np.asarray(ImageOps.exif_transpose(image), dtype=np.uint16)

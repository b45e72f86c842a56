"""16-bit PNG with colour or alpha, which Pillow reduces to 8 bits and does not write."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from umfuse.files import metadata
from umfuse.files.arrays import Array
from umfuse.files.metadata import Metadata

logger = logging.getLogger(__name__)

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTH, _KIND = 24, 25  # bytes of a file: after its signature and the name of the chunk IHDR
_GREY_ALPHA = 4


def is_deep(header: bytes) -> bool:
    """Whether a file of this beginning is a PNG that Pillow would reduce."""
    return (
        header.startswith(_SIGNATURE)
        and header[_DEPTH : _DEPTH + 1] == b"\x10"
        and header[_KIND] in (2, _GREY_ALPHA, 6)
    )


def read(data: bytes, path: object) -> tuple[Image.Image | Array, Metadata]:
    """A deep PNG, upright: colour as an array, uint16 (H, W, 3 or 4); grey without its alpha.

    Beside it what the file says.

    Args:
        data: The whole file.
        path: What to call it in the log.
    """
    if data[_KIND] != _GREY_ALPHA:
        said = metadata.of(Image.open(io.BytesIO(data)))
        return _plane(data, "B") << 8 | _plane(data, "L"), said
    # Two numbers of 16 bits are four of 8: named RGBA, the four bytes of each pixel come as stored.
    header = bytearray(data[:33])
    header[_DEPTH], header[_KIND] = 8, 6
    header[29:] = struct.pack(">I", zlib.crc32(header[12:29]))
    image = Image.open(io.BytesIO(bytes(header) + data[33:]))
    stored = np.ascontiguousarray(ImageOps.exif_transpose(image)).view(">u2")
    logger.info("%s: the alpha channel is dropped", path)
    return Image.fromarray(stored[..., 0].astype(np.uint16)), metadata.of(image)


def encoded(array: Array, said: Metadata) -> bytes:
    """A file of an array.

    Args:
        array: uint16 (H, W, 3 or 4).
        said: What the file is to say beside the pixels.
    """
    height, width, channels = array.shape
    rows = np.ascontiguousarray(array, dtype=">u2").view(np.uint8).reshape(height, -1)
    above = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.insert(rows - above, 0, 2, axis=1)  # each row is told that it is a difference
    kind = 2 if channels == 3 else 6
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if said.icc is not None:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(said.icc)))
    if said.exif is not None:
        chunks.append((b"eXIf", said.exif.removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _plane(data: bytes, order: str) -> Array:
    """One of the two bytes of every number: Pillow keeps the one that is high in a byte order."""
    image: Any = Image.open(io.BytesIO(data))
    image.tile = [(*tile[:3], f"{image.mode};16{order}") for tile in image.tile]
    return np.asarray(ImageOps.exif_transpose(image), dtype=np.uint16)

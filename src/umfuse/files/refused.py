"""Files that are refused, because they would not be read exactly, and what to do with them."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

from PIL import Image, TiffImagePlugin

from umfuse import lfs

# Everything that decoders are known to raise on a broken file.
DECODE_ERRORS = (
    *(ArithmeticError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError),
    *(ValueError, struct.error, zlib.error),
)
# And what NumPy is on a broken file of arrays.
ARRAY_ERRORS = (*DECODE_ERRORS, MemoryError, tokenize.TokenError, zipfile.BadZipFile)
HEADER = 4096  # bytes, in which formats tell their depth

_VIDEOS = {
    *(".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm"),
    ".wmv",
}
_RECORDINGS = {".ats", ".csq", ".seq"}  # of thermal cameras, which ffmpeg does not read
_SUBFILE, _SUB_IFDS = 254, 330  # tags of TIFF: that a page is a preview, and where pages lie in it


class Refused(ValueError):
    """A file that cannot be read exactly; the message says what to do."""


def no_images(path: Path) -> None:
    """Raises `Refused` of a file that is no image by its name, or a Git LFS pointer."""
    if message := lfs.pointer(path):
        raise Refused(message)
    suffix = path.suffix.lower()
    if suffix in _VIDEOS:
        raise Refused(
            f"{path} is a video, and an image is expected; `umfuse video` fuses the frames of two "
            "videos, and umfuse.files.video.frames gives them as arrays"
        )
    if suffix in _RECORDINGS:
        raise Refused(
            f"{path} is a recording, and an image is expected; export its frames as 16-bit TIFF "
            "with the software of the camera, and pass these"
        )


def reduced(path: Path, image: Image.Image, header: bytes) -> None:
    """Raises `Refused` of a file of which Pillow would give less than it holds in silence.

    Args:
        path: The file.
        image: As Pillow opened it.
        header: Its first `HEADER` bytes.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags: Any = image.tag_v2
        if tags.get(_SUBFILE, 0) & 1 and _SUB_IFDS in tags:
            raise Refused(
                f"{path} is a raw photograph, and what can be read of it is a preview; develop it "
                "to a 16-bit TIFF, and pass that"
            )
    # JPEG 2000: the marker SIZ, and 38 bytes further the number of channels and the first depth.
    siz = header.find(b"\xff\x4f\xff\x51")
    # AVIF: in its configuration, whether the depth is 10 or 12 bits.
    av1 = header.find(b"av1C")
    if (
        (image.format == "JPEG2000" and (siz < 0 or header[siz + 42] & 0x7F > 7))
        or (image.format == "AVIF" and (av1 < 0 or header[av1 + 6] & 0x40))
        or (image.format == "SGI" and header[3] == 2)
    ):
        raise Refused(
            f"{path} is {image.format} of more than 8 bits, which is not read exactly; convert it "
            "to a 16-bit PNG or TIFF"
        )

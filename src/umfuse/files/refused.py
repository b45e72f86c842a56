"""Files that are refused, because they would not be read exactly, and what to do with them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from umfuse import lfs

HEADER = 4096  # bytes, in which formats tell their depth

_VIDEOS = {
    *(".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm"),
    ".wmv",
}
_RECORDINGS = {".ats", ".csq", ".seq"}  # of thermal cameras, which ffmpeg does not read


class Refused(ValueError):
    """A file that cannot be read exactly; the message says what to do."""


def no_images(path: Path) -> None:
    """Raises `Refused` of a file that is no image by its name, or a Git LFS pointer."""
    if message := lfs.pointer(path):
        raise Refused(message)
    suffix = path.suffix.lower()
    if suffix in _VIDEOS:
        raise Refused(
            f"{path} is a video, and an image is expected; write its frames as images, for example "
            f"with `ffmpeg -i {path.name} frames/%05d.png`, and pass these"
        )
    if suffix in _RECORDINGS:
        raise Refused(
            f"{path} is a recording, and an image is expected; export its frames as 16-bit TIFF "
            "with the software of the camera, and pass these"
        )


def reduced(image: Image.Image, header: bytes) -> None:
    """Raises `Refused` of a file whose depth Pillow would reduce to 8 bits in silence.

    Args:
        image: As Pillow opened it.
        header: The first `HEADER` bytes of the file.
    """
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
            f"{image.format} of more than 8 bits is not read exactly; convert the file to a 16-bit "
            "PNG or TIFF"
        )

"""Radiometric JPEGs: temperatures behind the picture, and in FLIR's the photo of the same moment.

FLIR's are read by flyr (extra `flir`, licence EUPL 1.2). Of DJI's only the picture is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import numpy as np
from PIL import Image

from umfuse.files import metadata
from umfuse.files.arrays import Array
from umfuse.files.metadata import Metadata
from umfuse.files.refused import DECODE_ERRORS

logger = logging.getLogger(__name__)

# What flyr raises beside these on a file that it does not understand.
_ERRORS = (*DECODE_ERRORS, AssertionError, AttributeError)
_INSTALL = "pip install 'umfuse[flir]'"


class Thermogram(NamedTuple):
    """What a FLIR camera writes into one file.

    Attributes:
        celsius: Temperatures, float32 (h, w).
        photo: Visible image of the same moment, uint8 (H, W, 3), if there is one.
        placing: ``(3, 3)`` from pixel of the photo to pixel of `celsius`, as the camera places
            them; None without a photo.
        said: What the file says beside them.
    """

    celsius: Array
    photo: Array | None
    placing: Array | None
    said: Metadata


def maker(path: Path) -> Literal["FLIR", "DJI"] | None:
    """Returns whose radiometric JPEG a file is; None if it is none, or cannot be opened."""
    if not path.is_file():  # opening a pipe waits for its other end
        return None
    try:
        with path.open("rb") as file:
            made_by_dji = False
            for kind, start in _segments(file):
                if kind == 0xE1 and start.startswith(b"FLIR\0"):
                    return "FLIR"
                made_by_dji |= kind == 0xE1 and b"DJI" in start
                if kind == 0xE3 and made_by_dji:
                    return "DJI"
    except OSError:
        return None
    return None


def is_readable(path: Path) -> bool:
    """Says whether the temperatures of a file can be read: FLIR's, with flyr."""
    return maker(path) == "FLIR" and _flyr() is not None


def thermogram(path: Path, name: str) -> Thermogram:
    """Reads all of a FLIR radiometric JPEG.

    Args:
        path: The file.
        name: What to call the image in errors.

    Raises:
        ValueError: If flyr is not installed, or it cannot read the file.
    """
    library = _flyr()
    if library is None:
        raise ValueError(
            f"{name}: {path} is a FLIR radiometric JPEG, whose temperatures and photo need flyr: "
            f"{_INSTALL}"
        )
    try:
        found = library.unpack(str(path))
        celsius = np.asarray(found.celsius, dtype=np.float32)
        photo = None if found.optical is None else np.asarray(found.optical, dtype=np.uint8)
        placed = found.pip_info
        image: Image.Image = Image.open(path)
        with image:
            said = metadata.of(image)._replace(icc=None)  # which is of the picture made of them
    except _ERRORS as error:
        raise ValueError(
            f"{name}: {path} is a FLIR radiometric JPEG that flyr cannot read ({error}); copy it "
            "again from the camera, or export it as TIFF"
        ) from error
    placing = None
    if photo is not None and placed is not None and placed.real_to_ir > 0:
        shift = (float(placed.offset_x), float(placed.offset_y))
        placing = factory_placing(celsius.shape, photo.shape, float(placed.real_to_ir), shift)
    return Thermogram(celsius, photo, placing, said)


def factory_placing(
    thermal: tuple[int, ...], photo: tuple[int, ...], ratio: float, shift: tuple[float, float]
) -> Array:
    """Returns where a FLIR camera sees the pixels of its photo in its thermal image, ``(3, 3)``.

    The thermal image fills 1 / `ratio` of the width of the photo, around a point that is `shift`
    (Real2IR, OffsetX and OffsetY of the file) away from the middle of the photo.

    Args:
        thermal: Height and width of the thermal image.
        photo: Height and width of the photo.
        ratio: Field of view of the photo over that of the thermal image.
        shift: (x, y) in pixels of the photo.
    """
    scale = thermal[1] / photo[1] * ratio
    # Of pixel edges, which the images are measured by: half a pixel before the centre of the first.
    x, y = (
        inner / 2 - 0.5 - scale * (outer / 2 + moved - 0.5)
        for inner, outer, moved in zip(thermal[1::-1], photo[1::-1], shift, strict=True)
    )
    return np.array([[scale, 0, x], [0, scale, y], [0, 0, 1]])


def celsius(path: Path, name: str) -> tuple[Image.Image, Metadata] | None:
    """Returns the temperatures behind a picture, as an image of mode F, and what its file says.

    None if there are none to read.

    Where there are some that cannot be read the log says so.

    Raises:
        ValueError: If flyr cannot read the file.
    """
    if is_readable(path):
        logger.info("%s: %s is a FLIR radiometric JPEG, read in degrees Celsius", name, path)
        found = thermogram(path, name)
        return Image.fromarray(found.celsius), found.said
    whose = maker(path)
    if whose == "FLIR":
        logger.warning(
            "%s: %s holds temperatures, which need flyr (%s); the picture that the camera made of "
            "them is used",
            *(name, path, _INSTALL),
        )
    elif whose == "DJI":
        logger.warning(
            "%s: %s holds temperatures, which only DJI's software reads; the picture that the "
            "camera made of them is used. To have them, write a TIFF or an array of degrees with "
            "dji_irp of the DJI Thermal SDK (docs/cameras.md)",
            *(name, path),
        )
    return None


def photo(path: Path, name: str) -> tuple[Image.Image, Metadata] | None:
    """Returns the photo inside a FLIR radiometric JPEG, and what the file says; None without."""
    if maker(path) != "FLIR":
        return None
    found = None if _flyr() is None else thermogram(path, name)
    inside = None if found is None else found.photo
    used = "the photo inside" if inside is not None else "its picture, not a photo inside,"
    logger.warning("%s: %s is a FLIR radiometric JPEG; %s is used", name, path, used)
    return None if found is None or inside is None else (Image.fromarray(inside), found.said)


def _segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yields the kind and the first bytes of the segments before the pixels of a JPEG."""
    if file.read(2) != b"\xff\xd8":
        return
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xDA:
        length = int.from_bytes(head[2:], "big") - 2
        start = file.read(min(max(length, 0), 4096))
        file.seek(length - len(start), 1)
        yield head[1], start


def _flyr() -> Any:  # noqa: ANN401  (no complete type stubs)
    """The module flyr, or None without the extra `flir`."""
    try:
        import flyr
    except ImportError:
        return None
    return flyr

"""Image files are opened whole, upright and exactly, or not at all."""

from __future__ import annotations

import contextlib
import logging
import stat
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from umfuse.files import bands, heif, metadata, png, pnm, refused, tiff
from umfuse.files.arrays import NODATA_NAME, Array, number
from umfuse.files.bands import Band
from umfuse.files.metadata import NOTHING, Metadata
from umfuse.files.refused import DECODE_ERRORS

logger = logging.getLogger(__name__)

Opened: TypeAlias = tuple[Image.Image | Array, Metadata]


def open_image(path: Path, name: str, band: Band | None = None) -> Opened:
    """The first frame of a file, upright, and what the file says beside its pixels.

    A PIL image, or an array if PIL has no such mode.

    Args:
        path: The file; one that `existing` has found.
        name: What to call the image in errors and in the log.
        band: Which page of a file of several pages, or which channel of another one; three for
            colour.

    Raises:
        TypeError: If `band` is not of integers.
        ValueError: If the contents of the file cannot be used, or not exactly; if there is no such
            band.
        OSError: If the file cannot be opened.
    """
    try:
        handle = path.open("rb")
    except OSError as error:
        raise _unopened(path, name, error) from error
    # Orientation needs the file, so it is applied while the file is open.
    with handle:
        with _told(path, name):
            count, frame = _frames(handle, path)
        pages = [0]
        if count > 1 and band is None:
            logger.warning(
                "%s: %s has %d pages, the first is used; %s",
                *(name, path, count, bands.remedy(count, name)),
            )
        elif count > 1 and band is not None:
            pages, band = bands.numbers(band, count, name), None
        with _told(path, name):
            frames = [frame(page) for page in pages]
    image = bands.stacked([image for image, _ in frames], name)
    image = image if band is None else bands.of_image(image, band, name)
    return image, frames[0][1]


def existing(path: Path, name: str) -> None:
    """Looks for a file.

    Args:
        path: Where it should be.
        name: What to call the image in errors.

    Raises:
        ValueError: If this can be no path, or there is a pipe or a device, which cannot be read
            twice or never ends.
        OSError: If there is nothing, a folder, or what nobody may look at.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: expected an image file, but {path} does not exist; check the path"
        ) from error
    except OSError as error:
        raise _unopened(path, name, error) from error
    except ValueError as error:
        raise ValueError(
            f"{name}: expected the path of an image file, got {str(path)!r} ({error})"
        ) from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(
            f"{name}: expected an image file, got the folder {path}; pass its files one by one"
        )
    if not stat.S_ISREG(mode):
        raise ValueError(
            f"{name}: expected an image file, but {path} is a pipe or a device; save what it gives "
            "to a file"
        )


def _unopened(path: Path, name: str, error: OSError) -> OSError:
    return OSError(error.errno, f"{name}: cannot open the image file: {error.strerror}", str(path))


def _frames(file: BinaryIO, path: Path) -> tuple[int, Callable[[int], Opened]]:
    """How many frames a file has, and what reads one of them, upright."""
    refused.no_images(path)
    header = file.read(refused.HEADER)
    file.seek(0)
    if heif.is_heif(header):
        return 1, lambda _: heif.read(file, path)
    if png.is_deep(header):
        return 1, lambda _: png.read(file.read(), path)
    if pnm.is_deep(header):
        return 1, lambda _: (pnm.read(file.read()), NOTHING)
    if tiff.is_misread(header):
        return tiff.count(path), lambda page: (tiff.read(path, page), NOTHING)
    try:
        image = Image.open(file)
    except UnidentifiedImageError:
        if not tiff.is_tiff(header) or tiff.library() is None:
            raise
        return tiff.count(path), lambda page: (tiff.read(path, page), metadata.of_tiff(path))
    refused.reduced(path, image, header)

    def frame(page: int) -> Opened:
        image.seek(page)
        if isinstance(image, TiffImagePlugin.TiffImageFile) and not tiff.exact(image):
            return tiff.read(path, page), metadata.of(image)
        return _upright(image)

    # In MPO, a phone's JPEG, the frames after the first are previews.
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1), frame


@contextlib.contextmanager
def _told(path: Path, name: str) -> Generator[None]:
    """Errors of reading a file, in our words."""
    try:
        yield
    except refused.Refused as error:
        raise ValueError(f"{name}: {error}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{name}: {path} has more pixels than Pillow trusts ({error}); "
            "if you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{name}: expected an image file, but {path} is in no format that can be read; "
            "convert it to PNG or TIFF (pip install 'umfuse[tiff]' reads more kinds of TIFF)"
        ) from error
    except DECODE_ERRORS as error:
        raise ValueError(
            f"{name}: {path} is truncated or damaged ({error}); copy or export it again"
        ) from error


def upright(image: Image.Image, name: str) -> tuple[Image.Image, Metadata]:
    """A PIL image that the caller opened, decoded and turned as its EXIF orientation says.

    Beside it what its file says.

    Args:
        image: The image, its file still open if it is not decoded yet.
        name: What to call the image in errors.

    Raises:
        ValueError: If the image cannot be decoded, or not exactly.
    """
    if _is_inexact(image):
        raise ValueError(
            f"{name}: Pillow does not read this {image.format} exactly; pass the path of its file"
        )
    try:
        return _upright(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: more pixels than Pillow trusts ({error})") from error
    except DECODE_ERRORS as error:
        raise ValueError(
            f"{name}: the PIL image cannot be decoded ({error}); "
            "its file is truncated, damaged or closed"
        ) from error


def declare_nodata(image: Image.Image, value: float) -> None:
    """Says which value of an image is no data, which a TIFF of it says too."""
    image.info[NODATA_NAME] = f"{value:.17g}"


def declared_nodata(image: Image.Image) -> float | None:
    """The value of an upright image that it, or its file, says is no data; None if neither does."""
    return number(image.info.get(NODATA_NAME))


def _is_inexact(image: Image.Image) -> bool:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return not tiff.exact(image)
    if isinstance(image, PngImagePlugin.PngImageFile):
        return len(image.getbands()) > 1 and any(";16" in str(tile[3]) for tile in image.tile)
    return False


def _upright(image: Image.Image) -> tuple[Image.Image, Metadata]:
    # Pillow turns a TIFF while decoding it; asked before, exif_transpose would turn it again.
    # Of a TIFF they lie in the file, which is closed then; of a PNG they may come after the pixels.
    said = metadata.of(image) if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    image.load()
    said = metadata.of(image) if said is None else said
    upright = ImageOps.exif_transpose(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and tiff.NODATA in image.tag_v2:
        upright.info[NODATA_NAME] = image.tag_v2[tiff.NODATA]
    return upright, said

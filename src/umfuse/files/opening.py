"""Image files are opened whole and upright."""

from __future__ import annotations

import logging
from pathlib import Path

from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from umfuse.files import tiff
from umfuse.files.tiff import DECODE_ERRORS, Array

logger = logging.getLogger(__name__)


def open_image(path: Path, name: str) -> Image.Image | Array:
    """The first frame of a file, upright: a PIL image, or an array if PIL has no such mode.

    Args:
        path: The file.
        name: What to call the image in errors and in the log.

    Raises:
        ValueError: If the contents of the file cannot be used.
        OSError: If the file cannot be opened.
    """
    if path.is_dir():
        raise IsADirectoryError(
            f"{name}: expected an image file, got the folder {path}; pass its files one by one"
        )
    try:
        handle = path.open("rb")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: expected an image file, but {path} does not exist; check the path"
        ) from error
    except OSError as error:
        raise OSError(
            error.errno, f"{name}: cannot open the image file: {error.strerror}", str(path)
        ) from error
    with handle:
        header = handle.read(26)
        handle.seek(0)
        try:
            image = Image.open(handle)
            # In MPO, a phone's JPEG, the frames after the first are previews.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                logger.warning("%s: %s has several frames, the first is used", name, path)
            if _is_deep_colour(image, header):
                deep = tiff.read(path) if image.format == "TIFF" else None
                if deep is not None:
                    return deep
                logger.warning(
                    "%s: %s has 16-bit colour, which is read as 8-bit; to keep 16 bits, pass an "
                    "array, or a TIFF with umfuse[tiff] installed",
                    name,
                    path,
                )
            # Orientation needs the file, so it is applied while the file is open.
            return _upright(image)
        except Image.DecompressionBombError as error:
            raise ValueError(
                f"{name}: {path} has more pixels than Pillow trusts ({error}); "
                "if you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS"
            ) from error
        except UnidentifiedImageError as error:
            deep = tiff.read(path) if path.suffix.lower() in {".tif", ".tiff"} else None
            if deep is not None:
                return deep
            raise ValueError(
                f"{name}: expected an image file, but {path} is in no format that can be read; "
                "convert it to PNG or TIFF (pip install 'umfuse[tiff]' reads more kinds of TIFF)"
            ) from error
        except DECODE_ERRORS as error:
            raise ValueError(
                f"{name}: {path} is truncated or damaged ({error}); copy or export it again"
            ) from error


def upright(image: Image.Image, name: str) -> Image.Image:
    """A PIL image that the caller opened, decoded and turned as its EXIF orientation says.

    Args:
        image: The image, its file still open if it is not decoded yet.
        name: What to call the image in errors.

    Raises:
        ValueError: If the image cannot be decoded.
    """
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
    image.info[tiff.NODATA_NAME] = f"{value:.17g}"


def declared_nodata(image: Image.Image) -> float | None:
    """The value of an upright image that it, or its file, says is no data; None if neither does."""
    return tiff.number(image.info.get(tiff.NODATA_NAME))


def _upright(image: Image.Image) -> Image.Image:
    # Pillow turns a TIFF while decoding it; asked before, exif_transpose would turn it again.
    image.load()
    upright = ImageOps.exif_transpose(image)
    if isinstance(image, TiffImagePlugin.TiffImageFile) and tiff.NODATA in image.tag_v2:
        upright.info[tiff.NODATA_NAME] = image.tag_v2[tiff.NODATA]
    return upright


def _is_deep_colour(image: Image.Image, header: bytes) -> bool:
    """Whether the colours have more than 8 bits, which Pillow reduces to 8 in silence."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(258, (1,))  # BitsPerSample
        return len(bits) > 1 and max(bits) > 8
    if isinstance(image, PngImagePlugin.PngImageFile):
        # Signature, then IHDR: the depth is byte 24, the colour type byte 25.
        return len(header) == 26 and header[24] == 16 and header[25] in (2, 4, 6)
    return False

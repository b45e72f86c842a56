"""TIFF: what Pillow reads exactly, and what tifffile does, if the extra `tiff` is installed."""

from __future__ import annotations

import contextlib
import io
import logging
import struct
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from umfuse.files.arrays import NODATA_NAME, Array, as_pil
from umfuse.files.metadata import Metadata
from umfuse.files.refused import Refused

logger = logging.getLogger(__name__)

NODATA = 42113  # GDAL_NODATA: the tag that says which value is no data, as text

_BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _CHANNELS, _PLANAR = 258, 259, 262, 274, 277, 284
_EXTRA, _SAMPLE, _DEPTH = 338, 339, 32997
_ALPHA = {1, 2}  # in ExtraSamples: associated, unassociated
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_ENTRY = 12  # bytes of an entry of a directory
_COLOURS = _DARK_IS_HIGH, _DARK_IS_LOW, _RGB = 0, 1, 2


def library() -> Any:  # noqa: ANN401  (no complete type stubs)
    """The module tifffile, or None without the extra `tiff`."""
    try:
        import tifffile
    except ImportError:
        return None
    return tifffile


def is_tiff(header: bytes) -> bool:
    """Whether a file of this beginning is a TIFF."""
    return header[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_misread(header: bytes) -> bool:
    """Whether it is a big-endian BigTIFF, in which Pillow finds tags that are not there."""
    return header.startswith(b"MM\0+")


def exact(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether Pillow reads the page that it is at exactly, as `benchmarks.files` has found."""
    tags: Any = image.tag_v2
    channels = tags.get(_CHANNELS, 1)
    kind = (tags.get(_SAMPLE, (_UNSIGNED,))[0], tags.get(_BITS, (1,))[0])
    if tags.get(_DEPTH, 1) > 1:  # a volume
        return False
    if channels > 2:
        return kind == (_UNSIGNED, 8) and channels <= 4
    if channels == 2:
        alpha = tags.get(_EXTRA, (0,))[0] in _ALPHA
        return kind == (_UNSIGNED, 8) and alpha and tags.get(_PLANAR, 1) == 1
    if kind[0] == _UNSIGNED:
        return kind[1] <= 8 or (
            kind[1] in (12, 16) and tags.get(_PHOTOMETRIC, _DARK_IS_LOW) == _DARK_IS_LOW
        )
    # Compressed and with the high byte first, Pillow exchanges bytes that are in order.
    straight = tags.prefix == b"II" or tags.get(_COMPRESSION, 1) == 1
    return straight and kind in ((_SIGNED, 16), (_SIGNED, 32), (_FLOAT, 32))


def count(path: Path) -> int:
    """The number of pages.

    Raises:
        Refused: Without the extra `tiff`.
        ValueError: If the file is damaged.
    """
    with _opened(path) as file:
        return len(file.pages)


def size(path: Path) -> tuple[int, int]:
    """Height and width of the first page, before it is turned upright.

    Raises:
        Refused: Without the extra `tiff`.
        ValueError: If the file is damaged.
    """
    with _opened(path) as file:
        page = file.pages[0]
        return int(page.imagelength), int(page.imagewidth)


def read(path: Path, number: int = 0) -> Image.Image | Array:
    """A page of a TIFF through tifffile, upright.

    Raises:
        Refused: Without the extra `tiff`, or if its kind cannot be read exactly.
        DecompressionBombError: If it has more pixels than Pillow trusts.
        ValueError: If the file is damaged.
    """
    with _opened(path) as file:
        page = file.pages[number]
        pixels, most = page.imagewidth * page.imagelength, Image.MAX_IMAGE_PIXELS
        # As Pillow counts, in as many channels as its images have.
        if most is not None and (pixels > 2 * most or page.size > 8 * most):
            raise Image.DecompressionBombError(f"{pixels} pixels in {page.samplesperpixel} bands")
        array: Array = page.asarray()
        tags = {code: tag.value for code in (_ORIENTATION, NODATA) if (tag := page.tags.get(code))}
    if page.axes not in ("YX", "YXS", "SYX") or page.photometric not in _COLOURS:
        raise Refused(
            f"{path} is a TIFF of axes {page.axes} and colours "
            f"{getattr(page.photometric, 'name', page.photometric)}, which is not read exactly; "
            "convert it to grey or RGB"
        )
    if page.bitspersample < 8:
        array = array.astype(np.uint8) * np.uint8(255 // (2**page.bitspersample - 1))
    if page.photometric == _DARK_IS_HIGH and array.dtype.kind == "u":
        array = np.iinfo(array.dtype).max - array
    if page.axes == "SYX":
        array = np.moveaxis(array, 0, -1)
    opacity = array.ndim == 3 and array.shape[2] == 2 and not _ALPHA.isdisjoint(page.extrasamples)
    if opacity and array.dtype != np.uint8:
        logger.info("%s: the alpha channel is dropped", path)
        array, opacity = array[..., 0], False
    orientation, nodata = tags.get(_ORIENTATION, 1), tags.get(NODATA)
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return Image.fromarray(np.ascontiguousarray(array)) if opacity else as_pil(array, nodata)


def write(file: BinaryIO, image: Image.Image | Array, said: Metadata) -> None:
    """Writes an image, by tifffile if it is an array.

    Args:
        file: Open for writing and reading, empty.
        image: A PIL image, or an array (H, W, 3 or 4) of any depth, or (H, W).
        said: What the file is to say beside the pixels.
    """
    if isinstance(image, Image.Image):
        options: dict[str, Any] = {"compression": "tiff_deflate", "icc_profile": said.icc}
        if NODATA_NAME in image.info:
            options["tiffinfo"] = {NODATA: image.info[NODATA_NAME]}
        image.save(file, "TIFF", **options)
    else:
        colours = {"photometric": "rgb" if image.ndim == 3 else "minisblack"}
        if image.ndim == 3 and image.shape[2] == 4:
            colours["extrasamples"] = "unassalpha"
        library().imwrite(file, image, iccprofile=said.icc, **colours)
    if said.exif is not None:
        _describe(file, said.exif)


def _describe(file: BinaryIO, exif: bytes) -> None:
    """Adds EXIF to the first page of a TIFF: its directory is written again, at the end.

    Pillow does it for files that are not compressed, tifffile not at all.
    """
    file.seek(0)
    header = file.read(8)
    order = "<" if header.startswith(b"II") else ">"
    magic, place = struct.unpack(f"{order}HI", header[2:])
    if magic != 42:
        logger.warning("a TIFF of more than 4 GiB is written without its EXIF")
        return
    file.seek(place)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    entries = [file.read(_ENTRY) for _ in range(count)]
    following = file.read(4)

    found = Image.Exif()
    found.load(exif)
    added = TiffImagePlugin.ImageFileDirectory_v2(header)
    for tag, value in {**found, **{tag: found.get_ifd(tag) for tag in _DIRECTORIES}}.items():
        if value:
            added[tag] = value
    end = file.seek(0, io.SEEK_END)
    end += end % 2  # directories begin at even places
    block = added.tobytes(end)
    (count,) = struct.unpack(f"{order}H", block[:2])
    entries += [block[2 + _ENTRY * at :][:_ENTRY] for at in range(count)]

    directory = {struct.unpack(f"{order}H", entry[:2])[0]: entry for entry in entries}
    file.seek(end)
    file.write(block + b"\0" * (len(block) % 2) + struct.pack(f"{order}H", len(directory)))
    file.write(b"".join(directory[tag] for tag in sorted(directory)) + following)
    file.seek(4)
    file.write(struct.pack(f"{order}I", end + len(block) + len(block) % 2))
    file.seek(0, io.SEEK_END)


@contextlib.contextmanager
def _opened(path: Path) -> Generator[Any]:
    """A TIFF that tifffile has open, whose errors are told in our words."""
    tifffile = library()
    if tifffile is None:
        raise _lacking("tifffile", path)
    try:
        with tifffile.TiffFile(path) as file:
            yield file
    except (KeyError, RuntimeError, ValueError, tifffile.TiffFileError) as error:
        if "requires the 'imagecodecs' package" in str(error):
            raise _lacking("imagecodecs", path) from error
        raise ValueError(error) from error


def _lacking(module: str, path: Path) -> Refused:
    return Refused(f"{path} is a kind of TIFF that needs {module}: pip install 'umfuse[tiff]'")

"""TIFF through tifffile, if the extra `tiff` is installed."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from umfuse import missing

logger = logging.getLogger(__name__)

Array: TypeAlias = NDArray[Any]

NODATA, NODATA_NAME = 42113, "GDAL_NODATA"  # the tag that says which value is no data, as text

# Everything that decoders are known to raise on a broken file.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def library() -> Any:  # noqa: ANN401  (no complete type stubs)
    """The module tifffile, or None without the extra `tiff`."""
    try:
        import tifffile
    except ImportError:
        return None
    return tifffile


def read(path: Path) -> Image.Image | Array | None:
    """The first page of a TIFF through tifffile, upright; None if tifffile cannot read it."""
    tifffile = library()
    if tifffile is None:
        return None
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            array: Array = page.asarray()
            if page.axes == "SYX":
                array = np.moveaxis(array, 0, -1)
            tag = page.tags.get(274)
            orientation = int(tag.value) if tag is not None else 1
            tag = page.tags.get(NODATA)
            nodata = tag.value if tag is not None else None
    except (*DECODE_ERRORS, tifffile.TiffFileError, RuntimeError, KeyError) as error:
        logger.warning("%s: tifffile cannot read it (%s)", path, error)
        return None
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if array.ndim == 2 and array.dtype.kind == "f":
        image = Image.fromarray(np.ascontiguousarray(array, dtype=np.float32))
        if nodata is not None:
            image.info[NODATA_NAME] = nodata
        return image
    return missing.masked(array, number(nodata))


def number(nodata: object) -> float | None:
    """The number that the text of the tag GDAL_NODATA is; None if it is none."""
    try:
        return float(str(nodata).strip("\0 "))
    except ValueError:
        return None

"""Pixels of a file as an array, and as a PIL image where PIL has such a mode."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from umfuse import missing

Array: TypeAlias = NDArray[Any]

NODATA_NAME = "GDAL_NODATA"  # the key in `info` of what says which value is no data


def as_pil(array: Array, nodata: object = None) -> Image.Image | Array:
    """A PIL image, or an array where PIL has no such mode: colour of more than 8 bits, int8, ...

    Args:
        array: (H, W) or (H, W, C).
        nodata: What says which value is no data, as text.
    """
    if array.ndim == 2:
        # PIL has neither float64 nor int16.
        wider = {"float16": "float32", "float64": "float32", "int16": "int32"}
        dtype: Any = array.dtype
        with np.errstate(over="ignore"):  # what is beyond float32 is refused, or no data
            array = array.astype(wider.get(dtype.name, dtype.newbyteorder("=")), copy=False)
    plain = array.dtype in ("uint8", "uint16", "int32", "float32")
    if plain if array.ndim == 2 else array.dtype == np.uint8 and array.shape[2] in (3, 4):
        image = Image.fromarray(np.ascontiguousarray(array))
        if nodata is not None:
            image.info[NODATA_NAME] = nodata
        return image
    return missing.masked(array, number(nodata))


def as_array(image: Image.Image | Array) -> Array:
    """The pixels of an image; those of palettes are expanded."""
    if not isinstance(image, Image.Image):
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    return np.asarray(image)


def number(nodata: object) -> float | None:
    """The number that the text of the tag GDAL_NODATA is; None if it is none."""
    try:
        return float(str(nodata).strip("\0 "))
    except ValueError:
        return None

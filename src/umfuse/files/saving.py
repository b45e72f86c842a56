"""Images are written to files as they were given back."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from umfuse.files import metadata, png, tiff
from umfuse.files.arrays import Array
from umfuse.files.metadata import NOTHING, Metadata
from umfuse.files.replacing import replacing

logger = logging.getLogger(__name__)

FLOAT_SLACK = 1e-3  # overshoot that a float image in [0, 1] may have from an earlier resampling

# Formats that keep more than 8 bits, by the PIL mode that they must hold.
_DEEP_FORMATS = {"I;16": {"PNG", "TIFF", "PPM"}, "I": {"TIFF"}, "F": {"TIFF"}}
_OPAQUE_FORMATS = {"BMP", "DIB", "EPS", "JPEG", "MPO", "PCX", "PPM"}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}


def save(
    image: Image.Image | Array | Tensor,
    path: str | os.PathLike[str],
    said: Metadata | None = None,
) -> None:
    """Writes an image as it was given back to a file, completely or not at all.

    The suffix names the format. 16 bits stay 16 bits in PNG and TIFF, floats stay floats in TIFF;
    int8, int16, uint32, 16-bit and float colour need the extra `tiff` there. Floats in [0, 1] are
    rounded to 8 bits in the other formats. Opacity is dropped, with a warning, where a format has
    none. The file is written beside its target and renamed when it is complete: an error leaves an
    existing target as it was and no other file behind.

    Args:
        image: A PIL image, an array (H, W) or (H, W, C), or a tensor (H, W), (C, H, W) or
            (1, C, H, W).
        path: Where to; the folder must exist.
        said: What the file is to say beside the pixels, if its format can: ICC profile and EXIF; by
            default what a PIL image has in its ``info``.

    Raises:
        TypeError: If the image is of another type or dtype.
        ValueError: If the suffix is unknown, or the format cannot hold the image without loss of
            depth.
        OSError: If the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    format = Image.registered_extensions().get(suffix, "")
    if format not in Image.SAVE:
        raise ValueError(
            f"cannot write {path}: expected a suffix such as .png, .tif, .jpg or .bmp, got "
            f"{suffix!r}"
        )
    if said is None:
        said = metadata.carried(image) if isinstance(image, Image.Image) else NOTHING
    content = _encodable(image, format, path)
    channels = len(content.getbands()) if isinstance(content, Image.Image) else content.shape[-1]
    said = said.fitting(channels if isinstance(content, Image.Image) or content.ndim > 2 else 1)
    with replacing(path) as file:
        if format == "TIFF":
            tiff.write(file, content, said)
        elif isinstance(content, Image.Image):
            # Told also that there is none: Pillow would take a profile that does not fit.
            about: dict[str, Any] = {"icc_profile": said.icc, "exif": said.exif or b""}
            content.save(file, format, **_SAVE_OPTIONS.get(format, {}), **about)
        else:
            file.write(png.encoded(content, said))


def _encodable(
    image: Image.Image | Array | Tensor, format: str, path: object
) -> Image.Image | Array:
    """A PIL image in a mode that the format holds, or an array for tifffile or `png.encoded`."""
    if isinstance(image, Tensor):
        image = _tensor_to_array(image, path)
    if isinstance(image, np.ndarray):
        image = _array_to_pil(image, format, path)
        if isinstance(image, np.ndarray):
            return image
    if not isinstance(image, Image.Image):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"cannot write {path}: expected a PIL image, a NumPy array or a torch tensor, got "
            f"{type(image).__name__}"
        )
    if format in _OPAQUE_FORMATS and image.mode in ("LA", "RGBA"):
        logger.warning("%s: %s has no opacity, the alpha channel is dropped", path, format)
        image = image.convert(image.mode[:-1])
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    if format in _DEEP_FORMATS.get(mode, {format}):
        return image
    if mode == "F":
        return Image.fromarray(_to_8_bit(np.asarray(image), format, path))
    raise ValueError(
        f"cannot write {path}: {format} cannot hold {'16' if mode == 'I;16' else '32'}-bit grey; "
        f"save it as {'.png or .tif' if mode == 'I;16' else '.tif'}, or convert it to 8 bits first"
    )


def _tensor_to_array(tensor: Tensor, path: object) -> Array:
    tensor = tensor.detach()
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim not in (2, 3):
        raise ValueError(
            f"cannot write {path}: expected one image, (H, W), (C, H, W) or (1, C, H, W), "
            f"got shape {tuple(tensor.shape)}; save the images of a batch one by one"
        )
    if tensor.dtype == torch.bfloat16:  # unknown to NumPy
        tensor = tensor.float()
    return (tensor if tensor.ndim == 2 else tensor.movedim(0, -1)).cpu().numpy()


def _array_to_pil(array: Array, format: str, path: object) -> Image.Image | Array:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if (
        array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] not in (3, 4))
        or array.size == 0
    ):
        raise ValueError(
            f"cannot write {path}: expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"got shape {array.shape}"
        )
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
        if format != "TIFF":
            array = _to_8_bit(array, format, path)
    dtype = np.dtype(array.dtype.type)
    plain = dtype.name in ("uint8", "uint16", "int32", "float32")
    if not plain and dtype.name not in ("int8", "int16", "uint32"):
        raise TypeError(
            f"cannot write {path}: expected integers of up to 32 bits or floats, got "
            f"{array.dtype}; cast the image first"
        )
    array = np.ascontiguousarray(array, dtype=dtype)
    if dtype == np.uint8 or (plain and array.ndim == 2):
        return Image.fromarray(array)
    if dtype == np.uint16 and format == "PNG":
        return array
    what = f"{'colour' if array.ndim == 3 else 'grey'} of {array.dtype}"
    if format != "TIFF":
        raise ValueError(
            f"cannot write {path}: {format} cannot hold {what} here; "
            "save it as .tif, or convert it to 8 bits first"
        )
    if tiff.library() is None:
        raise ValueError(
            f"cannot write {path}: {what} needs tifffile; "
            "pip install 'umfuse[tiff]', or convert it to 8 bits first"
        )
    return array


def _to_8_bit(array: Array, format: str, path: object) -> Array:
    if not (
        array.min() >= -FLOAT_SLACK and array.max() <= 1 + FLOAT_SLACK
    ):  # written so that NaN fails
        raise ValueError(
            f"cannot write {path}: {format} cannot hold floats, and these are not in [0, 1]; "
            "save it as .tif, or scale it to [0, 1] first"
        )
    logger.info("%s: floats in [0, 1] are written as 8 bits, save as .tif to keep them", path)
    return np.clip(np.rint(array * 255), 0, 255).astype(np.uint8)

"""Image files: opened whole and upright, written completely or not at all.

Pillow reads and writes them; tifffile, if it is installed, the TIFFs that Pillow cannot.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import struct
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

__all__ = ["open_image", "replacing", "save", "upright"]

logger = logging.getLogger(__name__)

Array: TypeAlias = NDArray[Any]

FLOAT_SLACK = 1e-3  # overshoot that a float image in [0, 1] may have from an earlier resampling

# Everything that Pillow's decoders are known to raise on a broken file.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)

# Formats that keep more than 8 bits, by the PIL mode that they must hold.
_DEEP_FORMATS = {"I;16": {"PNG", "TIFF", "PPM"}, "I": {"TIFF"}, "F": {"TIFF"}}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_deflate"},
}


# ---- opening -----------------------------------------------------------------------


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
                deep = _read_tiff(path) if image.format == "TIFF" else None
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
            deep = _read_tiff(path) if path.suffix.lower() in {".tif", ".tiff"} else None
            if deep is not None:
                return deep
            raise ValueError(
                f"{name}: expected an image file, but {path} is in no format that can be read; "
                "convert it to PNG or TIFF (pip install 'umfuse[tiff]' reads more kinds of TIFF)"
            ) from error
        except _DECODE_ERRORS as error:
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
    except _DECODE_ERRORS as error:
        raise ValueError(
            f"{name}: the PIL image cannot be decoded ({error}); "
            "its file is truncated, damaged or closed"
        ) from error


def _upright(image: Image.Image) -> Image.Image:
    # Pillow turns a TIFF while decoding it; asked before, exif_transpose would turn it again.
    image.load()
    return ImageOps.exif_transpose(image)


def _is_deep_colour(image: Image.Image, header: bytes) -> bool:
    """Whether the colours have more than 8 bits, which Pillow reduces to 8 in silence."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(258, (1,))  # BitsPerSample
        return len(bits) > 1 and max(bits) > 8
    if isinstance(image, PngImagePlugin.PngImageFile):
        # Signature, then IHDR: the depth is byte 24, the colour type byte 25.
        return len(header) == 26 and header[24] == 16 and header[25] in (2, 4, 6)
    return False


def _tifffile() -> Any:  # noqa: ANN401  (no complete type stubs)
    """The module tifffile, or None without the extra `tiff`."""
    try:
        import tifffile
    except ImportError:
        return None
    return tifffile


def _read_tiff(path: Path) -> Image.Image | Array | None:
    """The first page of a TIFF through tifffile, upright; None if tifffile cannot read it."""
    library = _tifffile()
    if library is None:
        return None
    try:
        with library.TiffFile(path) as file:
            page = file.pages[0]
            array: Array = page.asarray()
            if page.axes == "SYX":
                array = np.moveaxis(array, 0, -1)
            tag = page.tags.get(274)
            orientation = int(tag.value) if tag is not None else 1
    except (*_DECODE_ERRORS, library.TiffFileError, RuntimeError, KeyError) as error:
        logger.warning("%s: tifffile cannot read it (%s)", path, error)
        return None
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if array.ndim == 2 and array.dtype.kind == "f":
        return Image.fromarray(np.ascontiguousarray(array, dtype=np.float32))
    return array


# ---- saving ------------------------------------------------------------------------


def save(image: Image.Image | Array | Tensor, path: str | os.PathLike[str]) -> None:
    """Writes an image as it was given back to a file, completely or not at all.

    The suffix names the format. 16-bit grey stays 16-bit in PNG and TIFF, floats stay floats in
    TIFF, 16-bit and float colour need TIFF and the extra `tiff`. Floats in [0, 1] are rounded to 8
    bits in the other formats. The file is written beside its target and renamed when it is
    complete: an error leaves an existing target as it was and no other file behind.

    Args:
        image: A PIL image, an array (H, W) or (H, W, C), or a tensor (H, W), (C, H, W) or
            (1, C, H, W).
        path: Where to; the folder must exist.

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
    content = _encodable(image, format, path)
    with replacing(path) as file:
        if isinstance(content, Image.Image):
            content.save(file, format, **_SAVE_OPTIONS.get(format, {}))
        else:
            _tifffile().imwrite(file, content, photometric="rgb")


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[BinaryIO]:
    """Gives a file to write that takes the place of another one when it is complete.

    Args:
        path: The file to be; its folder must exist.

    Raises:
        ValueError: If what writes to it says that the format cannot hold the image.
        OSError: If it cannot be written; what was there is as it was.
    """
    target = Path(os.path.realpath(path))  # a link stays a link to the new file
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {path}: the folder {target.parent} does not exist; create it first"
        )
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder; name a file in it")
    # In the same folder, so that the rename is atomic; not by tempfile, which ignores the umask.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with partial.open("x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        if error.errno is None:  # Pillow's way to say that the format has no such mode
            raise ValueError(
                f"cannot write {path}: {error}; convert the image, or choose another format"
            ) from error
        raise OSError(
            error.errno,
            f"cannot write {path}: {error.strerror or error}; "
            "no file was changed, check space and permissions",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _encodable(
    image: Image.Image | Array | Tensor, format: str, path: object
) -> Image.Image | Array:
    """A PIL image in a mode that the format holds, or an array for tifffile."""
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
    if dtype.name not in ("uint8", "uint16", "int32", "float32"):
        raise TypeError(
            f"cannot write {path}: expected uint8, uint16, int32 or float pixels, got "
            f"{array.dtype}; cast the image first"
        )
    array = np.ascontiguousarray(array, dtype=dtype)
    if array.ndim == 2 or dtype == np.uint8:
        return Image.fromarray(array)
    if format != "TIFF":
        raise ValueError(
            f"cannot write {path}: {format} cannot hold colour of {array.dtype} here; "
            "save it as .tif, or convert it to 8 bits first"
        )
    if _tifffile() is None:
        raise ValueError(
            f"cannot write {path}: colour of {array.dtype} needs tifffile; "
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

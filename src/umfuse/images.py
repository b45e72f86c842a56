"""The door: any image becomes a float tensor, and goes back as the kind that came in.

`read` accepts everything that people hold pictures in and returns a `Picture`: the values in their
own units (8-bit, 16-bit thermal counts, degrees) for whoever resamples, and luma, chroma and RGB in
[0, 1] for whoever looks. Pixels without data are filled from what is around them, and
`Picture.missing` says which they are. `Picture.give_back` and `Picture.fused` turn tensors into the
kind and dtype that came in. `save`, of `umfuse.files`, writes any of these kinds to a file.

Layouts: arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); tensors are (H, W), (C, H, W) or
(B, C, H, W) with 1, 3 or 4 channels. The fourth channel is opacity (alpha), which is not looked at
and goes back with the others. Of stacks with other numbers of channels `band` says which one, or
which three, are looked at.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from umfuse import dtypes, missing, ranges
from umfuse.files import (
    DECODE_ERRORS,
    NOTHING,
    Array,
    Metadata,
    bands,
    declared_nodata,
    existing,
    metadata,
    open_image,
    radiometric,
    save,
    upright,
)
from umfuse.picture import AnyImage, Channels, Form, Picture
from umfuse.ranges import Range

__all__ = ["AnyImage", "Band", "Channels", "ImageLike", "Picture", "Range", "read", "save"]

logger = logging.getLogger(__name__)

Band: TypeAlias = bands.Band
ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | Array | Tensor

MINIMUM_SIDE = 8
LARGEST = 1e37  # of values: sums of some of them, and their differences, are held by float32
_WITH_ALPHA = {"LA": "LA", "La": "LA", "PA": "RGBA", "RGBA": "RGBA", "RGBa": "RGBA"}
_OPAQUE = {
    "P": "RGB",
    "RGB": "RGB",
    "RGBX": "RGB",
    "YCbCr": "RGB",
    "HSV": "RGB",
    "1": "L",
    "L": "L",
}


def read(
    image: ImageLike,
    *,
    name: str = "image",
    range: Range | None = None,
    option: str = "range",
    nodata: float | None = None,
    band: Band | None = None,
    channels: Channels = "rgb",
) -> Picture:
    """The picture behind a path, a PIL image, an array or a tensor.

    EXIF orientation is applied; palettes become RGB, or grey if all their colours are; CMYK becomes
    sRGB. ICC profile, time and place of a file go with the picture. The pixels are copied, and
    tensors are detached: gradients end here (call the network itself to differentiate).

    `range` says which values become 0 and 1. **A range taken from the image itself ("minmax",
    "percentile") makes a flat scene look hot and flickers from frame to frame: for video, or to
    compare images, give `(low, high)`.** The default keeps 8-bit images and floats in [0, 1] as
    they are, and stretches wider integers between percentiles 0.5 and 99.5, because raw 14-bit
    thermal counts are one shade of grey otherwise.

    No data is what is NaN or masked, what the TIFF tag GDAL_NODATA says, and `nodata`; the log says
    how much. It counts for nothing in the range and is filled from what is around it. Integers are
    data unless said otherwise, 0 too.

    Args:
        image: A path, a PIL image, an array or a tensor; the module says which layouts.
        name: What to call the image in errors and in the log.
        range: None for the default; "dtype" for all values that the type can hold ([0, 1] for
            floats); "minmax" or "percentile" of this image; or `(low, high)` in the units of the
            input. Each image of a batch has its own minimum, maximum and percentiles.
        option: What the caller's users call `range`, for errors.
        nodata: The value of pixels without data, in all their channels.
        band: Which channel is taken of an image, or which page of a file of several pages, counted
            from 0; the picture is grey then. Three of them, (red, green, blue), give colour.
        channels: The order of the colours in an array or a tensor: ``"bgr"`` for those of OpenCV,
            which get back what they came as. Files and PIL images say it themselves.

    Returns:
        The picture. A constant image becomes 0 everywhere under "minmax" and "percentile".

    Raises:
        TypeError: If the type or dtype is none of the above.
        ValueError: If the pixels, the shape, the range or the contents of the file cannot be used,
            or there is no such band.
        OSError: If the file cannot be opened.
    """
    checked = ranges.checked(range, name, option)
    nodata = ranges.number(nodata, name)
    if channels not in get_args(Channels):
        raise ValueError(f"{name}: expected channels to be 'rgb' or 'bgr', got {channels!r}")
    order: Channels = "rgb"
    if band is None and isinstance(image, (np.ndarray, Tensor)):
        order = channels
    said = NOTHING
    if isinstance(image, (str, os.PathLike)):
        path = Path(os.fsdecode(image))
        existing(path, name)
        if name == "infrared" and (found := radiometric.celsius(path, name)) is not None:
            (image, said), checked = found, checked or "percentile"
        elif name == "visible" and (found := radiometric.photo(path, name)) is not None:
            image, said = found
        else:
            image, said = open_image(path, name, band)
    elif isinstance(image, Image.Image):
        image, said = upright(image, name)
        image = image if band is None else bands.of_image(image, band, name)
    elif band is not None and isinstance(image, np.ndarray):
        image = bands.of_image(image, band, name)
    elif band is not None and isinstance(image, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        image = bands.of_tensor(image, band, name)
    if isinstance(image, Image.Image):
        planes, lost, form = _from_pil(image, said, name, nodata)
    elif isinstance(image, np.ndarray):
        _check_layout(image, name)
        planes, lost, form = _from_array(image, order, name, nodata)
        form = replace(form, said=said)
    elif isinstance(image, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        planes, lost, form = _from_tensor(image, order, name, nodata)
    else:
        raise TypeError(
            f"{name}: expected a path, a PIL image, a NumPy array or a torch tensor, got "
            f"{type(image).__name__}; wrap lists in np.asarray, open streams with PIL.Image.open"
        )
    opaque = planes.shape[1] % 2 == 1  # grey or RGB: with alpha they are two or four
    values, alpha = (planes, None) if opaque else (planes[:, :-1], planes[:, -1:])
    values = _filled(values, lost, name)
    low, span = ranges.low_span(values, lost, form.dtype, checked, name, option)
    picture = Picture(values, low, span, form, lost if lost.any() else None, alpha)
    if name == "infrared" and form.dtype.itemsize > 1 and (mark := ranges.suspicion(values, name)):
        logger.warning("infrared: %s", mark)
    if name == "infrared" and picture.chroma is not None and picture.chroma.abs().max() > 0.05:
        logger.warning(
            "infrared: the image is in colour and its luma is used; "
            "the luma of a false-colour palette is not temperature, prefer the raw or grey image"
        )
    return picture


# ---- what came in -> planes in the order of RGB, and which pixels are missing ---------


def _from_pil(
    image: Image.Image, said: Metadata, name: str, nodata: float | None
) -> tuple[Tensor, Tensor, Form]:
    mode = image.mode
    if mode == "CMYK":
        image, said = metadata.to_rgb(image, said, name)
    elif mode in _WITH_ALPHA or mode in _OPAQUE:
        # Of a palette, and of a grey or a colour that is transparent.
        see_through = "transparency" in image.info and mode in ("L", "P", "RGB")
        wanted = _WITH_ALPHA.get(mode) or _OPAQUE[mode]
        try:
            image = image.convert({"L": "LA", "RGB": "RGBA"}[wanted] if see_through else wanted)
        except DECODE_ERRORS as error:
            raise ValueError(
                f"{name}: its palette or its transparency is damaged ({error}); save the image "
                "again, as RGB"
            ) from error
    elif mode not in ("F", "I") and not mode.startswith("I;16"):
        raise ValueError(
            f"{name}: expected a grey or RGB image, got PIL mode {mode!r}; "
            "convert it to 'RGB' first"
        )
    array = np.asarray(image)
    if mode in ("P", "PA") and (array[..., :3] == array[..., :1]).all():
        array = array[..., 0] if array.shape[2] == 3 else array[..., ::3]
    array = missing.masked(array, declared_nodata(image))
    planes, lost, form = _from_array(array, "rgb", name, nodata)
    # Only I;16 has a big-endian form in PIL; all go back in the byte order of the machine.
    dtype = np.dtype(array.dtype.type)
    return planes, lost, replace(form, kind="pil", dtype=dtype, masked=False, said=said)


def _from_array(
    array: Array, order: Channels, name: str, nodata: float | None
) -> tuple[Tensor, Tensor, Form]:
    _check_size(array.shape[0], array.shape[1], name)
    planes = array[..., None] if array.ndim == 2 else array
    if order == "bgr" and planes.shape[2] > 2:
        planes = planes[..., [2, 1, 0, 3][: planes.shape[2]]]
    colours = missing.masked(planes[..., : _colours(planes.shape[2])], nodata)
    lost, blank = missing.of_array(colours)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf and is reported below
        copy = np.array(np.moveaxis(planes, 2, 0)[None], dtype=np.float32, order="C", copy=True)
    layout = "HW" if array.ndim == 2 else "HWC"
    came_masked = isinstance(array, np.ma.MaskedArray)
    form = Form("array", array.dtype, layout, torch.device("cpu"), blank, came_masked, order)
    return torch.from_numpy(copy), torch.from_numpy(lost)[None, None], form


def _from_tensor(
    tensor: Tensor, order: Channels, name: str, nodata: float | None
) -> tuple[Tensor, Tensor, Form]:
    dtype = tensor.dtype
    usable = dtype.is_floating_point and dtype.itemsize >= 2
    if tensor.layout != torch.strided or not (usable or dtypes.is_integer(dtype)):
        kind = "b" if dtype == torch.bool else "c" if dtype.is_complex else "O"
        raise TypeError(
            f"{name}: expected a dense tensor of integers or floats, got {dtype} with layout "
            f"{tensor.layout}; {_cast_hint(kind)}"
        )
    if tensor.is_meta:
        raise ValueError(
            f"{name}: expected pixels, got a tensor on the device meta, which has none; make it on "
            "the CPU or a GPU"
        )
    shape = tuple(tensor.shape)
    if tensor.ndim not in (2, 3, 4) or (tensor.ndim > 2 and shape[-3] not in (1, 3, 4)):
        last = tensor.ndim > 2 and shape[-1] in (1, 3, 4)
        hint = "it looks channels-last, pass tensor.movedim(-1, -3)" if last else "pass one image"
        if not last and tensor.ndim in (3, 4):
            hint = bands.remedy(shape[-3], name)
        raise ValueError(
            f"{name}: expected a tensor (H, W), (C, H, W) or (B, C, H, W) with 1, 3 or 4 channels, "
            f"got shape {shape}; {hint}"
        )
    if 0 in shape:
        raise ValueError(f"{name}: expected pixels, got an empty tensor of shape {shape}")
    _check_size(shape[-2], shape[-1], name)
    layout: Literal["HW", "CHW", "BCHW"] = (
        "HW" if tensor.ndim == 2 else "CHW" if tensor.ndim == 3 else "BCHW"
    )
    planes = tensor.detach().reshape(-1, shape[-3] if tensor.ndim > 2 else 1, *shape[-2:])
    if order == "bgr" and planes.shape[1] > 2:
        planes = planes[:, [2, 1, 0, 3][: planes.shape[1]]]
    lost, blank = missing.of_tensor(planes[:, : _colours(planes.shape[1])], nodata)
    copy = torch.empty(planes.shape, dtype=torch.float32, device=tensor.device).copy_(planes)
    return copy, lost, Form("tensor", dtype, layout, tensor.device, blank, channels=order)


def _colours(channels: int) -> int:
    """Returns how many of 1 to 4 channels are no alpha."""
    return channels - (channels % 2 == 0)


# ---- checks --------------------------------------------------------------------------


def _cast_hint(kind: str) -> str:
    if kind == "b":
        return "a mask has no grey levels, multiply it by 255 as uint8 if it is meant as a picture"
    if kind == "c":
        return "pass its magnitude"
    return "cast it to uint8, uint16 or float32"


def _check_layout(array: Array, name: str) -> None:
    if array.dtype.kind not in "uif":
        raise TypeError(
            f"{name}: expected integers or floats, got an array of dtype {array.dtype}; "
            f"{_cast_hint(array.dtype.kind)}"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        if array.ndim == 3 and array.shape[0] < MINIMUM_SIDE:
            hint = "it looks channels-first, pass np.moveaxis(array, 0, -1)"
        elif array.ndim == 3:
            hint = bands.remedy(array.shape[2], name)
        else:
            hint = "pass one image at a time, batches only as a tensor (B, C, H, W)"
        raise ValueError(
            f"{name}: expected an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"got shape {array.shape}; {hint}"
        )


def _check_size(height: int, width: int, name: str) -> None:
    if height == 0 or width == 0:
        raise ValueError(f"{name}: expected pixels, got an empty image of {width} x {height}")
    if min(height, width) < MINIMUM_SIDE:
        raise ValueError(
            f"{name}: expected at least {MINIMUM_SIDE} x {MINIMUM_SIDE} pixels, "
            f"got {width} x {height}; pass a larger image"
        )


def _filled(values: Tensor, lost: Tensor, name: str) -> Tensor:
    """Values (B, C, H, W) that are data, or continue what is data around them."""
    least, most = values.aminmax()
    usual = least >= -LARGEST and most <= LARGEST  # not so with NaN
    bad = 0 if usual else int((~(values.abs() <= LARGEST) & ~lost).sum())
    if bad:
        raise ValueError(
            f"{name}: expected finite values, got {bad} that are Inf or beyond {LARGEST:g}; if "
            f"they are no data, make them NaN: image[abs(image) > {LARGEST:g}] = float('nan')"
        )
    if not lost.any():
        return values
    if lost.all((1, 2, 3)).any():
        raise ValueError(
            f"{name}: expected an image, got one whose pixels are all without data: NaN, masked, "
            "or of the value that nodata= or its file says; check that value"
        )
    logger.info("%s: %.3g %% of the pixels have no data", name, 100 * float(lost.float().mean()))
    return missing.filled(values, lost)

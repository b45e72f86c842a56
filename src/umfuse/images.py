"""The door: any image becomes a float tensor, and goes back as the kind that came in.

`read` accepts everything that people hold pictures in and returns a `Picture`: the values in their
own units (8-bit, 16-bit thermal counts, degrees) for whoever resamples, and luma, chroma and RGB in
[0, 1] for whoever looks. Pixels without data are filled from what is around them, and
`Picture.missing` says which they are. `Picture.give_back` and `Picture.fused` turn tensors into the
kind and dtype that came in. `save`, of `umfuse.files`, writes any of these kinds to a file.

Layouts: arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); tensors are (H, W), (C, H, W) or
(B, C, H, W) with 1, 3 or 4 channels. The fourth channel (alpha) is dropped. Of stacks with other
numbers of channels `band` says which one, or which three, are looked at.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from umfuse import borders, filters, missing
from umfuse.files import (
    FLOAT_SLACK,
    Array,
    bands,
    declare_nodata,
    declared_nodata,
    open_image,
    radiometric,
    save,
    upright,
)

__all__ = ["Band", "ImageLike", "Picture", "Range", "read", "save"]

logger = logging.getLogger(__name__)

Band: TypeAlias = bands.Band
ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | Array | Tensor
Range: TypeAlias = Literal["dtype", "minmax", "percentile"] | tuple[float, float]

MINIMUM_SIDE = 8
PERCENTILES = (0.5, 99.5)  # enough to shed dead pixels and glints, too little to clip a person

_CheckedRange: TypeAlias = Range | None


@dataclass(frozen=True)
class Form:
    """How a picture came in, which is how it is given back.

    Attributes:
        kind: The container. Files are given back as PIL images.
        dtype: The NumPy dtype (byte order included) or the torch dtype of the pixels.
        layout: The order of the axes.
        device: Where the tensor was; the CPU for every other kind.
        blank: What stands in pixels without data.
        masked: Whether it was a masked array.
    """

    kind: Literal["pil", "array", "tensor"]
    dtype: np.dtype[Any] | torch.dtype
    layout: Literal["HW", "HWC", "CHW", "BCHW"]
    device: torch.device
    blank: float = math.nan
    masked: bool = False


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture inside the library, with all that is needed to give it back as it came.

    Attributes:
        values: Pixels in the units of the input, float32 (B, C, H, W), C = 1 or 3. Integers above
            2**24 and float64 are rounded to float32 precision. Where data is missing they continue
            smoothly what is around.
        low: Value that becomes 0, float32 (B, 1, 1, 1), in the units of the input.
        span: Distance from `low` to the value that becomes 1, float32 (B, 1, 1, 1), always
            positive.
        form: Kind, dtype, layout and device of the input.
        missing: Which pixels have no data, bool (B, 1, H, W); None if all have.
    """

    values: Tensor
    low: Tensor
    span: Tensor
    form: Form
    missing: Tensor | None = None

    @property
    def channels(self) -> int:
        """Number of channels, 1 or 3."""
        return int(self.values.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.values.shape[2]), int(self.values.shape[3])

    @cached_property
    def _unit(self) -> Tensor:
        return ((self.values - self.low) / self.span).clamp(0, 1)

    @cached_property
    def luma(self) -> Tensor:
        """Brightness in [0, 1] within the range, float32 (B, 1, H, W); BT.601 for colour."""
        return filters.luma(self._unit)

    @cached_property
    def chroma(self) -> Tensor | None:
        """BT.601 (Cb, Cr) in [-0.5, 0.5], float32 (B, 2, H, W); None for a grey picture."""
        if self.channels == 1:
            return None
        red, blue = self._unit[:, 0:1], self._unit[:, 2:3]
        return torch.cat([(blue - self.luma) / 1.772, (red - self.luma) / 1.402], dim=1)

    @cached_property
    def rgb(self) -> Tensor:
        """Colour in [0, 1] within the range, float32 (B, 3, H, W); grey is replicated."""
        return self._unit.expand(-1, 3, -1, -1)

    def give_back(
        self, values: Tensor, missing: Tensor | None = None
    ) -> Image.Image | Array | Tensor:
        """Pixels in the units of the input -> the kind, dtype, layout and device that came in.

        Integer types are rounded and clipped, they never wrap around. The size may differ from this
        picture's: a resampled infrared image lives on the visible grid.

        Args:
            values: Pixels, (B, C, H, W) with the channels of this picture.
            missing: Which of them are to be without data, as those of this picture are: NaN, masked
                or of the value that said so; bool (B, 1, H, W), None for no pixel.

        Returns:
            A PIL image (also when a path came in), an array or a tensor.

        Raises:
            ValueError: If the channels differ, or several images are to go back into a layout for
                one.
        """
        if values.ndim != 4 or values.shape[1] != self.channels:
            raise ValueError(
                f"expected values of shape (B, {self.channels}, H, W), got {tuple(values.shape)}; "
                "give back as many channels as the picture has"
            )
        if self.form.layout != "BCHW" and values.shape[0] != 1:
            raise ValueError(
                f"expected one image, because one came in, got a batch of {values.shape[0]}; "
                "give the images back one by one"
            )
        lowest, highest = _limits(self.form.dtype)
        values = values.detach().float()
        if _is_integer(self.form.dtype):
            values = values.round()
        return _to_form(values.clamp(lowest, highest), missing, self.form)

    def fused(self, luma: Tensor) -> Image.Image | Array | Tensor:
        """A new luma with this picture's own colour -> the kind and dtype that came in.

        The range is undone: 0 becomes `low` and 1 becomes `low + span` in the units of the input.
        Colours that would leave the gamut fade until they fit: luma and hue stay. Pixels of this
        picture without data stay without.

        Args:
            luma: Brightness in [0, 1] on the grid of this picture, (B, 1, H, W).

        Returns:
            A PIL image (also when a path came in), an array or a tensor.

        Raises:
            ValueError: If the shape is not that of this picture's luma.
        """
        if luma.shape != self.luma.shape:
            raise ValueError(
                f"expected a luma of shape {tuple(self.luma.shape)}, got {tuple(luma.shape)}; "
                "resample it to the grid of this picture first"
            )
        unit = luma.detach().to(self.values.device, torch.float32).clamp(0, 1)
        if self.chroma is not None:
            colour = self._unit - self.luma
            room = torch.where(colour > 0, 1 - unit, unit)
            share = (room / colour.abs().clamp_min(1e-9)).amin(1, keepdim=True).clamp_max(1)
            unit = unit + share * colour
        return self.give_back(unit.clamp(0, 1) * self.span + self.low, self.missing)


def read(
    image: ImageLike,
    *,
    name: str = "image",
    range: Range | None = None,
    option: str = "range",
    nodata: float | None = None,
    band: Band | None = None,
) -> Picture:
    """The picture behind a path, a PIL image, an array or a tensor.

    EXIF orientation is applied, alpha is dropped (with a note in the log), palettes become RGB, or
    grey if all their colours are. The pixels are copied, and tensors are detached: gradients end
    here (call the network itself to differentiate).

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

    Returns:
        The picture. A constant image becomes 0 everywhere under "minmax" and "percentile".

    Raises:
        TypeError: If the type or dtype is none of the above.
        ValueError: If the pixels, the shape, the range or the contents of the file cannot be used,
            or there is no such band.
        OSError: If the file cannot be opened.
    """
    checked = _check_range(range, name, option)
    if nodata is not None and not isinstance(nodata, (int, float, np.number)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name}: expected nodata to be a number or None, got {nodata!r}")
    if isinstance(image, (str, os.PathLike)):
        path = Path(image)
        if name == "infrared" and (celsius := radiometric.celsius(path, name)) is not None:
            image, checked = Image.fromarray(celsius), checked or "percentile"
        elif name == "visible" and (photo := radiometric.photo(path, name)) is not None:
            image = Image.fromarray(photo)
        else:
            image = open_image(path, name, band)
    elif isinstance(image, Image.Image):
        image = upright(image, name)
        image = image if band is None else bands.of_image(image, band, name)
    elif band is not None and isinstance(image, np.ndarray):
        image = bands.of_image(image, band, name)
    elif band is not None and isinstance(image, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        image = bands.of_tensor(image, band, name)
    if isinstance(image, Image.Image):
        values, lost, form = _from_pil(image, name, nodata)
    elif isinstance(image, np.ndarray):
        values, lost, form = _from_array(image, name, nodata)
    elif isinstance(image, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        values, lost, form = _from_tensor(image, name, nodata)
    else:
        raise TypeError(
            f"{name}: expected a path, a PIL image, a NumPy array or a torch tensor, got "
            f"{type(image).__name__}; wrap lists in np.asarray, open streams with PIL.Image.open"
        )
    values = _filled(values, lost, name)
    low, span = _low_span(values, lost, form.dtype, checked, name, option)
    picture = Picture(values, low, span, form, lost if lost.any() else None)
    if name == "infrared" and form.dtype.itemsize > 1 and (mark := _mark(values, name)):
        logger.warning("infrared: %s", mark)
    if name == "infrared" and picture.chroma is not None and picture.chroma.abs().max() > 0.05:
        logger.warning(
            "infrared: the image is in colour and its luma is used; "
            "the luma of a false-colour palette is not temperature, prefer the raw or grey image"
        )
    return picture


# ---- what came in -> values, and which of them are missing ---------------------------


def _from_pil(image: Image.Image, name: str, nodata: float | None) -> tuple[Tensor, Tensor, Form]:
    mode = image.mode
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        logger.info("%s: the alpha channel is dropped", name)
    if mode in ("1", "LA", "La"):
        image = (image.convert("LA") if mode == "La" else image).convert("L")
    elif mode in ("P", "PA", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"):
        image = (image.convert("RGBA") if mode == "RGBa" else image).convert("RGB")
    elif mode not in ("L", "RGB", "F", "I") and not mode.startswith("I;16"):
        raise ValueError(
            f"{name}: expected a grey or RGB image, got PIL mode {mode!r}; "
            "convert it to 'RGB' first"
        )
    array = np.asarray(image)
    if mode in ("P", "PA") and (array == array[..., :1]).all():
        array = array[..., 0]
    array = missing.masked(array, declared_nodata(image))
    values, lost, form = _from_array(array, name, nodata)
    # Only I;16 has a big-endian form in PIL; all go back in the byte order of the machine.
    dtype = np.dtype(array.dtype.type)
    return values, lost, replace(form, kind="pil", dtype=dtype, masked=False)


def _from_array(array: Array, name: str, nodata: float | None) -> tuple[Tensor, Tensor, Form]:
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
    _check_size(array.shape[0], array.shape[1], name)
    planes = array[..., None] if array.ndim == 2 else array
    if planes.shape[2] == 4:
        logger.info("%s: the fourth channel (alpha) is dropped", name)
        planes = planes[..., :3]
    planes = missing.masked(planes, nodata)
    lost, blank = missing.of_array(planes)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf and is reported below
        copy = np.array(np.moveaxis(planes, 2, 0)[None], dtype=np.float32, order="C", copy=True)
    layout = "HW" if array.ndim == 2 else "HWC"
    came_masked = isinstance(array, np.ma.MaskedArray)
    form = Form("array", array.dtype, layout, torch.device("cpu"), blank, came_masked)
    return torch.from_numpy(copy), torch.from_numpy(lost)[None, None], form


def _from_tensor(tensor: Tensor, name: str, nodata: float | None) -> tuple[Tensor, Tensor, Form]:
    dtype = tensor.dtype
    usable = dtype.is_floating_point and dtype.itemsize >= 2
    if tensor.layout != torch.strided or not (usable or _is_integer(dtype)):
        kind = "b" if dtype == torch.bool else "c" if dtype.is_complex else "O"
        raise TypeError(
            f"{name}: expected a dense tensor of integers or floats, got {dtype} with layout "
            f"{tensor.layout}; {_cast_hint(kind)}"
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
    if planes.shape[1] == 4:
        logger.info("%s: the fourth channel (alpha) is dropped", name)
        planes = planes[:, :3]
    values = torch.empty(planes.shape, dtype=torch.float32, device=tensor.device).copy_(planes)
    lost, blank = missing.of_tensor(planes, nodata)
    return values, lost, Form("tensor", dtype, layout, tensor.device, blank)


# ---- checks --------------------------------------------------------------------------


def _cast_hint(kind: str) -> str:
    if kind == "b":
        return "a mask has no grey levels, multiply it by 255 as uint8 if it is meant as a picture"
    if kind == "c":
        return "pass its magnitude"
    return "cast it to uint8, uint16 or float32"


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
    bad = int((~torch.isfinite(values) & ~lost).sum())
    if bad:
        raise ValueError(
            f"{name}: expected finite values, got {bad} that are Inf or beyond float32; if they "
            "are no data, make them NaN: image[abs(image) > 3e38] = float('nan')"
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


def _check_range(range: object, name: str, option: str) -> _CheckedRange:
    if range is None or (isinstance(range, str) and range in ("dtype", "minmax", "percentile")):
        return cast(_CheckedRange, range)
    wanted = (
        f"{name}: expected {option} to be 'dtype', 'minmax', 'percentile' or (low, high) "
        "with low < high"
    )
    if isinstance(range, (tuple, list)) and len(cast("tuple[object]", range)) == 2:
        try:
            low, high = (float(bound) for bound in cast("tuple[Any, Any]", range))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{wanted}, got {range!r}; give two numbers") from error
        if math.isfinite(low) and math.isfinite(high) and low < high:
            return low, high
    raise ValueError(f"{wanted}, got {range!r}; give two finite numbers in the units of the image")


def _low_span(
    values: Tensor,
    lost: Tensor,
    dtype: np.dtype[Any] | torch.dtype,
    range: _CheckedRange,
    name: str,
    option: str,
) -> tuple[Tensor, Tensor]:
    """The value that becomes 0 and the distance to the one that becomes 1, (B, 1, 1, 1) each."""
    if range is None:
        range = "percentile" if _is_integer(dtype) and dtype.itemsize > 1 else "dtype"
    if isinstance(range, tuple):
        pairs = [range] * len(values)
    elif range == "dtype" and _is_integer(dtype):
        pairs = [_limits(dtype)] * len(values)
    elif range == "dtype":
        least, most = float(values.min()), float(values.max())
        if least < -FLOAT_SLACK or most > 1 + FLOAT_SLACK:
            mark = _mark(values, name)
            raise ValueError(
                f"{name}: expected floats in [0, 1], got {least:.6g} to {most:.6g}; "
                f"pass {option}=(low, high) in the units of the image, or {option}='percentile'"
                + (f"; {mark}" if mark else "")
            )
        pairs = [(0.0, 1.0)] * len(values)
    else:
        pairs = [
            _extent(one, gone, percentile=range == "percentile")
            for one, gone in zip(values, lost, strict=True)
        ]
    low = torch.tensor([pair[0] for pair in pairs])
    # A constant image has no span; 1 keeps the division finite and makes it 0 everywhere.
    span = torch.tensor([high - low if high > low else 1.0 for low, high in pairs])
    shape = (-1, 1, 1, 1)
    return low.view(shape).to(values.device), span.view(shape).to(values.device)


def _grey(values: Tensor) -> Tensor:
    """Images (1, C, H, W) of any range as luma from 0 to 1."""
    least, most = values.min(), values.max()
    return filters.luma((values - least) / (most - least).clamp_min(1e-9))


def _mark(values: Tensor, name: str) -> str | None:
    """What to do about a value that looks like a mark for no data; bars are none."""
    if missing.suspect(values) is None:
        return None
    between = [borders.part(one, borders.content(_grey(one[None]))) for one in values]
    found = next(filter(None, map(missing.suspect, between)), None)
    if found is None:
        return None
    value, share = found
    remedy = (
        f"np.ma.masked_equal(image, {value:.9g})" if name == "visible" else f"nodata={value:.9g}"
    )
    percent = f"{100 * share:.3g} % of the pixels"
    return f"{percent} are exactly {value:.9g}: if these have no data, say {remedy}"


def _extent(values: Tensor, lost: Tensor, *, percentile: bool) -> tuple[float, float]:
    if percentile:
        # Bars are no part of the scene, whose counts they would press together.
        box = borders.content(_grey(values[None]))
        values, lost = borders.part(values, box), borders.part(lost, box)
        # NumPy, because torch.quantile refuses more than 16 million values.
        data = values[(~lost).expand_as(values)].cpu().numpy()
        low, high = np.percentile(data, PERCENTILES).tolist() if data.size else (0.0, 0.0)
        if low < high:
            return low, high
        # A few hot pixels on a constant ground: the percentiles meet, the extremes do not.
    return float(values.min()), float(values.max())


# ---- values -> what came in ----------------------------------------------------------


def _is_integer(dtype: np.dtype[Any] | torch.dtype) -> bool:
    if isinstance(dtype, torch.dtype):
        return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
    return dtype.kind in "ui"


def _limits(dtype: np.dtype[Any] | torch.dtype) -> tuple[float, float]:
    """The smallest and largest float32 that the dtype can hold."""
    if isinstance(dtype, torch.dtype):
        info = torch.iinfo(dtype) if _is_integer(dtype) else torch.finfo(dtype)
    else:
        info = np.iinfo(dtype) if _is_integer(dtype) else np.finfo(dtype)
    largest32 = float(np.finfo(np.float32).max)
    lowest, highest = max(float(info.min), -largest32), min(float(info.max), largest32)
    if _is_integer(dtype) and int(np.float32(highest)) > int(info.max):
        # 2**31 - 1 is rounded up to 2**31, which int32 does not hold.
        highest = float(np.nextafter(np.float32(highest), np.float32(0)))
    return lowest, highest


def _to_form(values: Tensor, lost: Tensor | None, form: Form) -> Image.Image | Array | Tensor:
    """Pixels (B, C, H, W) that are rounded and clipped already, in another form."""
    if isinstance(form.dtype, torch.dtype):
        # There is no direct way from float32 to uint16 on every device.
        values = values.to(torch.int64 if _is_integer(form.dtype) else form.dtype)
        if lost is not None:
            values = values.masked_fill(lost.to(values.device), form.blank)
        values = values.to(form.device, form.dtype)
        if form.layout == "BCHW":
            return values
        return values[0, 0] if form.layout == "HW" else values[0]
    array = values[0].movedim(0, -1).cpu().numpy().astype(form.dtype)
    mask = np.zeros(array.shape, dtype=np.bool_)
    if lost is not None:
        mask |= lost[0].movedim(0, -1).cpu().numpy()
        array[mask] = form.blank
    if form.layout == "HW":
        array, mask = array[..., 0], mask[..., 0]
    array = np.ascontiguousarray(array)
    if form.masked:
        return np.ma.array(array, mask=mask, fill_value=form.blank)
    if form.kind == "array":
        return array
    image = Image.fromarray(array)
    if lost is not None:
        declare_nodata(image, form.blank)
    return image

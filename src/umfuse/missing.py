"""Pixels without data: told from the others, and filled from what is around them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SMOOTHINGS = 4  # at each size of a filling, which wipe out the squares of the size below
REPEATED = 1e-3  # of the pixels that have exactly one value: more than chance and dead pixels give


Array: TypeAlias = NDArray[Any]


def masked(array: Array, value: float | None) -> Array:
    """Returns an array ``(H, W)`` or ``(H, W, C)`` whose pixels of a value are masked too.

    Args:
        array: The pixels, masked or not.
        value: What all channels of a pixel without data are; None if nothing is.
    """
    if value is None:
        return array
    with np.errstate(over="ignore"):  # in float32 a number like 1e300 is Inf
        found = np.ma.getdata(array) == value
        if array.ndim == 3:
            found = np.broadcast_to(found.all(2, keepdims=True), array.shape)
        return np.ma.array(array, mask=found, fill_value=value) if found.any() else array


def of_array(array: Array) -> tuple[NDArray[np.bool_], float]:
    """Returns which pixels of ``(H, W, C)`` are masked or NaN, and what is to stand there."""
    if array.dtype.kind != "f" and not isinstance(array, np.ma.MaskedArray):
        return np.zeros(array.shape[:2], dtype=bool), 0.0
    found, blank = np.ma.getmaskarray(array), 0.0
    if array.dtype.kind == "f":
        found, blank = found | np.isnan(np.ma.getdata(array)), np.nan
    if isinstance(array, np.ma.MaskedArray):
        fill: Any = array.fill_value
        default = np.ma.default_fill_value(array.dtype)
        blank = blank if fill == default else int(fill) if array.dtype.kind in "ui" else float(fill)
    return np.asarray(found.any(2)), blank


def of_tensor(images: Tensor, value: float | None) -> tuple[Tensor, float]:
    """Returns which pixels of ``(B, C, H, W)`` are of a value or NaN, and what is to stand there.

    Args:
        images: The pixels.
        value: What all channels of a pixel without data are; None if nothing is.
    """
    found, blank = images.isnan().any(1, keepdim=True), float("nan")
    if value is not None and (images.is_floating_point() or _holds(images.dtype, value)):
        same = (images == value).all(1, keepdim=True)
        found, blank = found | same, value if same.any() else blank
    return found, blank


def _holds(dtype: torch.dtype, value: float) -> bool:
    """Says whether an integer dtype has a value: compared with bytes, -9999 would be 241."""
    info = torch.iinfo(dtype)
    # Comparisons of uint64 take no number beyond int64.
    return info.min <= value <= min(info.max, 2**63 - 1) and value == int(value)


def filled(image: Tensor, missing: Tensor) -> Tensor:
    """Returns images whose missing pixels continue smoothly what is around them.

    Args:
        image: ``(B, C, H, W)``; what stands in missing pixels, NaN too, is of no matter.
        missing: ``(B, 1, H, W)`` bool, not everywhere.
    """
    known = ~missing
    image = torch.where(known, image, 0.0)
    if known.all():
        return image
    weight = known.to(image.dtype)
    share = F.avg_pool2d(weight, 2, ceil_mode=True)
    half = F.avg_pool2d(image * weight, 2, ceil_mode=True) / share.clamp_min(0.25)
    below = filled(half, share == 0)
    image = torch.where(known, image, F.interpolate(below, image.shape[-2:], mode="bilinear"))
    for _ in range(SMOOTHINGS):
        around = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
        image = torch.where(known, image, around)
    return image


def suspect(values: Tensor) -> tuple[float, float] | None:
    """Returns a value that looks like a mark for no data, and the share of pixels that are it.

    It is the least or the greatest, repeated exactly, and further from all others than these are
    from each other: -9999 among degrees, 0 among thermal counts.

    Args:
        values: Of any shape.
    """
    for extreme in (values.min(), values.max()):
        same = values == extreme
        share = float(same.float().mean())
        if REPEATED <= share < 1:
            others = values[~same]
            span = others.max() - others.min()
            if 0 < span < (others - extreme).abs().min():
                return float(extreme), share
    return None

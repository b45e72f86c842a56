"""Ground floor: the numbers that a dtype of NumPy or torch holds."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch

DType: TypeAlias = np.dtype[Any] | torch.dtype


def is_integer(dtype: DType) -> bool:
    """Says whether a dtype is of integers; booleans are none."""
    if isinstance(dtype, torch.dtype):
        return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
    return dtype.kind in "ui"


def limits(dtype: DType) -> tuple[float, float]:
    """Returns the smallest and largest float32 that a dtype can hold."""
    if isinstance(dtype, torch.dtype):
        info = torch.iinfo(dtype) if is_integer(dtype) else torch.finfo(dtype)
    else:
        info = np.iinfo(dtype) if is_integer(dtype) else np.finfo(dtype)
    largest32 = float(np.finfo(np.float32).max)
    lowest, highest = max(float(info.min), -largest32), min(float(info.max), largest32)
    if is_integer(dtype) and int(np.float32(highest)) > int(info.max):
        # 2**31 - 1 is rounded up to 2**31, which int32 does not hold.
        highest = float(np.nextafter(np.float32(highest), np.float32(0)))
    return lowest, highest

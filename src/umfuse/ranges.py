"""Which values of an image become black and white."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from umfuse import borders, dtypes, filters, missing
from umfuse.dtypes import DType
from umfuse.files import FLOAT_SLACK

Range: TypeAlias = Literal["dtype", "minmax", "percentile"] | tuple[float, float]

PERCENTILES = (0.5, 99.5)  # enough to shed dead pixels and glints, too little to clip a person


def checked(range: object, name: str, option: str) -> Range | None:
    """Returns a range that was given, its bounds as floats.

    Args:
        range: What was given.
        name: What to call the image in errors.
        option: What to call the range in errors.

    Raises:
        ValueError: If it is no range.
    """
    if range is None or (isinstance(range, str) and range in ("dtype", "minmax", "percentile")):
        return cast("Range | None", range)
    wanted = (
        f"{name}: expected {option} to be 'dtype', 'minmax', 'percentile' or (low, high) "
        "with low < high"
    )
    if isinstance(range, (tuple, list)) and len(cast("tuple[object]", range)) == 2:
        try:
            low, high = (float(bound) for bound in cast("tuple[Any, Any]", range))
        except (OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{wanted}, got {range!r}; give two numbers") from error
        if _spanned(low, high):
            return low, high
    raise ValueError(
        f"{wanted}, got {range!r}; give two finite numbers in the units of the image, which "
        "float32 tells apart"
    )


def number(nodata: object, name: str) -> float | None:
    """Returns a value that stands for no data, as an int if it is whole: float64 rounds int64.

    Args:
        nodata: What was given.
        name: What to call the image in errors.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is one that no image can hold.
    """
    if nodata is None:
        return None
    if not isinstance(nodata, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected nodata to be a number or None, got {nodata!r}")
    given = cast("float", nodata)
    try:
        value = float(given)
        return int(given) if value.is_integer() and abs(int(given)) < 2**64 else value
    except OverflowError as error:
        raise ValueError(
            f"{name}: expected nodata to be a value of an image ({error}); it is too large"
        ) from error


def _spanned(low: float, high: float) -> bool:
    """Says whether float32 holds both ends of a range and the distance between them."""
    with np.errstate(over="ignore"):
        ends = np.array([low, high, high - low], dtype=np.float32)
    return bool(np.isfinite(ends).all()) and ends[2] > 0


def low_span(
    values: Tensor, lost: Tensor, dtype: DType, range: Range | None, name: str, option: str
) -> tuple[Tensor, Tensor]:
    """Returns the value that becomes 0 and the distance to the one that becomes 1.

    Args:
        values: ``(B, C, H, W)`` float32, finite.
        lost: ``(B, 1, H, W)`` bool, which pixels are without data.
        dtype: What the image came in.
        range: As `checked` gives it.
        name: What to call the image in errors.
        option: What to call the range in errors.

    Returns:
        Two of ``(B, 1, 1, 1)`` float32.

    Raises:
        ValueError: If floats leave [0, 1] and no range is given.
    """
    if range is None:
        range = "percentile" if dtypes.is_integer(dtype) and dtype.itemsize > 1 else "dtype"
    if isinstance(range, tuple):
        pairs = [range] * len(values)
    elif range == "dtype" and dtypes.is_integer(dtype):
        pairs = [dtypes.limits(dtype)] * len(values)
    elif range == "dtype":
        least, most = float(values.min()), float(values.max())
        if least < -FLOAT_SLACK or most > 1 + FLOAT_SLACK:
            mark = suspicion(values, name)
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


def suspicion(values: Tensor, name: str) -> str | None:
    """Returns what to do about a value that looks like a mark for no data; bars are none.

    Args:
        values: ``(B, C, H, W)``.
        name: Which image it is.
    """
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


def _grey(values: Tensor) -> Tensor:
    """Returns images ``(1, C, H, W)`` of any range as luma from 0 to 1."""
    least, most = values.min(), values.max()
    return filters.luma((values - least) / (most - least).clamp_min(1e-9))


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

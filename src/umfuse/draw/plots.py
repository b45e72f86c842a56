"""Figures over steps as curves, each with axes of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from PIL import Image, ImageDraw

from umfuse.draw.paper import INK, PAPER, letters
from umfuse.draw.sheets import sheet

Point: TypeAlias = tuple[float, float]

SIZE = (400, 240)  # width and height of a panel, pixels
MARGIN = (56, 8, 24, 22)  # left, top, right, bottom: room for numbers
FINER = 2  # drawn larger and reduced: lines without stairs
STEEP = 30.0  # largest over smallest value, from which on the axis is logarithmic
TICKS = 6  # at most
_LINE, _GRID = (110, 190, 255), (60, 64, 72)


def curves(series: Mapping[str, Sequence[Point]], columns: int = 3) -> Image.Image:
    """A panel for each figure: its name, its last value, and its course.

    An axis of positive values that differ much is logarithmic, and says so. Points that are not
    finite are left out.

    Args:
        series: Points (step, value) by the name of the figure.
        columns: Panels in a row.

    Raises:
        ValueError: If there is no figure, or `columns` is less than 1.
    """
    panels: list[tuple[str, Image.Image]] = []
    steps = _range([step for points in series.values() for step, _ in points] or [0])
    for name, points in series.items():
        known = [point for point in points if all(map(math.isfinite, point))]
        values = [value for _, value in known]
        log = bool(values) and min(values) > 0 and max(values) > STEEP * min(values)
        title = f"{name} {values[-1]:.4g}" if values else name
        panels.append((f"{title} (log)" if log else title, _panel(known, steps, log=log)))
    return sheet(panels, columns)


def _panel(points: Sequence[Point], steps: Point, *, log: bool) -> Image.Image:
    """Returns the axes and the curve of one figure, from the first to the last step of all."""
    width, height = (FINER * side for side in SIZE)
    left, top, right, bottom = (FINER * side for side in MARGIN)
    picture = Image.new("RGB", (width, height), PAPER)
    if not points:
        return picture.resize(SIZE)
    brush, font = ImageDraw.Draw(picture), letters(FINER * 11)
    x_low, x_high = steps
    low, high = _range([value for _, value in points])
    y_low, y_high = (math.log10(low), math.log10(high)) if log else (low, high)

    def place(x: float, y: float) -> Point:
        y = math.log10(y) if log else y
        return (
            left + (x - x_low) / (x_high - x_low) * (width - left - right),
            height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom),
        )

    for y in _decades(low, high) if log else _ticks(low, high):
        start, end = place(x_low, y), place(x_high, y)
        brush.line((start, end), fill=_GRID, width=FINER)
        brush.text((left - 6, start[1]), f"{y:.4g}", fill=INK, font=font, anchor="rm")
    for x in _ticks(x_low, x_high):
        start, end = place(x, low), place(x, high)
        brush.line((start, end), fill=_GRID, width=FINER)
        brush.text((start[0], height - bottom + 4), f"{x:g}", fill=INK, font=font, anchor="ma")
    line = [place(x, y) for x, y in points]
    brush.line(line, fill=_LINE, width=FINER * 2, joint="curve")
    radius = 2 * FINER
    x, y = line[-1]
    brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_LINE)
    return picture.resize(SIZE, Image.Resampling.LANCZOS)


def _range(values: Sequence[float]) -> Point:
    """Returns the ends of an axis, apart from each other also where all values are one."""
    low, high = min(values), max(values)
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    room = abs(low) / 2 or 1.0
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Returns round numbers between two ends, at most `TICKS` and one of them."""
    rough = (high - low) / TICKS
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Returns the powers of ten between two positive ends, and numbers between few of them."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= TICKS // 2 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]

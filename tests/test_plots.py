"""Figures over steps as a picture: where the curve goes, and on which axis."""

from __future__ import annotations

import math

import numpy as np
import pytest

from umfuse import draw
from umfuse.draw import plots


def panel(picture, number=0, columns=1):
    """The inside of a panel's axes, as (H, W, 3)."""
    width, height = plots.SIZE
    gap, title = width // 80, width // 20
    left, top, right, bottom = plots.MARGIN
    x = gap + number % columns * (width + gap)
    y = gap + number // columns * (height + title + gap) + title
    pixels = np.asarray(picture, dtype=int)
    return pixels[y + top : y + height - bottom, x + left : x + width - right]


def course(inside):
    """The height of the curve in each column from 0 (top) to 1, NaN where there is none."""
    blue = (inside[..., 2] > 180) & (inside[..., 0] < 180)
    rows = np.arange(len(inside))[:, None]
    counts = blue.sum(0)
    means = (rows * blue).sum(0) / np.maximum(counts, 1)
    return np.where(counts > 0, means / (len(inside) - 1), np.nan)


def test_a_curve_goes_through_its_points():
    steps = range(0, 1001, 100)
    seen = course(panel(draw.curves({"error": [(step, 1000 - step) for step in steps]})))
    np.testing.assert_allclose(seen[5:-8], np.linspace(0, 1, len(seen))[5:-8], atol=0.03)


def test_values_that_differ_much_stand_on_a_logarithmic_axis():
    steps = range(0, 1001, 50)
    falling = [(step, math.exp(-step / 100)) for step in steps]
    seen = course(panel(draw.curves({"loss": falling})))
    np.testing.assert_allclose(seen[5:-8], np.linspace(0, 1, len(seen))[5:-8], atol=0.03)
    shifted = [(step, value - 0.5) for step, value in falling]  # no logarithm of these
    assert np.nanmedian(course(panel(draw.curves({"loss": shifted})))) > 0.9


def test_all_panels_have_the_same_steps():
    picture = draw.curves(
        {"loss": [(0, 1.0), (100, 2.0)], "held out": [(50, 1.0), (100, 2.0)]}, columns=2
    )
    first, second = (course(panel(picture, number, columns=2)) for number in (0, 1))
    assert np.isfinite(first).mean() > 0.98
    assert 0.48 < np.isfinite(second).mean() < 0.54


@pytest.mark.parametrize(
    "points",
    [[(10, 3.0)], [(1, 0.0), (2, 0.0)], [(1, -2.5), (2, -2.5)], [(0, 1e-9), (1, 1e9)], []],
    ids=["one", "zeros", "constant", "far apart", "none"],
)
def test_few_and_equal_values_are_drawn(points):
    inside = panel(draw.curves({"figure": points}))
    assert np.isfinite(course(inside)).any() == bool(points)


def test_what_is_not_finite_is_left_out():
    some = [(0, 1.0), (10, 3.0), (20, 2.0)]
    broken = [*some[:1], (5, math.nan), some[1], (15, math.inf), some[2]]
    one, other = (np.asarray(draw.curves({"loss": points})) for points in (some, broken))
    np.testing.assert_array_equal(one, other)


def test_ticks_are_round():
    assert plots._ticks(0.0, 1650.0) == [0.0, 500.0, 1000.0, 1500.0]
    assert plots._ticks(2.1, 4.7) == [2.5, 3.0, 3.5, 4.0, 4.5]
    assert plots._decades(0.15, 12.0) == pytest.approx([0.2, 0.5, 1, 2, 5, 10])
    assert plots._decades(1e-6, 2.0) == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1])


def test_no_figure_is_refused():
    with pytest.raises(ValueError, match="at least one panel"):
        draw.curves({})

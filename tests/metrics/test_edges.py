import numpy as np
import pytest
import torch
from pictures import array, image
from scipy import ndimage

from umfuse import metrics


def sobel(picture, mode):
    return ndimage.sobel(picture, 1, mode=mode), ndimage.sobel(picture, 0, mode=mode)


def reference_qabf(fused, *sources, legacy):
    kept = total = 0.0
    mode = "constant" if legacy else "nearest"
    fx, fy = sobel(fused, mode)
    for source in sources:
        sx, sy = sobel(source, mode)
        for u, v, x, y in zip(fx.flat, fy.flat, sx.flat, sy.flat, strict=True):
            ours, theirs = np.hypot(u, v), np.hypot(x, y)
            if theirs < 1e-12:
                continue  # no weight
            ratio = min(ours, theirs) / max(ours, theirs)
            turn = abs(angle(u, v) - angle(x, y))
            agreement = 1 - (turn if legacy else min(turn, np.pi - turn)) / (np.pi / 2)
            strength = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
            direction = 0.9879 / (1 + np.exp(-22 * (agreement - 0.8)))
            kept += strength * direction * theirs
            total += theirs
    return kept / total


def angle(x, y):
    return np.arctan(y / x) if abs(x) > 1e-12 else np.pi / 2


def reference_nabf(fused, *sources):
    """On 0..255, pixel by pixel."""
    edges = [[side / 8 for side in sobel(255 * one, "mirror")] for one in (fused, *sources)]
    lost = total = 0.0
    for pixel in np.ndindex(fused.shape):
        (fx, fy), *others = ([side[pixel] for side in both] for both in edges)
        ours = np.hypot(fx, fy)
        strengths = [np.hypot(x, y) for x, y in others]
        added = all(ours > one + 1e-5 for one in strengths)
        for (x, y), theirs in zip(others, strengths, strict=True):
            ratio = min(ours, theirs) / max(ours, theirs) if min(ours, theirs) > 0 else 0.0
            turn = abs(angle(fx, fy) - angle(x, y))
            agreement = abs(turn - np.pi / 2) * 2 / np.pi
            quality = np.sqrt(
                0.9999
                / (1 + np.exp(-19 * (ratio - 0.5)))
                * 0.9995
                / (1 + np.exp(-22 * (agreement - 0.5)))
            )
            weight = theirs**1.5 if theirs >= 2 - 1e-9 else 0.001
            lost += added * (1 - quality) * weight
            total += weight
    return lost / total


@pytest.mark.parametrize("legacy", [False, True])
def test_qabf_is_its_definition(triple, legacy):
    expected = reference_qabf(*(array(one) for one in triple), legacy=legacy)
    found = metrics.qabf(*triple, legacy=legacy).item()
    assert found == pytest.approx(expected, rel=1e-6)


def test_nabf_is_its_definition(triple):
    fused, infrared, visible = triple
    sharpened = array(fused) + 0.5 * (array(fused) - ndimage.gaussian_filter(array(fused), 2))
    fused = torch.from_numpy(sharpened.clip(0, 1))[None, None]
    expected = reference_nabf(*(array(one) for one in (fused, infrared, visible)))
    assert metrics.nabf(fused, infrared, visible).item() == pytest.approx(expected, rel=1e-6)
    assert expected > 1e-4


def test_copies_keep_all_and_add_nothing():
    one, other = image(3), image(4)
    best = 0.9994 / (1 + np.exp(-7.5)) * 0.9879 / (1 + np.exp(-4.4))
    assert metrics.qabf(one, one, one).item() == pytest.approx(best)
    assert metrics.nabf(one, one, other).item() == 0
    assert metrics.nabf(0.3 * one + 0.7 * other, one, other).item() == 0
    assert metrics.nabf(0.8 * one + 0.2, 0.8 * one, other).item() == 0
    assert metrics.nabf(torch.maximum(one, other), one, other) < 0.05


def test_edges_that_no_source_has_are_artefacts():
    source = image(5)
    noise = torch.rand(source.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    found = [metrics.nabf((source + a * noise).clamp(0, 1), source, source) for a in (0, 0.1, 0.4)]
    assert 0 == found[0] < found[1] < found[2] < 1


def test_constants():
    flat, one = torch.full((1, 1, 30, 30), 0.3), image(4, 30, 30)
    assert metrics.qabf(flat, flat, flat).item() == 1
    assert metrics.qabf(one, flat, flat).item() == 1
    assert metrics.qabf(flat, one, one).item() == pytest.approx(0, abs=1e-3)
    assert metrics.nabf(flat, flat, flat).item() == 0
    assert metrics.nabf(flat, one, one).item() == 0
    assert 0.9 < metrics.nabf(one, flat, flat).item() <= 1
    # Values that no binary fraction holds make no edges either.
    for value in (0.1, 0.7, 1 / 3):
        constant = torch.full((1, 1, 30, 30), value, dtype=torch.float64)
        assert metrics.nabf(constant, constant / 2, constant / 3).item() == 0


@pytest.mark.parametrize("metric", [metrics.qabf, metrics.nabf])
def test_smallest_size(metric):
    least = image(1)[..., :3, :3]
    assert metric(least, least, least).isfinite().all()
    with pytest.raises(ValueError, match="3 pixels"):
        metric(*(image(1)[..., :2, :],) * 3)

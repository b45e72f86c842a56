import numpy as np
import pytest
import torch
from pictures import array, image
from scipy import signal

from umfuse import metrics


def scales(source, fused, noise):
    """The definition on 0..255 with 2-D windows of SciPy: gain, kept and total per window."""
    for size in (17, 9, 5, 3):
        axis = signal.windows.gaussian(size, size / 5)
        window = np.outer(axis, axis) / axis.sum() ** 2

        def blur(values, window=window):
            return signal.fftconvolve(values, window, mode="valid")

        if size < 17:
            source, fused = blur(source)[::2, ::2], blur(fused)[::2, ::2]
        mean_source, mean_fused = blur(source), blur(fused)
        var_source = np.maximum(blur(source**2) - mean_source**2, 0)
        var_fused = np.maximum(blur(fused**2) - mean_fused**2, 0)
        cov = blur(source * fused) - mean_source * mean_fused
        gains, kept, total = [], [], []
        for s, f, c in zip(var_source.flat, var_fused.flat, cov.flat, strict=True):
            gain, rest = (c / s, f - c * c / s) if s > 1e-10 and c > 0 else (0.0, f)
            gains.append(gain)
            kept.append(np.log10(1 + gain**2 * s / (max(rest, 1e-10) + noise)))
            total.append(np.log10(1 + s / noise))
        yield np.array(gains), np.array(kept), np.array(total)


def reference_vif(source, fused):
    parts = [(kept.sum(), total.sum()) for _, kept, total in scales(source, fused, 2)]
    kept, total = np.sum(parts, 0)
    return kept / total


def reference_viff(infrared, visible, fused):
    noise = 0.005 * 255**2
    result = 0.0
    for weight, of_infrared, of_visible in zip(
        (1, 0, 0.15, 1),
        scales(infrared, fused, noise),
        scales(visible, fused, noise),
        strict=True,
    ):
        first = of_infrared[0] < of_visible[0]
        kept, total = (
            np.where(first, a, b) for a, b in zip(of_infrared[1:], of_visible[1:], strict=True)
        )
        result += weight / 2.15 * (kept + 1e-7).sum() / (total + 1e-7).sum()
    return result


def test_vif_is_its_definition(triple):
    f, a, b = (255 * array(one) for one in triple)
    expected = reference_vif(a, f) + reference_vif(b, f)
    assert metrics.vif(*triple).item() == pytest.approx(expected, rel=1e-6)
    assert reference_vif(a, b) < 0.5 < reference_vif(a, 0.9 * a)  # the oracle can tell


def test_viff_is_its_definition(triple):
    f, a, b = (255 * array(one) for one in triple)
    assert metrics.viff(*triple).item() == pytest.approx(reference_viff(a, b, f), rel=1e-6)


def test_viff_of_faint_contrasts_is_its_definition():
    # So faint that what is added to each window counts.
    fused, infrared, visible = (0.3 + 1e-4 * image(seed).double() for seed in (1, 2, 3))
    fused = (fused + infrared + visible) / 3
    expected = reference_viff(*(255 * array(one) for one in (infrared, visible, fused)))
    assert metrics.viff(fused, infrared, visible).item() == pytest.approx(expected, rel=1e-6)


def test_copies_and_contrast():
    one = image(3)
    assert metrics.vif(one, one, one).item() == pytest.approx(2)
    assert metrics.viff(one, one, one).item() == pytest.approx(1)
    faint = 0.3 + 0.4 * one
    for metric, most in ((metrics.vif, 2), (metrics.viff, 1)):
        assert metric(one, faint, faint) > most
        assert metric(faint, one, one) < most


def test_sources_may_change_places_but_for_ties():
    infrared, visible = image(1), image(2)
    fused = 0.3 * infrared + 0.6 * visible
    swapped = metrics.viff(fused, visible, infrared)
    torch.testing.assert_close(metrics.viff(fused, infrared, visible), swapped, rtol=1e-2, atol=0)


def test_flat_sources_have_nothing_to_lose():
    flat, one = torch.full((1, 1, 48, 48), 0.3), image(4, 48, 48)
    assert metrics.vif(flat, flat, flat).item() == 2
    assert metrics.vif(one, flat, flat).item() == 2
    assert metrics.vif(flat, one, one).item() == pytest.approx(0, abs=1e-6)
    assert metrics.vif(flat, one, flat).item() == pytest.approx(1, abs=1e-6)
    assert metrics.viff(flat, flat, flat).item() == pytest.approx(1)
    assert metrics.viff(flat, one, one).item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("metric", [metrics.vif, metrics.viff])
def test_smallest_size(metric):
    enough, little = image(6, 41, 50), image(6, 40, 50)
    assert metric(enough, enough, enough).isfinite().all()
    with pytest.raises(ValueError, match="41 pixels"):
        metric(little, little, little)

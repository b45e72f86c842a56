import importlib

import numpy as np
import pytest
import pytorch_msssim
import torch
from pictures import array, image
from scipy import signal
from skimage.metrics import structural_similarity

from umfuse import metrics


def test_ssim_is_that_of_scikit_image(triple):
    fused, *sources = triple
    expected = [
        structural_similarity(
            array(fused),
            array(source),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for source in sources
    ]
    assert metrics.ssim(*triple).item() == pytest.approx(np.mean(expected), rel=1e-6)


def test_legacy_ssim_is_that_of_scikit_image(triple):
    fused, *sources = triple
    expected = [
        structural_similarity(255 * array(fused), 255 * array(source), data_range=2.0)
        for source in sources
    ]
    assert metrics.ssim(*triple, legacy=True).item() == pytest.approx(np.mean(expected), rel=1e-6)


def test_legacy_ssim_of_faint_contrasts_is_that_of_scikit_image():
    # As faint as its constants: half a grey level.
    fused, source = (0.3 + 2e-3 * image(seed).double() for seed in (1, 2))
    fused = (fused + source) / 2
    expected = structural_similarity(255 * array(fused), 255 * array(source), data_range=2.0)
    found = metrics.ssim(fused, source, source, legacy=True).item()
    assert found == pytest.approx(expected, rel=1e-6)
    assert 0.5 < expected < 0.95


def test_rounding_of_the_published_values_is_small(triple):
    fused, *sources = triple
    single = [
        structural_similarity(*(np.float32(255 * array(x)) for x in (fused, y)), data_range=2.0)
        for y in sources
    ]
    exact = metrics.ssim(*triple, legacy=True).item()
    assert exact == pytest.approx(np.mean(single), abs=2e-3)


def test_ms_ssim_is_that_of_pytorch_msssim(triple):
    fused, *sources = (one.double() for one in triple)
    axis = signal.windows.gaussian(11, 1.5)
    window = torch.from_numpy(axis / axis.sum())[None, None, None]
    expected = [
        pytorch_msssim.ms_ssim(fused, source, data_range=1.0, win=window).item()
        for source in sources
    ]
    assert metrics.ms_ssim(*triple).item() == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.parametrize(("side", "levels"), [(160, 4), (81, 4), (80, 3), (21, 2), (20, 1)])
def test_ms_ssim_has_as_many_scales_as_fit(side, levels):
    fused, source = (image(seed, side, side + 3).double() for seed in (1, 2))
    fused = (fused + source) / 2
    weights = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:levels]
    oracle = importlib.import_module("pytorch_msssim.ssim")
    axis = signal.windows.gaussian(11, 1.5)
    window = torch.from_numpy(axis / axis.sum())[None, None, None]
    expected, a, b = 1.0, fused, source
    for level, weight in enumerate(weights / weights.sum(), 1):
        whole, contrast = oracle._ssim(a, b, 1.0, window, size_average=False)
        expected *= float(whole if level == levels else contrast) ** weight
        a, b = (
            torch.nn.functional.avg_pool2d(x, 2, padding=[side % 2 for side in x.shape[2:]])
            for x in (a, b)
        )
    assert metrics.ms_ssim(fused, source, source).item() == pytest.approx(expected, rel=1e-6)


def test_one_scale_is_ssim():
    pictures = [image(seed, 15, 40) for seed in (1, 2, 3)]
    expected = metrics.ssim(*pictures).clamp_min(0)
    assert metrics.ms_ssim(*pictures).item() == pytest.approx(expected.item())


def test_a_negative_scale_makes_ms_ssim_zero():
    one = image(1, 176, 200)
    assert metrics.ms_ssim(1 - one, one, one).item() == 0
    assert metrics.ms_ssim(1 - one, one, 1 - one).item() == pytest.approx(0.5)
    # The finest scale alone is inverted.
    coarse = image(2, 176, 200)
    noise = 0.1 * torch.rand(one.shape, generator=torch.Generator().manual_seed(0)) - 0.05
    flat = 0.3 + 0.1 * coarse
    assert metrics.ms_ssim(flat + noise, flat - noise, flat - noise).item() == 0
    assert metrics.ms_ssim(flat + noise, flat, flat) > 0


def test_constants_compare_by_luminance():
    dark, bright = torch.full((1, 1, 30, 30), 0.2), torch.full((1, 1, 30, 30), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert metrics.ssim(dark, bright, bright).item() == pytest.approx(expected)
    assert metrics.ssim(dark, bright, dark).item() == pytest.approx((1 + expected) / 2)
    weight = 0.2856 / (0.0448 + 0.2856)
    found = metrics.ms_ssim(dark, bright, bright).item()
    assert found == pytest.approx(expected**weight, rel=1e-6)

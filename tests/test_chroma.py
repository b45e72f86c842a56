"""Noise of colour: measured, taken away, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from umfuse import chroma, filters, images, tiles


def colours(rgb: torch.Tensor) -> torch.Tensor:
    return rgb - filters.luma(rgb)


def noise(shape: tuple[int, ...], deviation: float, seed: int = 0) -> torch.Tensor:
    return deviation * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def scene() -> torch.Tensor:
    """Smooth shades, and a red square on them."""
    ramp = torch.linspace(0.2, 0.5, 160).expand(1, 3, 120, 160).clone()
    ramp[:, 0, 40:80, 60:110] += 0.4
    ramp[:, 2, 40:80, 60:110] -= 0.1
    return ramp


@pytest.mark.parametrize("deviation", [0.01, 0.03])
def test_the_noise_of_pixels_is_measured(scene, deviation):
    noisy = scene + noise(tuple(scene.shape), deviation)
    true = float(colours(noisy - scene).std(dim=(2, 3)).max())
    assert chroma.noise(colours(noisy)) == pytest.approx(true, rel=0.15)


def test_the_noise_of_squares_is_measured_as_four_times_as_many_pixels_have_it(scene):
    """JPEG files hold colour in squares of 2x2 pixels."""
    squares = noise((1, 3, 60, 80), 0.02).repeat_interleave(2, 2).repeat_interleave(2, 3)
    true = float(colours(squares).std(dim=(2, 3)).max())
    assert chroma.noise(colours(scene + squares)) == pytest.approx(2 * true, rel=0.2)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (7, 7), (8, 8)])
def test_a_small_picture_has_a_noise_too(size):
    assert chroma.noise(torch.zeros(1, 3, *size)) == 0


def test_noise_goes_and_colour_stays(scene):
    noisy = scene + noise(tuple(scene.shape), 0.03)
    deviation = chroma.noise(colours(noisy))
    cleaned = chroma.denoised(colours(noisy), deviation, torch.full((1, 1, 120, 160), 0.1))
    flat = (..., slice(0, 30), slice(0, 160))
    before = colours(noisy - scene)[flat].std()
    assert (cleaned - colours(scene))[flat].std() < 0.25 * before
    inside = (..., slice(50, 70), slice(70, 100))
    assert (cleaned - colours(scene))[inside].mean((2, 3)).abs().max() < 0.01
    assert filters.luma(cleaned).abs().max() < 1e-5


def test_the_edge_of_a_strong_colour_is_as_steep_as_before(scene):
    noisy = scene + noise(tuple(scene.shape), 0.015)
    change = torch.full((1, 1, 120, 160), 0.1)
    cleaned = chroma.denoised(colours(noisy), chroma.noise(colours(noisy)), change)
    step = (cleaned[0, 0, 45:75, 61] - cleaned[0, 0, 45:75, 58]).mean()
    true = (colours(scene)[0, 0, 45:75, 61] - colours(scene)[0, 0, 45:75, 58]).mean()
    assert step > 0.9 * true


def test_colours_stay_where_the_luma_does(scene):
    noisy = (scene + noise(tuple(scene.shape), 0.03)).clamp(0, 1)
    picture = images.read(noisy)
    luma = picture.luma.clone()
    luma[..., 80:] += 0.2
    fused = picture.fused(luma)
    assert torch.allclose(fused[..., :80], noisy[..., :80], atol=1e-6)
    assert colours(fused)[..., :30, 90:].std() < 0.4 * colours(noisy)[..., :30, 90:].std()


def test_a_picture_without_noise_keeps_its_colours_bit_for_bit():
    rng = np.random.default_rng(0)
    smooth = rng.integers(80, 160, (12, 16, 3)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
    picture = images.read(smooth)
    brighter = np.asarray(picture.fused(picture.luma + 40 / 255))
    assert np.array_equal(brighter, smooth + 40)


def test_a_noisy_picture_is_the_same_in_bands(scene, monkeypatch):
    noisy = (scene + noise(tuple(scene.shape), 0.03)).clamp(0, 1)
    luma = filters.luma(scene)
    whole = images.read(noisy).fused(luma)
    monkeypatch.setattr(tiles, "BAND", 160 * 7)
    assert torch.allclose(images.read(noisy).fused(luma), whole, atol=1e-5)


def test_the_luma_of_a_noisy_picture_is_the_one_that_is_given(scene):
    noisy = (scene + noise(tuple(scene.shape), 0.03)).clamp(0, 1)
    fused = images.read(noisy).fused(filters.luma(scene))
    assert torch.allclose(filters.luma(fused), filters.luma(scene), atol=1e-4)
    before = colours(noisy)[..., :30, :].std()
    assert colours(fused)[..., :30, :].std() < 0.4 * before

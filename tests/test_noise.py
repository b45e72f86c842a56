"""Noise of sensors: measured, taken away where it is strong, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import umfuse
from umfuse import filters, images, tiles
from umfuse import noise as noises


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
    assert noises.of_colours(colours(noisy)) == pytest.approx(true, rel=0.15)


def test_the_noise_of_squares_is_measured_as_four_times_as_many_pixels_have_it(scene):
    """JPEG files hold colour in squares of 2x2 pixels."""
    squares = noise((1, 3, 60, 80), 0.02).repeat_interleave(2, 2).repeat_interleave(2, 3)
    true = float(colours(squares).std(dim=(2, 3)).max())
    assert noises.of_colours(colours(scene + squares)) == pytest.approx(2 * true, rel=0.2)


@pytest.mark.parametrize("size", [(2, 2), (3, 200), (17, 17), (40, 18)])
def test_a_small_picture_has_a_noise_too(size):
    assert noises.of_colours(torch.zeros(1, 3, *size)) == 0
    infrared = torch.rand(1, 1, *size)
    assert noises.without_noise(infrared) is infrared


ANY = torch.full((1, 1, 120, 160), 0.1)  # by how much the luma changes


def test_noise_goes_and_colour_stays(scene):
    noisy = colours(scene + noise(tuple(scene.shape), 0.03))
    cleaned = noises.without_noise_of_colours(noisy, noises.of_colours(noisy), ANY)
    flat = (..., slice(0, 30), slice(0, 160))
    before = (noisy - colours(scene))[flat].std()
    assert (cleaned - colours(scene))[flat].std() < 0.25 * before
    inside = (..., slice(50, 70), slice(70, 100))
    assert (cleaned - colours(scene))[inside].mean((2, 3)).abs().max() < 0.01
    assert filters.luma(cleaned).abs().max() < 1e-5


def test_the_edge_of_a_strong_colour_is_as_steep_as_before(scene):
    noisy = colours(scene + noise(tuple(scene.shape), 0.015))
    cleaned = noises.without_noise_of_colours(noisy, noises.of_colours(noisy), ANY)
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


def warm(size: tuple[int, int] = (128, 160)) -> torch.Tensor:
    """An infrared image: shades, a warm square and a wall's edge from top to bottom."""
    image = torch.linspace(0.3, 0.5, size[1]).expand(1, 1, *size).clone()
    image[..., 30:60, 40:90] += 0.3
    image[..., 120:] -= 0.15
    return image


def root_mean_square(image: torch.Tensor) -> float:
    return float(image.square().mean().sqrt())


def test_grain_of_an_infrared_image_goes_and_its_edges_stay():
    clean = warm()
    noisy = clean + noise(tuple(clean.shape), 8 / 255)
    assert float(noises.deviation(noisy)) == pytest.approx(8 / 255, rel=0.15)
    without = noises.without_noise(noisy)
    assert root_mean_square(without - clean) < 0.45 * root_mean_square(noisy - clean)
    step = (without[..., 35:55, 42] - without[..., 35:55, 37]).mean()
    assert step == pytest.approx(0.3, abs=0.03)


def test_stripes_of_a_microbolometer_go_and_the_edge_of_a_wall_stays():
    clean = warm()
    lines = noise((1, 1, 1, 160), 5 / 255, 1) + noise((1, 1, 128, 1), 5 / 255, 2)
    without = noises.without_noise(clean + lines)
    assert root_mean_square(without - clean) < 0.5 * root_mean_square(lines)
    added = (without - (clean + lines))[..., 117:123]  # beside the wall nothing is touched
    assert added.mean(2).abs().max() < 1 / 255


def test_an_image_with_little_noise_is_the_same_object():
    clean = warm()
    for faint in (clean, clean + noise(tuple(clean.shape), 1.5 / 255)):
        assert noises.without_noise(faint) is faint


def test_each_image_of_a_batch_has_its_own_noise():
    clean, noisy = warm(), warm() + noise((1, 1, 128, 160), 8 / 255)
    both = noises.without_noise(torch.cat((clean, noisy)))
    assert torch.equal(both[:1], clean)
    assert torch.allclose(both[1:], noises.without_noise(noisy), atol=1e-6)


def test_places_without_data_do_not_hide_the_noise():
    noisy = warm() + noise((1, 1, 128, 160), 8 / 255)
    noisy[..., :, 80:] = 0.4
    assert float(noises.deviation(noisy)) == pytest.approx(8 / 255, rel=0.2)


def test_less_of_the_noise_reaches_the_fused_image():
    grey = np.full((128, 160), 90, np.uint8)
    grey[40:90, 60:110] = 160
    clean = (255 * warm()[0, 0]).round().numpy()
    spread = np.random.default_rng(0).normal(0, 8, clean.shape)
    noisy = (clean + spread).round().clip(0, 255).astype(np.uint8)
    fused = [umfuse.fuse(one, grey, align=False) for one in (clean.astype(np.uint8), noisy)]
    change = np.subtract(*(one.image.astype(float) for one in fused))
    assert np.sqrt((change**2).mean()) < 0.6 * 8

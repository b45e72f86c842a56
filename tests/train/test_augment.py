"""Noise of sensors, as training adds it."""

from __future__ import annotations

import torch

from umfuse.train.augment import SensorNoise

GREY = torch.full((1, 96, 128), 0.5)


def drawn(noise: SensorNoise, count: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([noise(GREY, generator) - GREY for _ in range(count)])


def test_an_image_has_noise_as_often_as_is_said():
    changed = drawn(SensorNoise(often=0.5, white=0.1), 200).abs().amax((1, 2, 3)) > 0
    assert 0.4 < changed.float().mean() < 0.6
    assert not drawn(SensorNoise(often=0.0, white=0.1)).any()


def test_white_noise_is_no_stronger_than_is_said_and_as_strong_through_its_grain():
    for grain in (0.0, 1.0):
        strength = drawn(SensorNoise(often=1.0, white=0.05, grain=grain)).std((1, 2, 3))
        assert strength.max() < 0.055
        assert strength.min() > 0.02


def test_grain_makes_neighbours_alike():
    def alike(noise: torch.Tensor) -> float:
        return float((noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean())

    assert abs(alike(drawn(SensorNoise(often=1.0, white=0.05)))) < 0.02
    assert alike(drawn(SensorNoise(often=1.0, white=0.05, grain=1.5))) > 0.2


def test_stripes_run_through_the_image():
    noise = drawn(SensorNoise(often=1.0, stripes=0.05))
    rows = noise - noise.mean(2, keepdim=True)
    left = (rows - rows.mean(3, keepdim=True)).abs().amax((1, 2, 3))
    assert left.max() < 1e-5  # nothing but columns and rows
    striped, across = (one.abs().amax((1, 2, 3)) > 1e-4 for one in (noise, rows))
    assert 0.3 < striped.float().mean() < 0.7
    assert 0.1 < across.float().mean() < 0.5  # rows in half of those with stripes


def test_values_stay_in_their_range():
    noise = SensorNoise(often=1.0, white=0.8, stripes=0.5)
    generator = torch.Generator().manual_seed(1)
    images = torch.stack([noise(GREY, generator) for _ in range(10)])
    assert images.min() >= 0
    assert images.max() <= 1

"""How much the images support an alignment, pixel by pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks import certainty as measured
from PIL import Image

import umfuse
from umfuse import Registration, certainty, cli, images, registering

LEFT = np.s_[:, :140]
RIGHT = np.s_[:, 180:]


@pytest.fixture(scope="module")
def found(scene, model):
    return umfuse.register(scene.infrared, scene.visible, weights=model)


def held(registration, infrared, visible):
    return registering.holding(registration, images.read(infrared), images.read(visible))


def moved(registration, pixels):
    """The registration with its left half moved to the right, softly."""
    width = registration.visible_size[1]
    share = np.clip((0.5 - (np.arange(64) + 0.5) / 64) * width / 10 + 0.5, 0, 1)
    field = np.zeros((48, 64, 2), np.float32)
    field[..., 0] = pixels * share
    assert not registration.field.any()  # what is added is all there is
    return replace(registration, field=field)


def test_it_is_a_map_of_the_visible_image_between_0_and_1(found):
    assert found.certainty.shape == (240, 320)
    assert found.certainty.dtype == np.float32
    assert found.certainty.min() >= 0
    assert found.certainty.max() <= 1
    assert found.certainty.max() > 0.9
    assert found.certainty is found.certainty  # computed once


def test_what_is_misaligned_is_less_certain(scene):
    true = Registration.from_transform(scene.transform, scene.infrared.shape, (240, 320))
    right = held(true, scene.infrared, scene.visible).certainty
    wrong = held(moved(true, 9), scene.infrared, scene.visible).certainty
    assert right[LEFT].mean() > 0.2
    assert wrong[LEFT].mean() < 0.3 * right[LEFT].mean()
    assert np.abs(wrong - right)[RIGHT].mean() < 0.05


@pytest.mark.parametrize("which", ["infrared", "visible"])
def test_where_nothing_is_to_be_seen_nothing_is_certain(scene, which):
    true = Registration.from_transform(np.eye(3), (240, 320), (240, 320))
    pair = {"infrared": scene.aligned_infrared, "visible": scene.visible}
    whole = held(true, *pair.values()).certainty
    blank = pair[which].copy()
    blank[LEFT] = np.median(blank)
    pair[which] = blank
    part = held(true, *pair.values()).certainty
    assert whole[LEFT].mean() > 0.3
    assert part[:, :100].max() < 0.05
    assert part[RIGHT].mean() > 0.8 * whole[RIGHT].mean()


def test_noise_supports_nothing():
    rng = np.random.default_rng(0)
    pair = [rng.integers(0, 256, (240, 320), np.uint8) for _ in range(2)]
    true = Registration.from_transform(np.eye(3), (240, 320), (240, 320))
    assert held(true, *pair).certainty.mean() < 0.1


def test_constant_images_support_nothing():
    flat = np.full((60, 80), 90, np.uint8)
    true = Registration.from_transform(np.eye(3), (60, 80), (60, 80))
    assert held(true, flat, flat).certainty.max() < 1e-6


def test_resizing_that_took_the_place_of_a_doubtful_alignment_is_not_certain(scene, model, found):
    doubtful = umfuse.register(
        *(scene.infrared, scene.visible), weights=model, min_confidence=1, on_failure="return"
    )
    assert doubtful.method == "resize"
    assert doubtful.certainty.mean() < 0.3 * found.certainty.mean()


def test_there_is_none_without_infrared_data(scene):
    true = Registration.from_transform([[1, 0, -40], [0, 1, 0], [0, 0, 1]], (240, 320), (240, 320))
    infrared = scene.aligned_infrared.astype(np.float32)
    infrared[100:140, 100:200] = np.nan
    infrared = (infrared - np.nanmin(infrared)) / np.nanmax(infrared)
    seen = held(true, infrared, scene.visible)
    assert not seen.certainty[~seen.valid_mask].any()
    assert (~seen.valid_mask).sum() > 40 * 240 + 3000


def test_what_is_held_of_a_large_image_is_small_and_says_the_same(scene):
    small = Registration.from_transform(scene.transform, scene.infrared.shape, (240, 320))
    big = np.kron(scene.visible, np.ones((8, 8, 1), np.uint8))
    enlarged = small.transform @ [[1 / 8, 0, -3.5 / 8], [0, 1 / 8, -3.5 / 8], [0, 0, 1]]
    large = Registration.from_transform(enlarged, scene.infrared.shape, (1920, 2560))
    one, other = held(small, scene.infrared, scene.visible), held(large, scene.infrared, big)
    assert max(other._visible.shape) <= certainty.HELD
    assert other.certainty.shape == (1920, 2560)
    assert np.abs(other.certainty[4::8, 4::8] - one.certainty).mean() < 0.05


def test_nothing_is_computed_before_it_is_asked_for(scene, model):
    assert "certainty" not in vars(umfuse.register(scene.infrared, scene.visible, weights=model))


@pytest.mark.parametrize("way", ["given", "loaded"])
def test_without_images_there_is_none(found, tmp_path, way):
    given = Registration.from_transform(np.eye(3), (60, 80), (60, 80))
    if way == "loaded":
        found.save(tmp_path / "found.npz")
        given = Registration.load(tmp_path / "found.npz")
    with pytest.raises(ValueError, match="holds no images to compare: register them"):
        given.certainty  # noqa: B018


def test_a_guess_and_the_frames_of_a_rig_have_theirs(scene, model, found):
    guessed = umfuse.register(scene.infrared, scene.visible, initial=found, weights=model)
    assert np.abs(guessed.certainty - found.certainty).mean() < 0.2
    rig = umfuse.Rig(weights=model, frames=1)
    fusion = rig.fuse(scene.infrared, scene.visible)
    assert fusion.registration.certainty.mean() > 0.5 * found.certainty.mean()


def test_tensors_that_want_gradients_have_theirs(scene, model, found):
    infrared = torch.from_numpy(scene.infrared.astype(np.float32))
    infrared = (infrared - infrared.min()) / (infrared.max() - infrared.min())
    visible = torch.from_numpy(scene.visible).movedim(-1, 0) / 255
    visible.requires_grad_(True)
    reg = umfuse.register(infrared.requires_grad_(True), visible, weights=model)
    assert reg.certainty.shape == found.certainty.shape


def test_a_sheet_shows_that_of_a_registration_that_was_loaded(found, scene, tmp_path):
    images.save(scene.infrared, tmp_path / "ir.png")
    images.save(scene.visible, tmp_path / "vis.png")
    found.save(tmp_path / "rig.npz")
    paths = [str(tmp_path / name) for name in ("ir.png", "vis.png", "out.png")]
    sheet, rig = str(tmp_path / "sheet.png"), str(tmp_path / "rig.npz")
    command = ["fuse", *paths[:2], "-o", paths[2], "--registration", rig, "--sheet", sheet]
    assert cli.main(command) == 0
    with Image.open(sheet) as image:
        assert image.width > 4 * 320
        panel = np.asarray(image.crop((3 * 326, 20, 4 * 326, 180))).astype(int)
    violet, yellow = panel[..., 2] - panel[..., 1] > 20, panel[..., 0] - panel[..., 2] > 60
    assert violet.mean() > 0.1
    assert yellow.mean() > 0.1


# ---- the command that measures it ----------------------------------------------------------------


def test_equal_values_share_their_rank():
    assert measured.ranks(torch.tensor([3.0, 1.0, 3.0, 7.0])).tolist() == [2.5, 1, 2.5, 4]
    rising = torch.arange(9.0)
    assert measured.rank_correlation(rising, rising.exp()) == pytest.approx(1)
    assert measured.rank_correlation(rising, -rising) == pytest.approx(-1)


def test_pixels_that_are_bent_away_are_less_certain(found, scene):
    seen = measured.Seen()
    truth = torch.from_numpy(scene.transform)
    for seed in range(3):
        wrong = measured.bent(found, seed)
        seen.add(wrong, umfuse.geometry.project_grid(truth, (240, 320)))
    assert seen.pairs == 3
    assert measured.rank_correlation(*seen.pixels()) < -0.3
    errors = measured.tenths(seen)
    assert errors[-1] < 0.6 * errors[0]
    assert len(list(measured.classes(seen))) == 8

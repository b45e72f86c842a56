"""Two cameras that do not move: one alignment, no flicker, and drift that is noticed."""

import logging

import numpy as np
import pytest
import torch
from benchmarks import scenes

import umfuse
from umfuse import Rig, geometry
from umfuse.registration import Registration
from umfuse.rig import consensus

FRAMES = 4
NOISE = 0.015


@pytest.fixture(scope="module")
def street():
    return scenes.render(seed=3, size=(240, 320))


def counts(street, number, shift=0):
    """The infrared frame of a number, 8 bits, with noise of its own; moved by whole pixels."""
    rng = np.random.default_rng(number)
    values = street.infrared.astype(float)
    low, high = np.percentile(values, (0.5, 99.5))
    unit = np.clip((values - low) / (high - low), 0, 1) * 0.8 + 0.05
    unit = np.roll(unit, shift, axis=1) + NOISE * rng.standard_normal(unit.shape)
    return np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)


def frame(street, number, shift=0):
    rng = np.random.default_rng(1000 + number)
    noise = 255 * NOISE * rng.standard_normal(street.visible.shape)
    visible = np.rint(np.clip(street.visible + noise, 0, 255)).astype(np.uint8)
    return counts(street, number, shift), visible


def error(registration, street, shift=0):
    """Mean distance from the truth in infrared pixels, where the infrared camera sees."""
    truth = torch.from_numpy(street.transform).clone()
    truth[0] += shift * truth[2]
    expected = geometry.project_grid(truth, registration.visible_size)
    inside = geometry.inside(expected, registration.infrared_size)[0, 0].numpy()
    apart = registration.coordinates - expected[0].movedim(0, -1).numpy()
    return float(np.linalg.norm(apart, axis=-1)[inside].mean())


@pytest.fixture(scope="module")
def settled(street, model):
    """A rig that has seen its first frames, and what each of them says alone."""
    rig = Rig(frames=FRAMES, check_every=2, weights=model)
    alone = []
    for number in range(FRAMES):
        pair = frame(street, number)
        alone.append(umfuse.register(*pair, weights=model))
        rig.fuse(*pair)
    return rig, alone


def test_the_median_of_frames_is_better_than_one_of_them(street, settled):
    rig, alone = settled
    errors = [error(one, street) for one in alone]
    assert error(rig.registration, street) <= np.median(errors) + 0.02
    assert error(rig.registration, street) < 1.0


def test_a_static_rig_does_not_move_and_needs_no_search(street, settled, monkeypatch):
    rig, _ = settled
    before = rig.registration
    monkeypatch.setattr("umfuse.registering.from_nothing", None)
    for number in range(FRAMES, FRAMES + 8):
        fusion = rig.fuse(*frame(street, number))
        assert rig.registration is before
        assert np.array_equal(fusion.registration.coordinates, before.coordinates)


def test_two_starts_agree(street, settled, model):
    rig, _ = settled
    other = Rig(frames=FRAMES, weights=model)
    for number in range(50, 50 + FRAMES):
        other.fuse(*frame(street, number))
    apart = rig.registration.coordinates - other.registration.coordinates
    assert float(np.linalg.norm(apart, axis=-1).mean()) < 0.1


def test_a_hot_object_leaves_the_rest_as_it_was(street, model, settled):
    """16-bit frames, whose range would follow the object, and a network that sees means."""
    registration = settled[0].registration
    assert model.config.difn.global_means
    rig = Rig(frames=FRAMES, registration=registration, weights=model)

    def deep(number, hot):
        values = 28000 + 20 * counts(street, number).astype(np.int64)
        if hot:
            values[60:180, 20:90] = 39000
        return values.astype(np.uint16)

    visible = street.visible
    for number in range(FRAMES):
        before = rig.fuse(deep(number, False), visible).luma
    after = rig.fuse(deep(FRAMES, True), visible).luma
    seen = registration.coordinates
    inside = registration.valid_mask
    rest = inside & ((seen[..., 0] > 120) | (seen[..., 1] < 40) | (seen[..., 1] > 200))
    hot = inside & (seen[..., 0] > 30) & (seen[..., 0] < 80)
    hot &= (seen[..., 1] > 70) & (seen[..., 1] < 170)
    assert rest.sum() > 5000
    assert hot.sum() > 1000
    assert abs(float(after[rest].mean() - before[rest].mean())) * 255 < 1
    assert float(after[hot].mean() - before[hot].mean()) * 255 > 10
    # Frame by frame the same object darkens everything else.
    plain = [
        umfuse.fuse(deep(number, number == 1), visible, registration=registration, weights=model)
        for number in range(2)
    ]
    assert abs(float(plain[1].luma[rest].mean() - plain[0].luma[rest].mean())) * 255 > 3


def test_a_shutter_changes_nothing_and_gives_the_visible_image(street, settled):
    rig, _ = settled
    before = rig.registration
    visible = street.visible
    fusion = rig.fuse(np.full_like(street.infrared, 77, dtype=np.uint8), visible)
    assert rig.registration is before
    np.testing.assert_allclose(np.asarray(fusion.image, int), visible, atol=1)


def test_drift_is_noticed_and_repaired(street, model, settled, caplog):
    rig = Rig(frames=FRAMES, check_every=2, registration=settled[0].registration, weights=model)
    for number in range(4):
        rig.fuse(*frame(street, number))
    old = rig.registration
    shift = 5
    with caplog.at_level(logging.WARNING, logger="umfuse"):
        for number in range(4, 4 + 3 + FRAMES + 4):
            rig.fuse(*frame(street, number, shift))
    assert "the cameras have moved" in caplog.text
    assert rig.registration is not old
    assert error(old, street, shift) > 4
    assert error(rig.registration, street, shift) < 1.2


def test_one_bad_frame_is_not_drift(street, model, settled):
    rig = Rig(frames=FRAMES, check_every=1, registration=settled[0].registration, weights=model)
    for number in range(4):
        rig.fuse(*frame(street, number))
    old = rig.registration
    noise = np.random.default_rng(0).integers(0, 255, street.infrared.shape).astype(np.uint8)
    rig.fuse(noise, street.visible)
    for number in range(4, 8):
        rig.fuse(*frame(street, number))
    assert rig.registration is old


def test_pairs_that_cannot_be_aligned_are_resized_and_told(model, caplog):
    rng = np.random.default_rng(0)
    rig = Rig(frames=1, weights=model)
    with caplog.at_level(logging.WARNING, logger="umfuse"):
        fusion = rig.fuse(
            rng.integers(0, 255, (96, 128)).astype(np.uint8),
            rng.integers(0, 255, (96, 128, 3)).astype(np.uint8),
        )
    assert rig.registration is None
    assert "none of 1 frames could be aligned" in caplog.text
    assert fusion.registration.method == "given"


def test_frames_have_one_size(street, model, settled):
    rig = Rig(registration=settled[0].registration, weights=model)
    infrared, visible = frame(street, 0)
    rig.fuse(infrared, visible)
    with pytest.raises(ValueError, match="begin another Rig"):
        rig.fuse(infrared[:-1], visible)
    with pytest.raises(ValueError, match="the registration was made for"):
        Rig(registration=settled[0].registration, weights=model).fuse(infrared[:-1], visible)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"check_every": 0}, {"min_confidence": 2}])
def test_wrong_options_are_refused(model, wrong):
    with pytest.raises(ValueError, match="must"):
        Rig(weights=model, **wrong)


def test_the_consensus_is_the_weighted_median():
    def moved(x, confidence):
        transform = np.array([[0.5, 0, x], [0, 0.5, 2.0], [1e-5, 0, 1]])
        made = Registration.from_transform(transform, (60, 80), (120, 160))
        object.__setattr__(made, "confidence", confidence)
        return made

    registrations = [moved(3.0, 1.0), moved(3.2, 1.0), moved(40.0, 0.4), moved(3.1, 1.0)]
    found = consensus(registrations)
    expected = moved(3.1, 1.0)
    assert np.abs(found.coordinates - expected.coordinates).max() < 0.11
    assert np.abs(found.transform - expected.transform).max() < 0.11
    assert np.abs(consensus([expected] * 3).coordinates - expected.coordinates).max() < 1e-3

"""What is done with a pair that cannot be aligned; pairs aligned by a matcher or from a guess."""

import logging
import pickle

import numpy as np
import pytest
import torch

import umfuse
from umfuse import Registration, RegistrationError, geometry, images, registering


@pytest.fixture(scope="module")
def noise():
    """Two images that have nothing to do with each other."""
    rng = np.random.default_rng(0)
    infrared = rng.integers(0, 255, (96, 128), dtype=np.uint8)
    return infrared, rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)


@pytest.fixture
def bent(monkeypatch):
    """A registration that moves and bends, and that nobody trusts, in the place of the search."""

    def from_nothing(model, infrared, visible, known):
        field = np.full((4, 5, 2), 3, np.float32)
        transform = np.array([[0.7, 0, 9], [0, 0.7, 4], [0, 0, 1]])
        sizes = (infrared.size, visible.size)
        numbers = (0.2, 7.0, 6.0, 0.05)
        return Registration(transform, field, *sizes, "dense", *numbers, infrared)

    monkeypatch.setattr(registering, "from_nothing", from_nothing)


def error(registration, scene):
    """Mean distance in infrared pixels to the truth, where there is infrared data."""
    miss = np.linalg.norm(registration.coordinates - scene.coordinates, axis=-1)
    return miss[scene.valid].mean()


# ---- on_failure ----------------------------------------------------------------------------------


def test_what_is_not_trusted_is_not_used(bent, noise, model):
    found = umfuse.register(*noise, weights=model, on_failure="return")
    assert found.method == "resize"
    assert np.abs(found.displacement).max() == 0
    numbers = (found.confidence, found.log_likelihood, found.runner_up, found.correlation)
    assert numbers == (0.2, 7.0, 6.0, 0.05)
    assert found.infrared.shape == noise[1].shape[:2]
    used = umfuse.register(*noise, weights=model, min_confidence=0.2)
    assert used.method == "dense"
    assert np.abs(used.displacement).max() > 1


def test_the_low_confidence_of_a_fusion_only_resizes(bent, noise, model):
    fusion = umfuse.fuse(*noise, weights=model, on_failure="return")
    resized = umfuse.fuse(*noise, weights=model, align=False)
    assert np.array_equal(fusion.image, resized.image)
    assert fusion.registration.confidence == 0.2


def test_warning_names_the_files(bent, noise, model, tmp_path, caplog):
    paths = (tmp_path / "hot.png", tmp_path / "seen.png")
    for image, path in zip(noise, paths, strict=True):
        images.save(image, path)
    with caplog.at_level(logging.WARNING, logger="umfuse.api"):
        umfuse.register(*paths, weights=model)
        umfuse.register(str(paths[0]), noise[1], weights=model)
        umfuse.register(*noise, weights=model)
    both, one, none = (record.getMessage() for record in caplog.records)
    assert both.startswith(f"{paths[0]} + {paths[1]}: the alignment is doubtful (confidence 0.20")
    assert one.startswith(f"{paths[0]}: the alignment is doubtful")
    assert none.startswith("the alignment is doubtful")


def test_only_a_warning_is_logged(bent, noise, model, caplog):
    with caplog.at_level(logging.WARNING, logger="umfuse.api"):
        umfuse.fuse(*noise, weights=model, on_failure="return")
        umfuse.fuse(*noise, weights=model, on_failure="visible")
        with pytest.raises(RegistrationError) as caught:
            umfuse.fuse(*noise, weights=model, on_failure="raise")
    assert caught.value.registration.confidence == 0.2
    assert caught.value.registration.method == "resize"
    assert not caplog.records


def test_error_says_what_and_can_be_caught_as_what_it_is(bent, noise, model, tmp_path):
    images.save(noise[0], tmp_path / "hot.png")
    with pytest.raises(ValueError, match=r"hot.png: .*doubtful \(confidence 0.20, below 0.30\)"):
        umfuse.register(tmp_path / "hot.png", noise[1], weights=model, on_failure="raise")
    with pytest.raises(RegistrationError) as caught:
        umfuse.fuse(*noise, weights=model, on_failure="raise", min_confidence=0.21)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.registration.log_likelihood == 7.0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_visible_image_in_the_place_of_a_fusion(dtype, bent, noise, model):
    visible = (noise[1] / 255).astype(dtype) if dtype == np.float32 else noise[1].astype(dtype) * 1
    fusion = umfuse.fuse(noise[0], visible, weights=model, on_failure="visible")
    assert np.array_equal(fusion.image, visible)
    assert fusion.image.dtype == dtype
    assert fusion.registration.method == "resize"
    np.testing.assert_allclose(fusion.luma, images.read(visible, range="dtype").luma[0, 0])
    fused = umfuse.fuse(noise[0], visible, weights=model, on_failure="visible", min_confidence=0.1)
    assert not np.array_equal(fused.image, visible)


def test_what_is_trusted_is_used_whatever_failure_would_do(scene, model):
    trusted = umfuse.register(scene.infrared, scene.visible, weights=model)
    assert trusted.confidence > 0.6
    for how in ("raise", "return"):
        again = umfuse.register(scene.infrared, scene.visible, weights=model, on_failure=how)
        assert np.array_equal(again.transform, trusted.transform)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("register", {"on_failure": "visible"}, "only fuse has a visible image to give"),
        ("register", {"on_failure": "cry"}, "must be one of warn, raise, return, got 'cry'"),
        ("fuse", {"on_failure": "cry"}, "must be one of warn, raise, visible, return"),
        ("fuse", {"min_confidence": 1.5}, r"must lie in \[0, 1\]"),
        ("fuse", {"min_confidence": float("nan")}, r"must lie in \[0, 1\]"),
        ("fuse", {"matcher": print, "initial": np.eye(3)}, "exclude each other"),
        ("fuse", {"initial": np.eye(3), "align": False}, "leave them out"),
        ("fuse", {"matcher": print, "registration": np.eye(3)}, "leave them out"),
        ("register", {"initial": np.eye(2)}, "initial must be a Registration"),
    ],
)
def test_options_that_cannot_be_meant(function, options, message, noise, model):
    with pytest.raises(ValueError, match=message):
        getattr(umfuse, function)(*noise, weights=model, **options)


def test_a_matcher_must_be_callable(noise, model):
    with pytest.raises(TypeError, match="matcher must be a callable that returns points, got str"):
        umfuse.register(*noise, weights=model, matcher="lightglue")


# ---- constant images -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("align", [True, False])
def test_a_closed_shutter_leaves_the_visible_image(dtype, align, scene, model):
    shutter = np.full((96, 120), 90, dtype)
    options = {"weights": model, "align": align, "on_failure": "return"}
    fusion = umfuse.fuse(shutter, scene.visible, **options)
    assert np.array_equal(fusion.image, scene.visible)
    found = fusion.registration
    assert (found and (found.confidence, found.method)) == ((0, "resize") if align else None)
    shutter[0, 0] += 1  # one dead pixel, too
    fusion = umfuse.fuse(shutter, scene.visible, ir_range=(0, np.iinfo(dtype).max), **options)
    assert np.array_equal(fusion.image, scene.visible)


@pytest.mark.parametrize("kind", ["matcher", "initial"])
def test_a_closed_shutter_has_no_confidence_by_any_way(kind, scene, model):
    shutter = np.full((96, 120), 90, np.uint8)
    points = np.random.default_rng(0).uniform(0, 90, (50, 2))
    options = {"matcher": lambda *lumas: (points, points), "initial": np.eye(3)}
    found = umfuse.register(
        shutter, scene.visible, weights=model, on_failure="return", **{kind: options[kind]}
    )
    assert found.confidence == 0
    assert found.method == {"matcher": "resize", "initial": "given"}[kind]


def test_of_a_batch_only_the_constant_one_is_left_out(scene, model):
    infrared = images.read(scene.infrared).luma
    visible = images.read(scene.visible).rgb
    batch = torch.cat((infrared, torch.full_like(infrared, 0.3)))
    both = visible.expand(2, -1, -1, -1)
    with torch.no_grad():
        out = model(batch, both)
        alone = model(infrared, visible)
    grey = images.read(scene.visible).luma
    assert torch.equal(out.fused[1], grey[0])
    torch.testing.assert_close(out.fused[:1], alone.fused, atol=1e-4, rtol=0)
    found = model.infer(batch, both)
    assert torch.equal(found.fused[1], grey[0])
    assert float(found.confidence[1]) == 0
    assert float(found.confidence[0]) > 0.6


def test_a_faint_infrared_image_is_no_constant_one(scene, model):
    faint = 30000 + (images.read(scene.infrared).luma[0, 0].numpy() * 40).astype(np.uint16)
    fusion = umfuse.fuse(faint, scene.visible, weights=model, align=False, ir_range=(0, 65535))
    assert not np.array_equal(fusion.image, scene.visible)


def test_a_constant_visible_image_shows_the_infrared_one(scene, model):
    black = np.full((240, 320, 3), 20, np.uint8)
    fusion = umfuse.fuse(scene.infrared, black, weights=model, on_failure="return")
    assert fusion.registration.confidence == 0
    assert np.isfinite(fusion.luma).all()
    assert fusion.luma.std() > 0.02


# ---- matcher -------------------------------------------------------------------------------------


def true_points(scene, right=60, wrong=60, shift=0.0):
    """Places that the two images share with an error of a pixel, and as many wrong ones."""
    rng = np.random.default_rng(0)
    y, x = np.nonzero(scene.valid)
    chosen = rng.choice(len(y), right)
    y, x = y[chosen], x[chosen]
    visible, infrared = np.stack((x, y), -1).astype(float), scene.coordinates[y, x] + shift
    infrared = infrared + rng.normal(0, 0.5, infrared.shape)
    size = np.array(scene.infrared.shape[::-1])
    infrared = np.concatenate((infrared, rng.uniform(0, size, (wrong, 2))))
    return infrared, np.concatenate((visible, rng.uniform(0, (320, 240), (wrong, 2))))


def test_points_of_a_matcher_in_the_place_of_the_search(scene, model, monkeypatch):
    monkeypatch.setattr(registering, "from_nothing", None)
    seen = []

    def matcher(infrared, visible):
        seen.extend((infrared, visible))
        return (*true_points(scene), None)

    found = umfuse.register(scene.infrared, scene.visible, weights=model, matcher=matcher)
    assert found.method == "matcher"
    assert found.confidence > 0.9
    assert found.log_likelihood > 50
    assert error(found, scene) < 1
    assert [luma.shape for luma in seen] == [scene.infrared.shape, scene.visible.shape[:2]]
    for luma in seen:
        assert luma.dtype == np.float32
        assert 0 <= luma.min() < luma.max() <= 1
    fusion = umfuse.fuse(scene.infrared, scene.visible, weights=model, matcher=matcher)
    assert np.array_equal(fusion.registration.transform, found.transform)


@pytest.mark.parametrize(
    ("options", "method"),
    [({"right": 0}, "resize"), ({"right": 5, "wrong": 0}, "resize"), ({"shift": 40}, "resize")],
)
def test_points_that_are_wrong_move_nothing(options, method, scene, model, caplog):
    points = true_points(scene, **options)
    found = umfuse.register(
        scene.infrared, scene.visible, weights=model, matcher=lambda *lumas: points
    )
    assert found.confidence < 0.1
    assert found.method == method
    assert np.abs(found.displacement).max() == 0
    assert "doubtful" in caplog.text


def test_few_right_points_count_less():
    shares = [registering.confidence_of(100.0, share) for share in (0.02, 0.1, 0.5)]
    assert shares == sorted(shares)
    assert shares[0] < 0.1
    assert shares[-1] > 0.99
    evidence = [registering.confidence_of(value) for value in (-1e9, 0, 10, 100, 1e9)]
    assert evidence == sorted(evidence)
    assert evidence[0] < 1e-6
    assert evidence[-1] == 1


def test_what_a_matcher_returns_is_checked(scene, model):
    with pytest.raises(ValueError, match="the matcher must return infrared points"):
        umfuse.register(scene.infrared, scene.visible, weights=model, matcher=lambda *lumas: None)


# ---- initial -------------------------------------------------------------------------------------


def shifted(scene, pixels):
    transform = np.array(scene.transform, dtype=float)
    transform[0, 2] += pixels
    return transform


@pytest.mark.parametrize("kind", ["array", "tensor", "registration", "path"])
def test_a_rough_guess_is_refined(kind, scene, model, tmp_path, monkeypatch):
    monkeypatch.setattr(registering, "from_nothing", None)
    sizes = (scene.infrared.shape, scene.visible.shape[:2])
    guess = shifted(scene, 6)
    if kind == "tensor":
        guess = torch.from_numpy(guess)
    elif kind != "array":
        guess = Registration.from_transform(guess, *sizes)
    if kind == "path":
        guess.save(tmp_path / "guess.npz")
        guess = tmp_path / "guess.npz"
    found = umfuse.register(scene.infrared, scene.visible, weights=model, initial=guess)
    assert found.method in ("search", "dense")
    assert found.confidence > 0.9
    assert error(found, scene) < 1
    assert found.infrared.dtype == scene.infrared.dtype


def test_a_guess_that_is_best_stays_as_it_came(scene, model, monkeypatch):
    """What explains the pair less well than the guess is dropped, its field stays too."""
    sizes = (scene.infrared.shape, scene.visible.shape[:2])
    right = umfuse.register(scene.infrared, scene.visible, weights=model)
    worse = geometry.similarity_transform((0.0, 0.0), (9.0, 0.0), degrees=3)
    monkeypatch.setattr(registering.homography, "refine", lambda pair, transform: worse)
    monkeypatch.setattr(model, "align", lambda infrared, visible, transform: kept(transform))

    def kept(transform):
        return registering.Alignment(transform[None], torch.zeros(1, 2, 8, 8), None, None)

    field = np.full((3, 4, 2), 0.01, np.float32)
    guess = Registration(right.transform, field, *sizes, "dense", 0.5, 1.0, 2.0, 3.0)
    found = umfuse.register(scene.infrared, scene.visible, weights=model, initial=guess)
    assert found.method == "given"
    assert np.array_equal(found.transform, right.transform)
    assert np.array_equal(found.field, field)
    assert found.confidence > 0.9
    assert found.log_likelihood > 50


def test_a_wrong_guess_is_the_answer_but_not_trusted(noise, model, caplog):
    guess = np.array([[0.7, 0, 9], [0, 0.7, 4], [0, 0, 1]])
    found = umfuse.register(*noise, weights=model, initial=guess)
    assert found.method == "given"
    assert np.array_equal(found.transform, guess)
    assert not found.field.any()
    assert found.confidence < 0.3
    assert "the initial placing is kept" in caplog.text

import math

import numpy as np
import pytest
import torch
from PIL import Image

import umfuse
from umfuse import Registration, geometry, images

SIZES = ((60, 80), (90, 130))  # infrared, visible


@pytest.fixture
def registration():
    """A transform and a bent field on a coarse grid."""
    transform = geometry.similarity_transform((60, 40), (42, 31), (0.6, 0.62), 5).numpy()
    y, x = np.mgrid[:10, :14] / 10
    field = np.stack((2 * np.sin(3 * y), 1.5 * np.cos(4 * x)), -1).astype(np.float32)
    return Registration(transform, field, *SIZES, "dense", 0.9, 120.0, 14.0, 0.5)


def picture(*shape):
    return np.random.default_rng(0).integers(0, 1000, shape).astype(np.uint16)


def test_points_go_where_pixels_look(registration):
    y, x = np.array([3, 40, 80]), np.array([5, 70, 120])
    points = np.stack((x, y), -1)
    mapped = registration.map_points(points)
    np.testing.assert_allclose(mapped, registration.coordinates[y, x], atol=1e-3)
    assert registration.map_points(points[0]).shape == (2,)
    assert registration.map_points(points[None]).shape == (1, 3, 2)


def test_points_come_back(registration):
    points = np.random.default_rng(1).uniform((0, 0), (129, 89), (50, 2))
    back = registration.inverse_map_points(registration.map_points(points))
    np.testing.assert_allclose(back, points, atol=1e-3)


def test_displacement_is_what_resizing_lacks(registration):
    plain = geometry.project_grid(geometry.resize_transform(*reversed(SIZES)), SIZES[1])
    both = plain[0].movedim(0, -1).numpy() + registration.displacement
    np.testing.assert_allclose(both, registration.coordinates, atol=1e-4)


def test_valid_mask_says_where_infrared_is(registration):
    x, y = registration.coordinates[..., 0], registration.coordinates[..., 1]
    expected = (x >= -0.5) & (x <= 79.5) & (y >= -0.5) & (y <= 59.5)
    assert np.array_equal(registration.valid_mask, expected)


def test_apply_takes_other_frames_masks_and_colour(registration):
    frame = picture(60, 80)
    moved = registration.apply(frame)
    assert moved.shape == (90, 130)
    assert moved.dtype == np.uint16
    colour = torch.rand(3, 60, 80)
    assert registration.apply(colour).shape == (3, 90, 130)
    assert registration.apply(Image.new("RGB", (80, 60))).size == (130, 90)
    labels = np.zeros((60, 80), dtype=np.uint8)
    labels[20:40, 20:60] = 200
    nearest = registration.apply(labels, interpolation="nearest")
    assert set(np.unique(nearest)) == {0, 200}
    assert set(np.unique(registration.apply(labels))) > {0, 200}
    near, smooth = nearest.astype(int), registration.apply(labels).astype(int)
    assert np.abs(near - smooth).mean() < 5


def test_apply_refuses_what_it_was_not_made_for(registration):
    with pytest.raises(ValueError, match=r"expected an image of \(60, 80\)"):
        registration.apply(picture(61, 80))
    with pytest.raises(ValueError, match="interpolation must be one of bilinear, nearest"):
        registration.apply(picture(60, 80), interpolation="cubic")


def test_saved_registrations_load(registration, tmp_path):
    registration.save(tmp_path / "rig.npz")
    again = Registration.load(tmp_path / "rig.npz")
    for name in ("transform", "field", "coordinates", "valid_mask"):
        assert np.array_equal(getattr(again, name), getattr(registration, name))
    for name in ("method", "confidence", "log_likelihood", "runner_up", "correlation"):
        assert getattr(again, name) == getattr(registration, name)
    with pytest.raises(ValueError, match=r"holds no infrared image: .*Registration\.apply"):
        again.infrared  # noqa: B018
    assert again._repr_png_() is None


def test_a_file_that_is_no_registration_is_named(registration, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.npz"):
        registration.save(tmp_path / "rig.png")
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    (tmp_path / "text.npz").write_text("no archive")
    registration.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as stored:
        values = dict(stored)
    np.savez(tmp_path / "new.npz", **{**values, "format_version": 9})
    for name in ("other", "text", "new"):
        with pytest.raises(ValueError, match=f"{name}.npz' is no registration"):
            Registration.load(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        Registration.load(tmp_path / "missing.npz")


@pytest.mark.parametrize("kind", ["transform", "path", "registration"])
def test_fuse_takes_a_registration_in_each_of_its_forms(registration, tmp_path, kind):
    registration = Registration.from_transform(registration.transform, *SIZES)
    registration.save(tmp_path / "rig.npz")
    given = {
        "transform": registration.transform.tolist(),
        "path": tmp_path / "rig.npz",
        "registration": registration,
    }[kind]
    model = umfuse.load(device="cpu")
    fusion = umfuse.fuse(picture(60, 80), picture(90, 130), registration=given, weights=model)
    assert fusion.registration.method == "given"
    assert math.isnan(fusion.registration.confidence)
    np.testing.assert_allclose(fusion.registration.coordinates, registration.coordinates)


@pytest.mark.parametrize(
    "wrong",
    [
        *(np.eye(4), np.full((3, 3), np.nan), np.zeros((3, 3)), "nowhere.npz", object()),
        *(np.diag([1e300, 1, 1]), np.diag([1, 1, 1e-300])),
    ],
)
def test_no_registration_is_refused_with_what_is_taken(wrong):
    with pytest.raises((ValueError, FileNotFoundError), match=r"3x3|nowhere"):
        umfuse.fuse(picture(60, 80), picture(90, 130), registration=wrong)


@pytest.mark.parametrize("scale", [1e-6, -2.0, 1e150])
def test_a_transform_is_one_whatever_its_scale(registration, scale):
    found = Registration.from_transform(scale * registration.transform, *SIZES)
    np.testing.assert_allclose(found.transform, registration.transform)


def test_align_is_a_yes_or_a_no(registration):
    pair = picture(60, 80), picture(90, 130)
    with pytest.raises(TypeError, match="align must be True or False"):
        umfuse.fuse(*pair, align=None)
    with pytest.raises(ValueError, match="exclude each other"):
        umfuse.fuse(*pair, align=False, registration=registration)


def test_a_registration_holds_no_field_of_the_image_size():
    """190 MB at 24 megapixels: what is kept is small."""
    y, x = np.mgrid[:200, :300] / 20
    visible = (127 + 100 * np.sin(x) * np.cos(y)).astype(np.uint8)
    found = umfuse.register(visible[::2, ::2], visible, weights=umfuse.load(device="cpu"))
    big = images.read(visible).values.numel()
    assert found.field.size < 8 * big
    assert "coordinates" not in vars(found)

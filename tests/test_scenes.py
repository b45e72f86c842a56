from __future__ import annotations

import time

import numpy as np
import pytest
from benchmarks import scenes
from benchmarks.scenes import cameras, canvas
from scipy import ndimage

SIZE = (240, 320)


@pytest.fixture(scope="module")
def scene() -> scenes.Scene:
    return scenes.render(0, SIZE)


def looked_up(scene: scenes.Scene, offset: tuple[float, float] = (0, 0)) -> np.ndarray:
    """The infrared image on the visible grid through the true coordinates, moved by an offset."""
    x, y = scene.coordinates[..., 0] + offset[0], scene.coordinates[..., 1] + offset[1]
    return ndimage.map_coordinates(scene.infrared.astype(float), [y, x], order=3, mode="nearest")


def test_kinds_and_shapes(scene: scenes.Scene) -> None:
    assert scene.infrared.dtype == np.uint16
    assert scene.infrared.shape == (128, 160)
    assert scene.visible.dtype == np.uint8
    assert scene.visible.shape == (*SIZE, 3)
    assert scene.aligned_infrared.dtype == np.uint16
    assert scene.aligned_infrared.shape == SIZE
    assert scene.transform.dtype == np.float64
    assert scene.transform.shape == (3, 3)
    assert scene.transform[2, 2] == 1
    assert scene.coordinates.dtype == scene.displacement.dtype == np.float32
    assert scene.coordinates.shape == scene.displacement.shape == (*SIZE, 2)
    assert scene.valid.dtype == np.bool_
    assert scenes.render(0, SIZE, infrared_size=(64, 100)).infrared.shape == (64, 100)


def test_the_same_arguments_give_the_same_pictures(scene: scenes.Scene) -> None:
    again, other = scenes.render(0, SIZE), scenes.render(1, SIZE)
    np.testing.assert_array_equal(again.infrared, scene.infrared)
    np.testing.assert_array_equal(again.visible, scene.visible)
    np.testing.assert_array_equal(again.transform, scene.transform)
    assert (other.visible != scene.visible).mean() > 0.5
    assert not np.allclose(other.transform, scene.transform)


def test_coordinates_are_those_of_the_transform(scene: scenes.Scene) -> None:
    for y, x in [(0, 0), (17, 300), (239, 319), (120, 5)]:
        u, v, w = scene.transform @ [x, y, 1]
        np.testing.assert_allclose(scene.coordinates[y, x], [u / w, v / w], rtol=0, atol=1e-4)
    x, y = scene.coordinates[..., 0], scene.coordinates[..., 1]
    inside = (x >= -0.5) & (x <= 159.5) & (y >= -0.5) & (y <= 127.5)
    np.testing.assert_array_equal(scene.valid, inside)


def test_displacement_is_measured_from_plain_resizing(scene: scenes.Scene) -> None:
    rows = (np.arange(240) + 0.5) * 128 / 240 - 0.5
    columns = (np.arange(320) + 0.5) * 160 / 320 - 0.5
    resized = np.stack(np.meshgrid(columns, rows), axis=-1)
    np.testing.assert_allclose(scene.coordinates - scene.displacement, resized, atol=1e-4)
    assert np.hypot(*np.moveaxis(scene.displacement, -1, 0)).max() > 5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_the_truth_is_exact(seed: int, strength: float) -> None:
    scene = scenes.render(seed, SIZE, strength=strength)
    truth = ndimage.gaussian_filter(scene.aligned_infrared.astype(float), 1.0)
    core = scene.valid & (np.indices(SIZE).min(0) > 8)

    def error(x: float, y: float) -> float:
        return float(((looked_up(scene, (x, y)) - truth)[core] ** 2).mean())

    # The minimum of a parabola through three offsets, in each axis, infrared pixels.
    step = 0.5
    for axis in ((1, 0), (0, 1)):
        before, here, after = (error(k * step * axis[0], k * step * axis[1]) for k in (-1, 0, 1))
        assert here < before
        assert here < after
        minimum = 0.5 * step * (before - after) / (before - 2 * here + after)
        assert abs(minimum) < 0.03


def test_strength_zero_is_plain_resizing() -> None:
    scene = scenes.render(0, SIZE, strength=0)
    np.testing.assert_allclose(scene.displacement, 0, atol=1e-4)
    half = scenes.render(0, SIZE, strength=0.5)
    full = scenes.render(0, SIZE)
    lengths = [np.abs(s.displacement).mean() for s in (scene, half, full)]
    assert lengths[0] < lengths[1] < lengths[2]
    # The street does not depend on how the thermal camera is mounted.
    np.testing.assert_array_equal(scene.visible, full.visible)
    np.testing.assert_array_equal(scene.aligned_infrared, full.aligned_infrared)


def test_the_thermal_camera_never_looks_past_the_canvas() -> None:
    # Beyond the canvas there would be 0 K, or a black border.
    corners = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=float)
    for seed in range(1000):
        transform = cameras.rig(np.random.default_rng([seed, 2]), (480, 640), (256, 320), 1.0)
        u, v, w = np.linalg.inv(transform) @ (corners * [319, 255, 1]).T
        assert (np.abs(u / w / 639 - 0.5) < 0.5 + canvas.MARGIN).all()
        assert (np.abs(v / w / 479 - 0.5) < 0.5 + canvas.MARGIN).all()


def test_counts_are_plausible_temperatures(scene: scenes.Scene) -> None:
    celsius = scene.infrared / 100 - 273.15
    assert -20 < celsius.min() < 5  # sky
    assert 10 < np.median(celsius) < 22  # ground and walls
    assert 30 < celsius.max() < 70  # skin, exhaust
    assert 0.002 < (celsius > 23).mean() < 0.15


def test_night_is_dark_for_the_visible_camera_alone(scene: scenes.Scene) -> None:
    night = scenes.render(0, SIZE, night=True)
    np.testing.assert_array_equal(night.transform, scene.transform)
    assert night.visible.mean() < 0.5 * scene.visible.mean()
    assert night.visible.max() > 200  # lamps and windows
    day_heat, night_heat = (
        s.aligned_infrared.astype(float)[SIZE[0] // 2 :].ravel() for s in (scene, night)
    )
    assert np.corrcoef(day_heat, night_heat)[0, 1] > 0.8


def test_each_camera_sees_things_that_the_other_does_not(scene: scenes.Scene) -> None:
    heat = scene.aligned_infrared / 100.0
    seen = scene.visible @ np.array([0.299, 0.587, 0.114])
    step = {
        name: np.hypot(ndimage.sobel(image, 0), ndimage.sobel(image, 1))
        for name, image in {
            "heat": ndimage.gaussian_filter(heat, 1.0),
            "seen": ndimage.gaussian_filter(seen, 1.0),
        }.items()
    }
    strong = {name: edge > np.percentile(edge, 93) for name, edge in step.items()}
    near = {name: ndimage.binary_dilation(edge, iterations=3) for name, edge in strong.items()}
    only_seen = (strong["seen"] & ~near["heat"]).sum() / strong["seen"].sum()
    only_felt = (strong["heat"] & ~near["seen"]).sum() / strong["heat"].sum()
    # Some edges of its own for each, and enough in common to align the pair by.
    assert 0.03 < only_felt < 0.6
    assert 0.03 < only_seen < 0.6


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"size": (32, 640)}, r"expected size .* 64 to 4096 each, got \(32, 640\)"),
        ({"size": (480, 9000)}, r"expected size .* got \(480, 9000\)"),
        ({"infrared_size": (8, 8)}, r"expected infrared_size .* 32 to 4096 each, got \(8, 8\)"),
        ({"strength": 1.5}, r"expected a strength from 0 \(aligned\) to 1, got 1.5"),
        ({"strength": float("nan")}, "expected a strength"),
        ({"seed": -1}, "expected a seed of 0 or more, got -1"),
    ],
)
def test_what_cannot_be_rendered_is_refused(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        scenes.render(**arguments)


@pytest.mark.parametrize("size", [(64, 64), (101, 333), (300, 121)])
def test_any_size(size: tuple[int, int]) -> None:
    scene = scenes.render(5, size)
    assert scene.visible.shape[:2] == scene.valid.shape == size
    assert scene.visible.std() > 15
    assert scene.infrared.std() > 100


def test_the_default_size_renders_quickly() -> None:
    start = time.process_time()
    scene = scenes.render(3)
    assert scene.visible.shape == (480, 640, 3)
    assert scene.infrared.shape == (256, 320)
    assert time.process_time() - start < 6  # about 1 s; generous, because machines are shared


@pytest.fixture(scope="module")
def land() -> scenes.Scene:
    return scenes.render(2, SIZE, view="aerial")


@pytest.mark.parametrize("night", [False, True])
def test_the_truth_of_the_land_from_above_is_exact(night: bool) -> None:
    scene = scenes.render(2, SIZE, night=night, view="aerial")
    truth = ndimage.gaussian_filter(scene.aligned_infrared.astype(float), 1.0)
    core = scene.valid & (np.indices(SIZE).min(0) > 8)
    for axis in ((1, 0), (0, 1)):
        error = [
            float(((looked_up(scene, (k * axis[0], k * axis[1])) - truth)[core] ** 2).mean())
            for k in (-0.5, 0.0, 0.5)
        ]
        minimum = 0.25 * (error[0] - error[2]) / (error[0] - 2 * error[1] + error[2])
        assert abs(minimum) < 0.03


def test_the_same_seed_gives_the_same_land(land: scenes.Scene) -> None:
    again, other = (scenes.render(seed, SIZE, view="aerial") for seed in (2, 3))
    np.testing.assert_array_equal(again.infrared, land.infrared)
    np.testing.assert_array_equal(again.visible, land.visible)
    assert (other.visible != land.visible).mean() > 0.5
    # The cameras are those of the street of the seed.
    np.testing.assert_array_equal(land.transform, scenes.render(2, SIZE).transform)


def edges(image: np.ndarray) -> np.ndarray:
    """The strongest tenth of the gradients."""
    smooth = ndimage.gaussian_filter(image.astype(float), 1.5)
    step = np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1))
    return step > np.percentile(step, 90)


@pytest.mark.parametrize("seed", range(3))
def test_both_cameras_see_edges_of_the_land_in_the_same_places(seed: int) -> None:
    scene = scenes.render(seed, SIZE, view="aerial")
    felt, seen = edges(scene.aligned_infrared), edges(scene.visible.mean(axis=-1))
    near = ndimage.binary_dilation(felt, iterations=2)
    there, by_chance = near[seen].mean(), near.mean()
    assert by_chance + 0.1 < there < 0.95


def test_the_order_of_temperatures_changes_with_the_hour() -> None:
    day, night = (scenes.render(2, SIZE, night=night, view="aerial") for night in (False, True))
    heat = [scene.aligned_infrared.astype(float).ravel() for scene in (day, night)]
    assert np.corrcoef(*heat)[0, 1] < 0.9
    assert night.visible.mean() < 0.5 * day.visible.mean()
    for scene in (day, night):
        celsius = scene.infrared / 100 - 273.15
        assert celsius.min() > -20
        assert celsius.max() < 60

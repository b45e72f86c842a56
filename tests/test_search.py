import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from benchmarks import cases, scenes

from umfuse import filters, geometry, images, metrics
from umfuse.search import find_transform, homography, orientation, similarity
from umfuse.search.view import View
from umfuse.search.working import WorkingPair


def scene(seed, size=(240, 320)):
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 1, *size)
    for _ in range(60):
        y = int(torch.randint(0, size[0] - 12, (1,), generator=generator))
        x = int(torch.randint(0, size[1] - 12, (1,), generator=generator))
        h, w = torch.randint(8, 60, (2,), generator=generator).tolist()
        image[..., y : y + h, x : x + w] = float(torch.rand(1, generator=generator))
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)


def thermal(image):
    return (1 - image).square()


def seen(image, transform, size):
    """The image as a camera of that size sees it whose pixels `transform` sends to the image's."""
    return geometry.sample(image, geometry.project_grid(transform, size))[0]


def about_centre(size, target, scale=1.0, degrees=0.0, perspective=(0.0, 0.0)):
    """A transform that sends the centre of one image to the centre of the other."""
    angle = math.radians(degrees)
    turn = torch.eye(3, dtype=torch.float64)
    turn[0, 0] = turn[1, 1] = scale * math.cos(angle)
    turn[1, 0], turn[0, 1] = scale * math.sin(angle), -scale * math.sin(angle)
    turn[2, :2] = torch.tensor(perspective)
    first, last = torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    first[:2, 2] = -torch.tensor([(size[1] - 1) / 2, (size[0] - 1) / 2])
    last[:2, 2] = torch.tensor([(target[1] - 1) / 2, (target[0] - 1) / 2])
    return last @ turn @ first


def error(found, truth, size):
    """Mean distance in infrared pixels on a 9x9 grid."""
    return float(metrics.grid_error(found.transform[None], truth[None], size))


@pytest.mark.parametrize(
    ("degrees", "perspective"),
    [(0, (1e-4, -1.5e-4)), (3, (0.0, 2e-4)), (8, (0.0, 0.0)), (-8, (0, 0))],
)
def test_known_homography_is_found(degrees, perspective):
    image, size = scene(6, (300, 400)), (200, 260)
    truth = about_centre(size, (300, 400), 1.2, degrees, perspective)
    found = find_transform(thermal(image), seen(image, truth, size))
    assert error(found, truth, size) < 1.0


def test_a_pair_that_is_clear_at_once_is_not_searched(monkeypatch):
    def everywhere(*_):
        raise AssertionError("the coarse grid was searched")

    image = scene(6, (300, 400))
    monkeypatch.setattr("umfuse.search.correlation.candidates", everywhere)
    truth = torch.eye(3, dtype=torch.float64)
    truth[:2, 2] = torch.tensor([4.0, -3.0])
    found = find_transform(thermal(image), seen(image, truth, (300, 400)))
    assert error(found, truth, (300, 400)) < 0.5
    assert found.confidence > 0.9


def test_a_search_takes_one_thread_and_leaves_the_others(monkeypatch):
    counts = []

    def looked(pair):
        counts.append(torch.get_num_threads())
        raise RuntimeError("enough")

    image, before = scene(6), torch.get_num_threads()
    monkeypatch.setattr("umfuse.search.transform._searched", looked)
    torch.set_num_threads(3)
    try:
        with pytest.raises(RuntimeError, match="enough"):
            find_transform(thermal(image), image)
        assert (counts, torch.get_num_threads()) == ([1], 3)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("clear", [True, False])
def test_only_clear_pictures_move_a_pair_that_is_nearly_aligned(clear):
    size = (240, 320)
    truth = torch.eye(3, dtype=torch.float64)
    truth[:2, 2] = torch.tensor([3.0, -2.0])
    infrared = scene(6, size) if clear else scene(8, size)
    pair = WorkingPair(View(thermal(infrared)), View(seen(scene(6, size), truth, size)))
    refined = homography.refine(pair, truth)
    expected = truth if clear else torch.eye(3, dtype=torch.float64)
    assert float(metrics.grid_error(refined[None], expected[None], size)) < (0.1 if clear else 1.0)


@pytest.mark.parametrize("share", [0.55, 1.8])
def test_fields_of_view_that_differ_by_nearly_two(share):
    """`share` is the part of the infrared frame that the visible camera sees."""
    size, target = (240, 320), (240, 320)
    image = scene(7, (480, 640))
    middle = about_centre(target, (480, 640))
    truth = about_centre(size, target, share)
    infrared = thermal(seen(image, middle, target))
    found = find_transform(infrared, seen(image, middle @ truth, size))
    assert error(found, truth, size) < 1.5


def test_a_visible_camera_that_sees_three_times_as_far_is_found():
    size, target = (240, 320), (240, 320)
    image = scene(7, (720, 960))
    middle = about_centre(target, (720, 960))
    truth = about_centre(size, target, 3.0)
    infrared = thermal(seen(image, middle, target))
    found = find_transform(infrared, seen(image, middle @ truth, size))
    inner = about_centre((80, 80), size)  # the part that the infrared camera sees
    place = found._replace(transform=found.transform @ inner)
    assert error(place, truth @ inner, (80, 80)) < 3.0
    # The place is clear; within five pixels of so small a part it need not be.
    assert 0.5 < found.confidence < 0.8


@pytest.mark.parametrize("number", ["0", "1"])
def test_a_visible_camera_that_sees_a_quarter_is_found(number):
    pair = cases.make("FOV 0.25", "rendered", "train", number, number)
    found = find_transform(pair.infrared, filters.luma(pair.visible))
    assert found.confidence > 0.9
    assert error(found, pair.transform, pair.visible_size) < 1.0


@pytest.mark.parametrize("degrees", [14, -19])
def test_cameras_that_are_turned_far_are_found(degrees):
    image, size = scene(6, (300, 400)), (200, 260)
    truth = about_centre(size, (300, 400), 1.2, degrees)
    found = find_transform(thermal(image), seen(image, truth, size))
    assert error(found, truth, size) < 1.0
    assert found.confidence > 0.9


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_cameras_on_their_side_are_found(quarters):
    image = scene(6, (300, 400))
    infrared = torch.rot90(thermal(image), quarters, (2, 3))
    found = find_transform(infrared, image)
    turn = about_centre((300, 400), tuple(infrared.shape[-2:]), 1.0, -90 * quarters)
    assert error(found, turn, (300, 400)) < 0.5
    assert found.confidence > 0.9


def test_tiny_thermal_pictures_are_enlarged():
    image = scene(6, (240, 320))
    infrared = F.interpolate(thermal(image), (60, 80), mode="bilinear", antialias=True)
    found = find_transform(infrared, image)
    truth = geometry.resize_transform((240, 320), (60, 80))
    assert error(found, truth, (240, 320)) < 0.3
    by_hand = find_transform(F.interpolate(infrared, (240, 320), mode="bicubic").clamp(0, 1), image)
    assert found.confidence == pytest.approx(by_hand.confidence, abs=0.05)


@pytest.mark.parametrize("night", [False, True])
def test_what_is_aligned_already_is_trusted(night):
    """Plain resizing is a candidate like any other."""
    pair = scenes.render(3, strength=0.0, night=night)
    infrared, visible = (images.read(one).luma for one in (pair.infrared, pair.visible))
    found = find_transform(infrared, visible)
    truth = geometry.resize_transform((480, 640), (256, 320))
    assert error(found, truth, (480, 640)) < 1.0
    assert found.confidence > 0.9
    same = find_transform(visible, visible)
    assert same.confidence > 0.99


def test_a_refinement_that_loses_evidence_is_dropped(monkeypatch):
    image = scene(6, (300, 400))
    expected = find_transform(thermal(image), image)

    def worse(pair, transform):
        return geometry.similarity_transform((0, 0), (50, 30)) @ transform

    monkeypatch.setattr("umfuse.search.homography.refine", worse)
    found = find_transform(thermal(image), image)
    assert error(found, torch.eye(3).double(), (300, 400)) < 1.0
    assert found.log_likelihood > 0.8 * expected.log_likelihood


@pytest.mark.parametrize("kind", ["textured", "faint"])
def test_the_search_is_exact_under_autocast(kind):
    image = scene(6, (300, 400))
    image = image if kind == "textured" else 0.5 + 0.02 * image
    expected = find_transform(1 - image, image)
    with torch.autocast("cpu", torch.bfloat16):
        features = orientation(image, 1.0)
        found = find_transform(1 - image, image)
    assert torch.equal(features, orientation(image, 1.0))
    torch.testing.assert_close(found.transform, expected.transform, atol=1e-6, rtol=1e-6)


def test_noise_against_noise_stays():
    generator = torch.Generator().manual_seed(8)
    found = find_transform(
        torch.rand(100, 150, generator=generator), torch.rand(120, 160, generator=generator)
    )
    assert torch.equal(found.transform, geometry.resize_transform((120, 160), (100, 150)))
    assert found.confidence < 0.3


def test_large_images_are_searched_at_a_working_size():
    image = scene(9, (300, 400))
    large = F.interpolate(image, (1200, 1600), mode="bilinear")
    found = find_transform(thermal(image), large)
    assert found.transform.dtype == torch.float64
    assert error(found, geometry.resize_transform((1200, 1600), (300, 400)), (1200, 1600)) < 0.3


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("UMFUSE_DATA"), reason="needs UMFUSE_DATA")
def test_real_raw_pairs_are_aligned():
    root = Path(os.environ["UMFUSE_DATA"]) / "train/roadscene"
    truths = json.loads((root / "homography.json").read_text())
    errors = []
    for name in sorted(truths)[:40:5]:
        visible, infrared = (
            images.read(next((root / folder).glob(f"{name}.*"))).luma
            for folder in ("vis", "ir_raw")
        )
        truth = torch.tensor(truths[name]["H"], dtype=torch.float64)
        size = (visible.shape[-2], visible.shape[-1])
        errors.append(error(find_transform(infrared, visible), truth, size))
    assert np.median(errors) < 4
    assert max(errors) < 15


def test_aligned_contrast_reversed_pair_stays():
    image = scene(0)
    found = find_transform(thermal(image), image)
    assert (found.transform - torch.eye(3).double()).abs()[:2, 2].max() < 0.3
    assert found.confidence > 0.9


def test_crop_at_another_resolution_is_found():
    image = scene(1)
    visible = F.interpolate(image[..., 40:200, 60:270], scale_factor=2, mode="bilinear")
    found = find_transform(thermal(image), visible)
    point = found.transform @ torch.tensor([209.5, 159.5, 1.0], dtype=torch.float64)
    want = torch.tensor([60 + 104.5, 40 + 79.5], dtype=torch.float64)
    assert (point[:2] / point[2] - want).norm() < 1.0
    assert found.confidence > 0.9


@pytest.mark.parametrize("size", [(16, 16), (9, 300), (120, 160)])
def test_constant_images_stay(size):
    found = find_transform(torch.rand(40, 50, generator=torch.Generator()), torch.zeros(size))
    assert found.confidence < 0.1
    assert found.transform[0, 0] == 50 / size[1]


def test_wrong_pair_is_less_certain_than_right_pair():
    right = find_transform(thermal(scene(2)), scene(2))
    false = find_transform(thermal(scene(3)), scene(2))
    assert right.confidence > false.confidence + 0.2


def test_search_is_deterministic():
    a, b = (find_transform(thermal(scene(4)), scene(4)) for _ in range(2))
    assert torch.equal(a.transform, b.transform)
    assert a.confidence == b.confidence


def test_orientation_is_finite_on_tiny_and_constant_images():
    image = torch.rand(1, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(orientation(torch.zeros(2, 1, 8, 8), 1.5)).all()
    assert orientation(image, 1.0).shape == (1, 2, 8, 9)


def test_similarity_is_higher_where_aligned():
    image = scene(5)
    valid = torch.ones_like(image, dtype=torch.bool)
    aligned = similarity(thermal(image), image, valid)
    moved = similarity(thermal(image).roll(9, 3), image, valid)
    assert aligned > moved + 0.2


def test_bad_input_says_what_was_expected():
    with pytest.raises(ValueError, match="one luma image"):
        find_transform(torch.rand(20, 20), torch.rand(3, 20, 20))
    with pytest.raises(TypeError, match="floating tensor"):
        find_transform(torch.zeros(20, 20, dtype=torch.uint8), torch.rand(20, 20))
    with pytest.raises(TypeError, match="floating tensor"):
        find_transform(torch.rand(20, 20), np.zeros((20, 20)))

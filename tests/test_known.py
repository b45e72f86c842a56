"""What a caller says of two cameras: where the search looks, and what stands where it fails."""

import math

import numpy as np
import pytest
import torch
from benchmarks import cases, robustness, scenes
from test_search import about_centre, error, scene, seen, thermal

import umfuse
from umfuse import cli, geometry, images
from umfuse.search import NOTHING, Known, find_transform, likelihood, transform, working
from umfuse.search.view import View

SIZE = (240, 320)


@pytest.fixture(scope="module")
def street():
    found = scenes.render(seed=0, size=SIZE)
    infrared, visible = images.read(found.infrared), images.read(found.visible)
    return cases.Pair(infrared.luma, visible.rgb, torch.from_numpy(found.transform))


@pytest.fixture(scope="module")
def empty():
    """An infrared image that shows nothing, and a visible one."""
    visible = np.random.default_rng(0).random((120, 160), np.float32)
    return np.full((96, 128), 0.5, np.float32), visible


# ---- where the search looks ----------------------------------------------------------------------


def test_what_is_not_known_changes_nothing(street, model):
    expected = umfuse.register(street.infrared, street.visible, weights=model)
    for mirror in (None, False):
        unknown = {"fov": None, "rotation": None, "mirror": mirror}
        found = umfuse.register(street.infrared, street.visible, weights=model, **unknown)
        assert np.array_equal(found.transform, expected.transform)
        assert np.array_equal(found.field, expected.field)
        assert (found.confidence, found.method) == (expected.confidence, expected.method)


def test_nothing_known_is_plain_resizing_and_all_grids():
    for size, target in (((240, 321), (97, 130)), ((480, 640), (512, 333))):
        plain = geometry.resize_transform(size, target)
        assert torch.equal(NOTHING.transform(size, target), plain)
        pair = working.WorkingPair(View(torch.rand(1, 1, *target)), View(torch.rand(1, 1, *size)))
        assert torch.equal(pair.plain, plain)
    assert transform._grids(NOTHING) == (transform.NARROW, transform.WIDE, (transform.TURNED,))
    image = torch.rand(1, 1, 5, 7)
    assert torch.equal(NOTHING.upright(image), image)
    assert not NOTHING
    assert not Known(mirror=False)


@pytest.mark.parametrize(
    ("known", "change"),
    [
        ({"mirror": True}, cases.mirrored),
        ({"rotation": 90}, lambda *pair: cases.quarter_turns(*pair, turns=1)),
        ({"rotation": -92}, lambda *pair: cases.quarter_turns(*pair, turns=3)),
        ({"rotation": (160, 200)}, lambda *pair: cases.quarter_turns(*pair, turns=2)),
    ],
)
def test_cameras_that_are_known_are_found(known, change, street, model):
    changed = change(street, np.random.default_rng(0))
    found = umfuse.register(changed.infrared, changed.visible, weights=model, **known)
    assert robustness.error(changed, found) < 3
    assert found.confidence > 0.6
    assert found.method in ("search", "dense")


def test_a_mirrored_image_on_its_side_is_turned_after_it_is_put_right(street, model):
    draws = np.random.default_rng(0)
    changed = cases.mirrored(cases.quarter_turns(street, draws, turns=1), draws)
    known = {"mirror": True, "rotation": 90}
    fusion = umfuse.fuse(changed.infrared, changed.visible, weights=model, **known)
    assert robustness.error(changed, fusion.registration) < 3


@pytest.mark.parametrize(("degrees", "said"), [(20, 20), (-37, (-45, -30)), (44, 46), (112, 110)])
def test_any_angle_is_found(degrees, said):
    image, size = scene(6, (400, 400)), (200, 200)
    truth = about_centre(size, (400, 400), 1.2, degrees)
    found = find_transform(thermal(image), seen(image, truth, size), Known(rotation=said))
    assert error(found, truth, size) < 1.0
    assert found.confidence > 0.9


@pytest.mark.parametrize(
    ("fov", "said"), [(3.0, 3.0), (3.0, (2.0, 4.0)), (1 / 3, (0.3, 0.4)), (1 / 3, 0.33)]
)
def test_fields_of_view_that_are_known_are_found(fov, said):
    image = scene(7, (720, 960))
    middle = about_centre(SIZE, (720, 960), min(1.0, 1 / fov))
    truth = about_centre(SIZE, SIZE, fov)
    infrared = thermal(seen(image, middle, SIZE))
    found = find_transform(infrared, seen(image, middle @ truth, SIZE), Known(fov=said))
    inner = about_centre((80, 80), SIZE, min(1.0, 1 / fov))  # what the infrared camera sees too
    place = found._replace(transform=found.transform @ inner)
    assert error(place, truth @ inner, (80, 80)) < 3.0


def test_only_what_was_said_is_looked_at(monkeypatch):
    looked = []

    def candidates(pair, grid):
        looked.append(grid)
        return pair.plain[None]

    monkeypatch.setattr("umfuse.search.correlation.candidates", candidates)
    images_ = (torch.rand(96, 128), torch.rand(120, 160))
    find_transform(*images_, Known(fov=(2.5, 3.5), rotation=(85, 105)))
    assert {grid.scales for grid in looked} == {(2.5, 3.5)}
    assert {min(grid.rotations) for grid in looked} == {-5, 5}
    assert {max(grid.rotations) for grid in looked} == {15, 5}
    looked.clear()
    find_transform(*images_, Known(fov=(0.25, 0.5)))
    assert len(looked) == 2 + 1 + 3  # narrow, turned further, on its side
    assert max(grid.longest for grid in looked) == 432


def test_all_that_was_said_is_as_likely():
    views = View(torch.rand(1, 1, *SIZE)), View(torch.rand(1, 1, *SIZE))
    pair = working.WorkingPair(*views, Known((2, 4), 10))
    placed = [about_centre(SIZE, SIZE, *at) for at in ((2, 6), (4, 14), (1, 10), (3, 30))]
    inside, also, *outside = likelihood.log_prior(pair, torch.stack(placed)).tolist()
    assert inside == pytest.approx(also, abs=1e-3)
    assert max(outside) < inside - 0.9


# ---- where it fails ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "known",
    [{"fov": 2.5}, {"rotation": 30}, {"rotation": -85}, {"fov": (0.4, 0.6), "rotation": 185}],
)
@pytest.mark.parametrize("mirror", [False, True])
def test_the_fallback_is_what_was_said(known, mirror, empty, model, caplog):
    known = {**known, "mirror": mirror}
    found = umfuse.register(*empty, **known, weights=model)
    assert (found.method, found.confidence) == ("given", 0.0)
    assert "what was said of the cameras is kept" in caplog.text
    assert not found.field.any()
    (h, w), (height, width) = found.infrared_size, found.visible_size
    middle = found.map_points(np.array([[(width - 1) / 2, (height - 1) / 2]]))
    np.testing.assert_allclose(middle, [[(w - 1) / 2, (h - 1) / 2]], atol=1e-9)
    linear = found.transform[:2, :2].copy()
    assert (np.linalg.det(linear) < 0) == mirror
    if mirror:
        linear[0] *= -1
    degrees = math.degrees(math.atan2(linear[1, 0] - linear[0, 1], linear[0, 0] + linear[1, 1]))
    assert math.cos(math.radians(degrees - known.get("rotation", 0))) > 0.999
    scale = math.sqrt(np.linalg.det(linear) * width * height / (w * h))
    low, high = Known(**known).fovs
    assert scale == pytest.approx(math.sqrt(low * high))


def test_a_batch_falls_back_on_what_was_said(empty, model):
    infrared, visible = (torch.from_numpy(one)[None, None] for one in empty)
    out = model.infer(infrared, visible, known=Known(mirror=True))
    plain = geometry.resize_transform((120, 160), (96, 128))
    plain[0] = 127 * plain[2] - plain[0]
    torch.testing.assert_close(out.transform[0], plain)


def test_noise_stays_where_it_was_said(model):
    rng = np.random.default_rng(0)
    noise = rng.random((96, 128), np.float32), rng.random((120, 160), np.float32)
    said = {"fov": 0.6, "rotation": -80, "mirror": True}
    found = umfuse.register(*noise, **said, weights=model, min_confidence=0)
    assert found.method == "given"
    assert np.array_equal(found.transform, Known(**said).transform((120, 160), (96, 128)).numpy())


# ---- what can be said ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"fov": 0}, "must be above 0"),
        ({"fov": (-1, 2)}, "must be above 0"),
        ({"fov": math.inf}, "fov must be a number or a range"),
        ({"fov": "wide"}, "fov must be a number or a range"),
        ({"rotation": (20, 10)}, "rotation must be a number or a range"),
        ({"rotation": (1, 2, 3)}, "rotation must be a number or a range"),
        ({"rotation": math.nan}, "rotation must be a number or a range"),
        ({"rotation": (-50, 50)}, "at most 90 degrees"),
        ({"fov": 2, "initial": np.eye(3)}, "leave one out"),
        ({"mirror": True, "matcher": lambda *_: None}, "leave one out"),
    ],
)
def test_what_cannot_be_meant_is_refused(known, message, empty, model):
    for function in (umfuse.register, umfuse.fuse):
        with pytest.raises(ValueError, match=message):
            function(*empty, weights=model, **known)


def test_what_is_for_the_search_needs_one(empty, model):
    for other in ({"registration": np.eye(3)}, {"align": False}):
        with pytest.raises(ValueError, match="aligned here"):
            umfuse.fuse(*empty, weights=model, rotation=90, **other)
        umfuse.fuse(*empty, weights=model, mirror=False, **other)
    with pytest.raises(TypeError, match="mirror must be True, False or None"):
        umfuse.register(*empty, weights=model, mirror="left")


# ---- the command line ----------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, street):
    changed = cases.quarter_turns(street, np.random.default_rng(0), turns=3)
    changed = cases.mirrored(changed, np.random.default_rng(0))
    images.save((changed.infrared[0, 0] * 255).byte().numpy(), tmp_path / "ir.png")
    images.save((changed.visible[0].movedim(0, -1) * 255).byte().numpy(), tmp_path / "vis.png")
    return changed, [str(tmp_path / "ir.png"), str(tmp_path / "vis.png")]


@pytest.mark.parametrize("command", ["fuse", "register"])
def test_the_command_line_says_it(command, files, tmp_path):
    changed, pair = files
    said = ["--fov", "0.7,1.4", "--rotation", "-90", "--mirror"]
    out, npz = tmp_path / "out.png", tmp_path / "found.npz"
    arguments = [command, *pair, "-o", str(out), "--save-registration", str(npz), *said]
    assert cli.main(arguments) == 0
    assert robustness.error(changed, umfuse.Registration.load(npz)) < 3


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["--fov", "-1"], "must be above 0"),
        (["--rotation=-50,50"], "at most 90 degrees"),
        (["--mirror", "--no-align"], "aligned here"),
        (["--fov", "2", "--registration", "rig.npz"], "aligned here"),
    ],
)
def test_wrong_usage(said, message, files, tmp_path, capsys):
    assert cli.main(["fuse", *files[1], "-o", str(tmp_path / "out.png"), *said]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["wide", "1,2,3", "1,"])
def test_numbers_must_be_numbers(text, files, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["fuse", *files[1], "-o", str(tmp_path / "out.png"), "--rotation", text])
    assert "LOW,HIGH" in capsys.readouterr().err

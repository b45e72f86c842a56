"""Constant bars at the edges of an image: found, and left out of all that is done with it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

import umfuse
from umfuse import borders, cli, geometry, images, registering, search
from umfuse.borders import Box, content

BARS = {  # above, below, before, after
    "above and below": (20, 20, 0, 0),
    "unlike above and below": (9, 31, 0, 0),
    "left and right": (0, 0, 26, 26),
    "frame": (12, 12, 12, 12),
    "unlike frame": (30, 7, 3, 14),
    "above": (24, 0, 0, 0),
    "below": (0, 24, 0, 0),
    "left": (0, 0, 24, 0),
    "right": (0, 0, 0, 24),
    "above and left": (10, 0, 16, 0),
}


def padded(image, bars, value=0):
    above, below, before, after = bars
    widths = ((above, below), (before, after), (0, 0))[: image.ndim]
    return np.pad(image, widths, constant_values=value)


def between(image, bars):
    above, below, before, after = bars
    height, width = image.shape[:2]
    return Box(above, before, height - below, width - after)


def luma(image):
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)


def compressed(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.fixture(scope="module")
def thermal(scene):
    """The infrared image of the scene in 8 bits, which no constant line begins or ends."""
    counts = scene.infrared.astype(np.float32)
    low, high = np.percentile(counts, (0.5, 99.5))
    return (30 + 200 * ((counts - low) / (high - low)).clip(0, 1)).astype(np.uint8)


@pytest.fixture(scope="module")
def plain(thermal, scene, model):
    return umfuse.register(thermal, scene.visible, weights=model)


BAR = BARS["unlike above and below"]


@pytest.fixture(scope="module")
def barred(thermal):
    return padded(thermal, BAR)


@pytest.fixture(scope="module")
def registration(barred, scene, model):
    return umfuse.register(barred, scene.visible, weights=model)


# ---- what is found -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 8, 255])
@pytest.mark.parametrize("bars", BARS.values(), ids=BARS)
def test_bars_are_found(thermal, bars, value):
    image = padded(thermal, bars, value)
    assert content(luma(image)) == between(image, bars)


@pytest.mark.parametrize("quality", [95, 75, 40])
@pytest.mark.parametrize("bars", ["above and below", "unlike above and below", "left and right"])
def test_compressed_bars_are_found(thermal, bars, quality):
    image = padded(thermal, BARS[bars])
    found = content(luma(compressed(image, quality)))
    apart = np.abs(np.subtract(found, between(image, BARS[bars]))).max()
    assert apart <= (1 if quality > 50 else 4)  # of a strong compression something remains


def test_resized_bars_are_found(thermal):
    image = padded(thermal, BARS["frame"])
    twice = Image.fromarray(image).resize((2 * image.shape[1], 2 * image.shape[0]), 3)
    found = content(luma(twice))
    assert np.abs(np.subtract(found, 2 * np.array(between(image, BARS["frame"])))).max() <= 2


def test_a_frame_of_another_value_within_bars_is_found(thermal):
    image = padded(padded(thermal, BARS["left and right"], 255), BARS["above and below"])
    assert content(luma(image)) == Box(20, 26, 20 + thermal.shape[0], 26 + thermal.shape[1])


def test_colour_and_every_shape_of_a_luma(scene):
    image = padded(scene.visible, BARS["frame"], 200)
    picture = images.read(image).luma
    for one in (picture, picture[0], picture[0, 0], picture.double(), picture.bfloat16()):
        assert content(one) == between(image, BARS["frame"])


def test_a_picture_without_bars_has_none(thermal, scene):
    assert content(luma(thermal)) is None
    assert content(images.read(scene.visible).luma) is None
    noise = torch.rand(60, 80, generator=torch.Generator().manual_seed(0))
    assert content(noise) is None


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_constant_image_has_no_bars(value):
    assert content(torch.full((60, 80), value)) is None
    assert content(torch.full((1, 9), value)) is None


def test_one_or_two_constant_lines_are_no_bar(thermal):
    for count in (1, 2):
        assert content(luma(padded(thermal, (count, count, count, count)))) is None


@pytest.mark.parametrize("sky", [0, 3, 255])
@pytest.mark.parametrize("turns", range(4))
def test_a_constant_sky_over_a_skyline_is_no_bar(thermal, sky, turns):
    """Of a night, or saturated: it ends where the first roof does, not all at once."""
    image = thermal.copy()
    x = np.arange(image.shape[1])
    skyline = (40 + 12 * np.sin(x / 9) + 6 * (x // 23 % 3)).astype(int)
    image[np.arange(len(image))[:, None] < skyline] = sky
    image[:, 30:40] = thermal[:, 30:40].clip(60, 180)  # a mast that looks over the upper edge
    image[:5, 30:40] = sky
    assert content(luma(np.rot90(image, turns).copy())) is None


def test_a_saturated_sky_over_flat_roofs_is_no_bar(thermal):
    image = thermal.clip(40, 200)
    image[:50] = 255
    image[30:50, 60:150] = 90  # the first line of the picture is roof for a good half
    assert content(luma(image)) is None


def test_the_dark_of_a_night_is_no_bar():
    """Black above and below, and some lamps between."""
    image = np.zeros((120, 160), np.uint8)
    rng = np.random.default_rng(0)
    image[rng.integers(30, 90, 60), rng.integers(0, 160, 60)] = 255
    assert content(luma(image)) is None
    assert content(luma(compressed(image, 60))) is None


@pytest.mark.parametrize("levels", [256, 64])
@pytest.mark.parametrize("turns", range(4))
def test_gradients_are_no_bars(levels, turns):
    steps = np.floor(np.linspace(0, levels - 1, 240)) * (256 // levels)
    image = np.repeat(steps[:, None], 160, 1)
    vee = np.abs(image - 128)
    for one in (image, vee):
        assert content(luma(np.rot90(one, turns).copy())) is None


def test_a_vignette_is_no_bar(thermal):
    y, x = (np.linspace(-1, 1, side) for side in thermal.shape)
    shade = (1.2 - np.hypot(*np.meshgrid(x, y))).clip(0, 1)
    assert content(luma(thermal * shade)) is None
    assert content(luma(compressed((thermal * shade).astype(np.uint8), 75))) is None


def test_inexact_lines_on_one_side_alone_are_no_bar(thermal):
    image = padded(thermal, BARS["above"], 60)
    image[:24:5, 7] += 1
    assert content(luma(image)) is None
    both = padded(thermal, BARS["above and below"], 60)
    both[:20:5, 7] += 1
    assert content(luma(both)) == between(both, BARS["above and below"])


def test_bars_of_unlike_values_count_only_where_they_are_exact(thermal):
    image = padded(padded(thermal, BARS["above"], 0), BARS["below"], 255)
    assert content(luma(image)) == Box(24, 0, 24 + thermal.shape[0], thermal.shape[1])
    image[0, 3] = 1
    assert content(luma(image)) == Box(0, 0, 24 + thermal.shape[0], thermal.shape[1])


def test_a_slit_between_bars_is_no_picture(thermal):
    assert content(luma(padded(thermal[:12], (20, 20, 0, 0)))) is None
    assert content(luma(padded(thermal[:40], (100, 100, 0, 0)))) is None


# ---- parts and their pixels ----------------------------------------------------------------------


def test_parts_and_their_coordinates():
    image = torch.arange(48.0).view(1, 1, 6, 8)
    box = Box(1, 2, 5, 7)
    grid = geometry.identity_grid(6, 8)
    inner, places = borders.inner(image, grid, box)
    assert inner.shape == (1, 1, 4, 5)
    assert box.size == (4, 5)
    shifted = geometry.project(borders.inward(box), grid)
    assert torch.equal(places, shifted)
    assert torch.equal(geometry.interpolate(inner, places)[..., 1:5, 2:7], inner)


def test_parts_of_nothing_are_all():
    image, grid = torch.rand(1, 1, 6, 8), geometry.identity_grid(6, 8)
    inner, places = borders.inner(image, grid, None)
    assert inner is image
    assert places is grid
    assert torch.equal(borders.inward(None), torch.eye(3, dtype=torch.float64))


# ---- search --------------------------------------------------------------------------------------


def test_what_shows_nothing_between_bars_is_constant():
    bars = torch.zeros(1, 1, 60, 80)
    bars[..., 10:50, :] = 0.5
    assert search.is_constant(bars)
    assert search.is_constant(torch.full((60, 80), 0.3))
    assert not search.is_constant(torch.rand(60, 80))


@pytest.mark.parametrize("whose", ["infrared", "visible", "both"])
def test_the_search_does_not_look_at_bars(thermal, scene, whose):
    visible = images.read(scene.visible).luma
    expected = search.find_transform(luma(thermal), visible)
    frame = BARS["unlike frame"]
    ir, vis = thermal, scene.visible
    before = after = torch.eye(3, dtype=torch.float64)
    if whose != "visible":
        ir = padded(thermal, BAR)
        after = borders.inward(between(ir, BAR)).inverse()
    if whose != "infrared":
        vis = padded(scene.visible, frame, 255)
        before = borders.inward(between(vis, frame))
    found = search.find_transform(luma(ir), images.read(vis).luma)
    there = after @ expected.transform @ before
    torch.testing.assert_close(found.transform, there / there[2, 2])
    assert found[1:] == expected[1:]


# ---- registration --------------------------------------------------------------------------------


def test_registration_is_that_of_the_picture(registration, plain, barred, thermal):
    assert registration.content == between(barred, BAR)
    assert plain.content is None
    assert registration.method == plain.method
    assert registration.confidence == plain.confidence
    shift = np.array([BAR[2], BAR[0]], np.float32)
    np.testing.assert_allclose(registration.coordinates - shift, plain.coordinates, atol=0.01)
    assert np.array_equal(registration.valid_mask, plain.valid_mask)
    difference = np.abs(registration.infrared.astype(int) - plain.infrared)
    assert registration.infrared.min() >= thermal.min()  # no bar is smeared into it
    assert difference.max() <= 1


def test_another_frame_is_resampled_without_its_bars(registration, plain, barred):
    inside = between(barred, BAR)
    labels = np.full(barred.shape, 9, np.uint8)
    borders.part(torch.from_numpy(labels), inside).fill_(1)
    assert (registration.apply(labels, "nearest") == 1).all()
    assert (registration.apply(labels) == 1).all()


def test_a_saved_registration_knows_its_bars(registration, plain, barred, tmp_path):
    for name, one in (("with", registration), ("without", plain)):
        one.save(tmp_path / f"{name}.npz")
        again = umfuse.Registration.load(tmp_path / f"{name}.npz")
        assert again.content == one.content
        assert again.confidence == one.confidence
        assert type(again.content) is (Box if name == "with" else type(None))
        assert (again.valid_mask == one.valid_mask).mean() > 0.999
    again = umfuse.Registration.load(tmp_path / "with.npz").apply(barred)
    assert np.abs(again.astype(int) - registration.infrared).max() <= 1


def test_files_of_before_have_no_bars(registration, tmp_path):
    registration.save(tmp_path / "now.npz")
    with np.load(tmp_path / "now.npz") as stored:
        old = {name: value for name, value in stored.items() if name != "content"}
    np.savez(tmp_path / "old.npz", **old)
    again = umfuse.Registration.load(tmp_path / "old.npz")
    assert again.content is None
    np.testing.assert_allclose(again.transform, registration.transform, rtol=1e-3)
    old["content"] = np.arange(3)
    np.savez(tmp_path / "wrong.npz", **old)
    with pytest.raises(ValueError, match="no registration"):
        umfuse.Registration.load(tmp_path / "wrong.npz")


def test_a_guess_and_points_leave_bars_out(barred, scene, model, registration):
    guess = umfuse.register(barred, scene.visible, weights=model, initial=registration.transform)
    assert guess.content == registration.content
    assert guess.confidence > 0.9
    apart = np.linalg.norm(guess.coordinates - registration.coordinates, axis=-1)
    assert apart.mean() < 0.5

    def matcher(infrared, visible):
        assert infrared.shape == barred.shape
        y, x = np.mgrid[40:200:8, 40:280:8].reshape(2, -1)
        points = np.stack((x, y), -1)
        return registration.map_points(points), points

    found = umfuse.register(barred, scene.visible, weights=model, matcher=matcher)
    assert found.content == registration.content
    assert found.method == "matcher"
    none = np.zeros((0, 2))
    nothing = umfuse.register(
        barred, scene.visible, weights=model, matcher=lambda *_: (none, none), on_failure="return"
    )
    assert nothing.content == registration.content


# ---- fusion --------------------------------------------------------------------------------------


def test_fusion_is_that_of_the_picture(registration, plain, barred, thermal, scene, model):
    fused = umfuse.fuse(barred, scene.visible, registration=registration, weights=model)
    expected = umfuse.fuse(thermal, scene.visible, registration=plain, weights=model)
    assert np.abs(fused.luma - expected.luma).max() < 0.01


def test_bars_of_a_pair_fused_as_it_came_show_the_visible_image(thermal, scene, model):
    bars = (8, 0, 0, 10)
    infrared = padded(thermal, bars)
    fused = umfuse.fuse(infrared, scene.visible, align=False, weights=model)
    mask = np.zeros(infrared.shape, np.uint8)
    borders.part(torch.from_numpy(mask), between(infrared, bars)).fill_(1)
    shown = registering.resized(infrared.shape, scene.visible.shape[:2]).apply(mask, "nearest")
    visible = images.read(scene.visible).luma[0, 0].numpy()
    assert np.array_equal(fused.luma[shown == 0], visible[shown == 0])
    assert np.abs(fused.luma - visible)[shown == 1].mean() > 0.01


def test_bars_of_the_visible_image_stay(thermal, scene, model):
    bars = BARS["frame"]
    visible = padded(scene.visible, bars, 17)
    fused = umfuse.fuse(thermal, visible, align=False, weights=model)
    inside = np.zeros(visible.shape[:2], bool)
    box = between(visible, bars)
    inside[box.top : box.bottom, box.left : box.right] = True
    assert (fused.image[~inside] == 17).all()
    assert (fused.image[inside] != visible[inside]).any()


def test_raw_counts_between_bars_keep_their_range(scene):
    """Zeros are no counts: between percentiles of all pixels the scene would be one shade."""
    alone = images.read(scene.infrared).luma
    for bars in (BARS["above and below"], BARS["frame"], BARS["left"]):
        image = padded(scene.infrared, bars)
        assert torch.equal(borders.part(images.read(image).luma, between(image, bars)), alone)


# ---- batches -------------------------------------------------------------------------------------


def test_a_batch_with_bars_is_what_its_pairs_are(barred, scene, model, registration):
    infrared = torch.cat([luma(barred)[None, None], luma(np.roll(barred, 40, 1))[None, None]])
    visible = images.read(scene.visible).rgb
    visible = torch.cat([visible, visible.roll(80, 3)])
    out = model.infer(infrared, visible, min_confidence=0)
    assert out.fused.shape == (2, 1, *scene.visible.shape[:2])
    fusion = umfuse.fuse(barred, scene.visible, registration=registration, weights=model)
    torch.testing.assert_close(out.coordinates[:1], registration.tensor(), atol=1e-3, rtol=0)
    torch.testing.assert_close(out.fused[0, 0], torch.from_numpy(fusion.luma), atol=2e-3, rtol=0)
    assert np.array_equal(out.valid_mask[0, 0].numpy(), registration.valid_mask)
    assert float(out.infrared[0].min()) * 255 > 20
    torch.testing.assert_close(out.transform[0], torch.from_numpy(registration.transform))
    assert out.confidence.shape == (2,)
    assert out.pseudo_infrared is None


def test_without_bars_nothing_is_other_than_it_was(thermal, scene, model, monkeypatch, plain):
    """Bit for bit what the same code gives that looks for no bars."""
    pair = luma(thermal)[None, None], images.read(scene.visible).rgb
    ours = umfuse.fuse(thermal, scene.visible, registration=plain, weights=model)
    batch = model.infer(*pair)
    monkeypatch.setattr(borders, "content", lambda luma: None)
    before = umfuse.register(thermal, scene.visible, weights=model)
    assert np.array_equal(plain.transform, before.transform)
    assert np.array_equal(plain.field, before.field)
    assert plain.confidence == before.confidence
    assert np.array_equal(plain.infrared, before.infrared)
    theirs = umfuse.fuse(thermal, scene.visible, registration=before, weights=model)
    assert np.array_equal(ours.luma, theirs.luma)
    assert batch.pseudo_infrared is None
    for one, other in zip(batch, model.infer(*pair), strict=True):
        assert torch.equal(one, other) if other is not None else one is batch.pseudo_infrared


# ---- the program ---------------------------------------------------------------------------------


def test_a_sheet_shows_no_smeared_bars(barred, scene, tmp_path, monkeypatch):
    from umfuse import draw

    shown = []
    whole = draw.registration_sheet
    monkeypatch.setattr(
        draw, "registration_sheet", lambda *panels: shown.append(panels) or whole(*panels)
    )
    images.save(barred, tmp_path / "ir.png")
    images.save(scene.visible, tmp_path / "vis.png")
    paths = [str(tmp_path / name) for name in ("ir.png", "vis.png", "out.png", "sheet.png")]
    saved = tmp_path / "found.npz"
    arguments = ["register", *paths[:2], "-o", paths[2], "--sheet", paths[3]]
    assert cli.main([*arguments, "--save-registration", str(saved)]) == 0
    ((_, _, _, after, *_),) = shown
    assert after.min() * 255 > 20
    assert umfuse.Registration.load(saved).content == between(barred, BAR)
    with Image.open(paths[2]) as image:
        assert np.asarray(image).min() > 20

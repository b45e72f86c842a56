"""Pixels without data: no part of the range, the search or the fused image, and given back so."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from patterns import as_array, pattern
from PIL import Image, TiffImagePlugin

import umfuse
from umfuse import cli, filters, images, missing, ranges
from umfuse.images import read

MARK = -9999.0


def blobs(size: tuple[int, int], share: float = 0.15) -> np.ndarray:
    """Discs and a ragged edge on the left that are together at least a share of an image."""
    y, x = np.mgrid[: size[0], : size[1]]
    found = x < (0.04 + 0.02 * np.sin(y / 9)) * size[1]
    rng = np.random.default_rng(3)
    while found.mean() < share:
        (down, right), radius = rng.random(2) * size, rng.uniform(0.04, 0.09) * size[1]
        found |= (y - down) ** 2 + (x - right) ** 2 < radius**2
    return found


@pytest.fixture(scope="module")
def holes(scene):
    return blobs(scene.infrared.shape)


def tagged(array, text, path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[42113] = text
    Image.fromarray(array).save(path, tiffinfo=tags)
    return path


# What stands in pixels without data, how the image comes, and whether that says which they are.
CARRIERS = {
    "NaN": (np.nan, "array", True),
    "number": (MARK, "array", False),
    "zero": (0, "array", False),
    "masked": (0, "masked", True),
    "masked floats": (np.nan, "masked", True),
    "tag": (0, "tiff", True),
    "tag of floats": (MARK, "tiff", True),
    "NaN in PIL": (np.nan, "pil", True),
    "PIL": (MARK, "pil", False),
    "NaN in a tensor": (np.nan, "tensor", True),
    "tensor": (0, "tensor", False),
}


def carried(name, counts, holes, folder):
    """An image without some of its data, and the options to read it with."""
    blank, kind, told = CARRIERS[name]
    array = counts.astype(np.uint16 if blank == 0 else np.float32)
    if kind == "masked":
        return np.ma.array(array, mask=holes), {}
    array[holes] = blank
    options = {} if told else {"nodata": blank}
    if kind == "tiff":
        return tagged(array, f" {blank}", folder / "tagged.tif"), options
    if kind == "pil":
        return Image.fromarray(array), options
    return torch.from_numpy(array) if kind == "tensor" else array, options


# ---- what is read, and given back ----------------------------------------------------------------


def test_float64_files_keep_no_data_that_float32_does_not_hold(scene, holes, tmp_path):
    counts = scene.infrared / 65535
    tifffile = pytest.importorskip("tifffile")
    path, lowest = tmp_path / "a.tif", np.finfo(np.float64).min
    array = np.where(holes, lowest, counts)
    tifffile.imwrite(path, array, extratags=[(42113, "s", 0, f"{lowest}", True)])
    picture = read(path, name="infrared")
    expected = read(np.where(holes, np.nan, counts.astype(np.float32)), name="infrared")
    assert torch.equal(picture.values, expected.values)
    tifffile.imwrite(path, array)
    with pytest.raises(ValueError, match=f"{holes.sum()} that are Inf or beyond"):
        read(path, name="infrared")


@pytest.mark.parametrize("name", CARRIERS)
def test_pixels_without_data_are_found_filled_and_given_back(name, scene, holes, tmp_path):
    image, options = carried(name, scene.infrared, holes, tmp_path)
    picture = read(image, range="percentile", **options)
    assert np.array_equal(picture.missing[0, 0].numpy(), holes)
    data = scene.infrared[~holes].astype(np.float32)
    low, high = np.percentile(data, ranges.PERCENTILES)
    assert [float(picture.low), float(picture.span)] == pytest.approx([low, high - low])
    assert np.array_equal(picture.values[0, 0].numpy()[~holes], data)
    assert data.min() <= float(picture.values.min()) <= float(picture.values.max()) <= data.max()
    back = picture.give_back(picture.values, picture.missing)
    assert type(back) is (Image.Image if CARRIERS[name][1] in ("pil", "tiff") else type(image))
    if CARRIERS[name][1] == "masked":
        assert np.array_equal(back.mask, holes)
    blank = CARRIERS[name][0]
    expected = scene.infrared.astype(np.uint16 if blank == 0 else np.float32)
    expected[holes] = blank
    assert as_array(back).dtype == (
        np.float32 if isinstance(back, torch.Tensor) else expected.dtype
    )
    np.testing.assert_array_equal(as_array(back), expected)


def test_the_share_is_in_the_log(caplog):
    array = pattern("f4")
    array[:3, :4] = np.nan
    with caplog.at_level(logging.INFO, logger="umfuse"):
        read(array, name="infrared")
    assert "infrared: 5 % of the pixels have no data" in caplog.text


def test_the_share_of_bars_is_in_the_log(scene, model, caplog):
    barred = np.pad(scene.infrared, ((16, 16), (0, 0)))
    with caplog.at_level(logging.INFO, logger="umfuse"):
        umfuse.register(barred, scene.visible, weights=model)
    assert "infrared: 20 % of the pixels are bars" in caplog.text


def test_integers_are_data_unless_said_otherwise():
    for array in (pattern("u1"), pattern("i2")):
        array[2:5, 3:9] = 0
        assert read(array).missing is None
        assert read(array, nodata=MARK).missing is None
    # As a byte, -9999 is 241.
    assert read(torch.full((9, 9), 241, dtype=torch.uint8), nodata=MARK).missing is None


def test_a_colour_without_data_has_none_in_every_channel():
    array = pattern("u1", 3).clip(1, None)
    array[2, 3], array[4, 5, 0] = 0, 0
    lost = read(array, nodata=0).missing
    assert lost[0, 0].nonzero().tolist() == [[2, 3]]
    mask = np.zeros(array.shape, dtype=bool)
    mask[6, 7, 1] = True
    lost = read(np.ma.array(array, mask=mask)).missing
    assert lost[0, 0].nonzero().tolist() == [[6, 7]]


def test_opacity_is_no_part_of_what_has_no_data():
    tensor = torch.full((1, 4, 9, 12), 0.5)
    tensor[:, :3, 2, 3] = 0  # opaque there
    tensor[:, 3, 4, 5] = 0
    assert read(tensor, nodata=0).missing[0, 0].nonzero().tolist() == [[2, 3]]


def test_two_ways_to_say_it_add_up():
    array = np.ma.masked_equal(np.arange(200, dtype=np.float32).reshape(10, 20), 7)
    array[0, 3] = np.nan
    picture = read(array, range="minmax", nodata=9)
    assert picture.missing[0, 0].nonzero().tolist() == [[0, 3], [0, 7], [0, 9]]
    back = picture.give_back(picture.values, picture.missing)
    assert back.mask.sum() == 3
    assert back.fill_value == 9
    assert (back.filled()[back.mask] == 9).all()


def test_the_mark_of_doubles_that_float32_cannot_hold():
    array = pattern("f8")
    array[2, 3] = lowest = np.finfo(np.float64).min
    picture = read(array, nodata=lowest)
    back = picture.give_back(picture.values, picture.missing)
    assert back[2, 3] == lowest
    assert (back != lowest).sum() == array.size - 1


def test_a_batch_has_holes_of_each_image():
    batch = torch.rand(2, 1, 12, 20)
    batch[1, 0, 3, 4] = float("nan")
    picture = read(batch)
    assert picture.missing.nonzero().tolist() == [[1, 0, 3, 4]]


def test_a_tiff_that_is_written_says_what_is_no_data(tmp_path):
    array = pattern("u2").clip(1, None)
    array[:4] = 0
    source = tagged(array, "0", tmp_path / "source.tif")
    picture = read(source)
    back = picture.give_back(picture.values, picture.missing)
    assert torch.equal(read(back).missing, picture.missing)
    images.save(back, tmp_path / "copy.tif")
    assert torch.equal(read(tmp_path / "copy.tif").missing, picture.missing)


def test_tifffile_reads_the_tag_of_what_pillow_cannot(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    array = pattern("u2", 3).clip(1, None)
    array[:4] = 0
    path = tmp_path / "colour.tif"
    tifffile.imwrite(path, array, photometric="rgb", extratags=[(42113, "s", 0, "0", True)])
    assert read(path).missing[0, 0].sum() == 4 * array.shape[1]


@pytest.mark.parametrize("text", ["none", ""])
def test_a_tag_that_is_no_number_says_nothing(text, tmp_path):
    assert read(tagged(pattern("u2"), text, tmp_path / "odd.tif")).missing is None


# ---- what is filled ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(37, 53), (64, 8), (9, 9)])
def test_a_filling_is_smooth_and_stays_within_what_is_around(size):
    ramp = torch.arange(size[1]).float().expand(1, 2, *size)
    lost = torch.from_numpy(blobs(size, 0.3))[None, None]
    image = torch.where(lost, float("nan"), ramp)
    full = missing.filled(image, lost)
    assert torch.equal(full.masked_fill(lost, 0), image.masked_fill(lost, 0))
    assert float(full.min()) >= float(image.nan_to_num(99).min())
    assert float(full.max()) <= size[1] - 1
    steps = full.diff(dim=-2).abs().max(), full.diff(dim=-1).abs().max()
    assert float(max(steps)) < 0.2 * size[1]


def test_a_filling_continues_what_is_constant():
    lost = torch.from_numpy(blobs((40, 50), 0.5))[None, None]
    full = missing.filled(torch.full((1, 1, 40, 50), 290.0), lost)
    torch.testing.assert_close(full, torch.full_like(full, 290.0))


# ---- what is refused, and what the messages recommend --------------------------------------------


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_inf_is_refused_and_the_remedy_makes_it_no_data(kind, bad):
    image = kind(pattern("f8"))
    image[3, 4] = bad
    with pytest.raises(
        ValueError, match=r"got 1 that are Inf or beyond 1e\+37; .*make them NaN"
    ) as caught:
        read(image)
    exec(str(caught.value).split("make them NaN: ")[1], {"image": image, "abs": abs})
    assert read(image).missing[0, 0].nonzero().tolist() == [[3, 4]]


@pytest.mark.parametrize("image", [np.full((9, 9), np.nan), torch.full((9, 9), float("nan"))])
def test_an_image_without_any_data_is_refused(image):
    with pytest.raises(ValueError, match=r"infrared: expected an image, .* all without data"):
        read(image, name="infrared")
    batch = torch.stack((torch.rand(1, 9, 9), torch.full((1, 9, 9), float("nan"))))
    with pytest.raises(ValueError, match="all without data"):
        read(batch)
    with pytest.raises(ValueError, match="all without data"):
        read(np.zeros((9, 9), np.uint8), nodata=0)


def test_nodata_is_a_number():
    with pytest.raises(
        TypeError, match="infrared: expected nodata to be a number or None, got '0'"
    ):
        read(pattern("u1"), name="infrared", nodata="0")


def degrees(holes):
    """Celsius, with a mark where there are holes."""
    image = 10 + 25 * pattern("f4")
    image[holes] = MARK
    return image


def test_a_mark_among_floats_is_named_and_the_remedy_works():
    lost = blobs((12, 20))
    image = degrees(lost)
    said = r"got -9999 to .* are exactly -9999: if these have no data, say nodata=-9999$"
    with pytest.raises(ValueError, match=said):
        read(image, name="infrared")
    picture = read(image, name="infrared", nodata=-9999, range="percentile")
    assert np.array_equal(picture.missing[0, 0].numpy(), lost)
    with pytest.raises(ValueError, match=r"say np.ma.masked_equal\(image, -9999\)"):
        read(image, name="visible")
    assert read(np.ma.masked_equal(image, -9999), range="percentile").missing.sum() == lost.sum()
    with pytest.raises(ValueError, match=r"'percentile'$"):
        read(degrees(np.zeros_like(lost)), name="infrared")


def test_a_mark_in_a_stretched_image_is_warned_of(caplog):
    lost = blobs((12, 20))
    counts = 29000 + pattern("u2") % 2000
    counts[lost] = 0
    for image, value in ((degrees(lost), -9999), (counts, 0)):
        caplog.clear()
        read(image, name="infrared", range="percentile")
        assert f"are exactly {value}: if these have no data, say nodata={value}" in caplog.text
        caplog.clear()
        read(image, name="visible", range="percentile")  # where darkness is usual
        assert not caplog.text
        caplog.clear()
        read(image, name="infrared", range="percentile", nodata=value)
        assert not caplog.records


def test_neither_bars_nor_8_bits_nor_labels_are_taken_for_marks(scene, caplog):
    bars = np.pad(scene.infrared, ((9, 9), (0, 0)))
    dark = np.where(scene.infrared > np.median(scene.infrared), 250, 0).astype(np.uint8)
    for image in (scene.infrared, bars, dark, dark.astype(np.int32)):
        read(image, name="infrared")
    assert not caplog.records


# ---- what is found -------------------------------------------------------------------------------


def error(registration, scene):
    miss = np.linalg.norm(registration.coordinates - scene.coordinates, axis=-1)
    return miss[scene.valid].mean()


def seen(holes, scene):
    """How much of what a visible pixel sees is missing, by the truth: (H, W)."""
    place = torch.from_numpy(scene.coordinates).movedim(-1, 0)[None]
    lost = torch.from_numpy(holes)[None, None].float()
    return umfuse.geometry.interpolate(lost, place)[0, 0].numpy()


@pytest.fixture(scope="module")
def clean(scene, model):
    return umfuse.fuse(scene.infrared, scene.visible, weights=model)


@pytest.mark.parametrize("name", ["NaN", "number", "zero", "masked", "tag", "tag of floats"])
def test_a_pair_is_registered_as_if_nothing_were_missing(
    name, scene, holes, clean, model, tmp_path, caplog
):
    image, options = carried(name, scene.infrared, holes, tmp_path)
    found = umfuse.register(
        image, scene.visible, weights=model, ir_range="percentile", on_failure="raise", **options
    )
    assert not caplog.records
    assert error(found, scene) < error(clean.registration, scene) + 0.5
    share = seen(holes, scene)
    assert not found.valid_mask[share > 0.8].any()
    assert found.valid_mask[scene.valid & (share < 0.2)].all()
    given = found.infrared
    blank, kind, _ = CARRIERS[name]
    values = as_array(given)
    lost = np.isnan(values) if np.isnan(blank) else values == blank
    assert np.array_equal(lost, ~found.valid_mask)  # no visible pixel looks beside the infrared one
    if kind == "masked":
        assert np.array_equal(given.mask, lost)
    data = values[~lost]
    assert scene.infrared.min() <= data.min() <= data.max() <= scene.infrared.max()


def test_the_visible_image_is_shown_where_infrared_is_missing(scene, holes, clean, model):
    """And between the two a soft edge: nothing darker or brighter than what meets there."""
    image, options = carried("number", scene.infrared, holes, None)
    fusion = umfuse.fuse(
        image,
        scene.visible,
        registration=clean.registration,
        weights=model,
        ir_range="percentile",
        **options,
    )
    share = seen(holes, scene)
    inside = share > 0.99
    off = np.abs(fusion.image[inside].astype(int) - scene.visible[inside])
    assert inside.mean() > 0.08
    assert off.max() <= 2
    visible = read(scene.visible).luma
    edge = (share > 0) | (filters.box(torch.from_numpy(share)[None, None], 8)[0, 0].numpy() > 0)
    both = np.stack((visible[0, 0].numpy(), clean.luma))
    above, below = fusion.luma - both.max(0), both.min(0) - fusion.luma
    assert max(np.quantile(above[edge], 0.999), np.quantile(below[edge], 0.999)) < 0.03
    assert np.abs(fusion.luma - clean.luma)[~edge].max() < 0.05


def test_a_dead_pixel_takes_nothing_from_its_neighbours():
    lost = torch.zeros(1, 1, 120, 160, dtype=torch.bool)
    lost[0, 0, 60, 80] = True
    weight = umfuse.resampling.coverage(umfuse.geometry.identity_grid(120, 160), (120, 160), lost)
    assert float(weight[0, 0, 60, 80]) == 0
    assert float(weight[~lost].min()) > 0.7


def test_a_frame_is_fused_with_a_saved_registration(scene, holes, clean, model, tmp_path):
    """The holes are those of the frame, not of the pair that was registered."""
    clean.registration.save(tmp_path / "rig.npz")
    image, options = carried("NaN", scene.infrared, holes, None)
    fusion = umfuse.fuse(
        image,
        scene.visible,
        registration=tmp_path / "rig.npz",
        weights=model,
        ir_range="percentile",
        **options,
    )
    inside = seen(holes, scene) > 0.99
    np.testing.assert_allclose(fusion.image[inside], scene.visible[inside], atol=2)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_another_frame_keeps_its_holes(interpolation, scene, holes, clean):
    frame = scene.infrared.astype(np.float32)
    frame[holes] = np.nan
    moved = clean.registration.apply(frame, interpolation)
    share = seen(holes, scene)
    assert np.isnan(moved[share > 0.8]).all()
    assert not np.isnan(moved[share < 0.2]).any()


@pytest.mark.parametrize("kind", ["NaN", "masked"])
def test_a_visible_image_without_data_has_none_where_it_is_fused(kind, scene, clean, model):
    lost = blobs(scene.visible.shape[:2])
    grey = filters.luma(read(scene.visible).luma)[0, 0].numpy()
    image = np.ma.array(grey, mask=lost) if kind == "masked" else np.where(lost, np.nan, grey)
    fusion = umfuse.fuse(scene.infrared, image, weights=model, on_failure="raise")
    assert error(fusion.registration, scene) < error(clean.registration, scene) + 0.5
    given = fusion.image.mask if kind == "masked" else np.isnan(fusion.image)
    assert np.array_equal(given, lost)
    assert np.isfinite(fusion.luma).all()
    assert fusion.registration.valid_mask.all()


# ---- the command line ----------------------------------------------------------------------------


def test_commands_take_the_value(scene, holes, model, tmp_path):
    image, _ = carried("number", scene.infrared, holes, None)
    files = [str(tmp_path / name) for name in ("ir.tif", "vis.png", "moved.tif", "fused.png")]
    images.save(image, files[0])
    images.save(scene.visible, files[1])
    options = ["--nodata", "-9999", "--range", "percentile", "--on-failure", "raise"]
    for command, output in (("register", files[2]), ("fuse", files[3])):
        sheet = ["--sheet", str(tmp_path / "sheet.png")]
        assert cli.main([command, *files[:2], "-o", output, *sheet, *options]) == 0
    share = seen(holes, scene)
    lost = read(files[2], range="minmax").missing[0, 0].numpy()  # the file says so itself
    assert lost[share > 0.8].all()
    assert not lost[share < 0.2].any()
    fused = np.asarray(Image.open(files[3])).astype(int)
    assert np.abs(fused - scene.visible)[share > 0.99].max() <= 2


def test_scores_are_of_images_that_are_whole(scene, tmp_path, capsys):
    for kind in ("ir", "vis"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    visible = read(scene.visible).luma[0, 0].numpy()
    images.save(visible, tmp_path / "data" / "ir" / "a.tif")
    images.save(visible, tmp_path / "data" / "vis" / "a.tif")
    images.save(np.where(blobs(visible.shape), np.nan, visible), tmp_path / "mine" / "a.tif")
    folders = [str(tmp_path / name) for name in ("mine", "data")]
    assert cli.main(["evaluate", *folders, "-o", str(tmp_path / "scores")]) == 2
    assert "expected images that are data everywhere" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--size", "96"]])
def test_deformed_images_keep_their_holes(options, tmp_path):
    lost = blobs((120, 160))
    for kind in ("ir", "vis"):
        (tmp_path / kind).mkdir()
        image = np.random.default_rng(0).random(lost.shape, np.float32)
        if kind == "ir":
            image[lost] = np.nan
        images.save(image, tmp_path / kind / "a.tif")
    assert (
        cli.main(["deform", str(tmp_path), str(tmp_path / "out"), "--protocol", "paper", *options])
        == 0
    )
    found = read(tmp_path / "out" / "ir_warp" / "a.tif").missing
    assert float(found.float().mean()) == pytest.approx(lost.mean(), rel=0.3)

"""Colour profile, time and place of a file go with its pixels, and stay true of them."""

from __future__ import annotations

import functools
import io
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from patterns import HEIGHT, WIDTH, as_array, pattern
from PIL import ExifTags, Image, ImageCms

import umfuse
from umfuse import files, images
from umfuse.files import metadata, tiff
from umfuse.files.metadata import Metadata

MADE = "2026:05:01 10:00:00"
PLACE = (47.0, 20.0, 1.5)
Tag, Group = ExifTags.Base, ExifTags.IFD


@functools.cache  # it holds the time
def profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile() -> bytes:
    """A profile whose header says that it is for grey: enough for what is looked at."""
    return profile()[:16] + b"GRAY" + profile()[20:]


def written(orientation: int = 6) -> Image.Exif:
    exif = Image.Exif()
    exif[Tag.Make], exif[Tag.DateTime] = "Maker", MADE
    exif[Tag.Orientation] = orientation
    exif.get_ifd(Group.Exif).update({Tag.DateTimeOriginal: MADE, Tag.ExifImageWidth: WIDTH})
    exif.get_ifd(Group.Exif)[Tag.MakerNote] = b"at byte 1234"
    exif.get_ifd(Group.GPSInfo).update({1: "N", 2: PLACE})
    return exif


def check_said(path: Path, icc: bytes | None) -> None:
    with Image.open(path) as image:
        found = image.getexif()
        assert image.info.get("icc_profile") == icc
        assert found[Tag.Make] == "Maker"
        assert found.get(Tag.Orientation, 1) == 1
        assert found.get_ifd(Group.GPSInfo) == {1: "N", 2: PLACE}
        assert found.get_ifd(Group.Exif) == {Tag.DateTimeOriginal: MADE}


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("out", [".png", ".jpg", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_profile_time_and_place_go_with_the_pixels(
    tmp_path: Path, suffix: str, out: str, orientation: int
) -> None:
    stored = Image.fromarray(pattern("u1", 3))
    stored.save(tmp_path / f"a{suffix}", exif=written(orientation).tobytes(), icc_profile=profile())
    picture = images.read(tmp_path / f"a{suffix}")
    turned = orientation == 6
    assert picture.size == ((WIDTH, HEIGHT) if turned else (HEIGHT, WIDTH))
    picture.form.save(picture.fused(picture.luma), tmp_path / f"b{out}")
    check_said(tmp_path / f"b{out}", profile())
    with Image.open(tmp_path / f"b{out}") as back:
        assert back.size == ((HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT))


@pytest.mark.parametrize("dtype", ["u2", "f4"])
@pytest.mark.parametrize("channels", [None, 3, 4])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_deep_images_keep_it_too(
    tmp_path: Path, suffix: str, channels: int | None, dtype: str
) -> None:
    if dtype == "f4" and suffix == ".png":
        pytest.skip("PNG has no floats")
    if channels is not None:
        pytest.importorskip("tifffile")
    array = pattern(dtype, channels)
    icc = grey_profile() if channels is None else profile()
    files.save(array, tmp_path / f"a{suffix}", Metadata(icc, written(1).tobytes()))
    picture = images.read(tmp_path / f"a{suffix}")
    picture.form.save(picture.give_back(picture.planes), tmp_path / f"b{suffix}")
    if dtype == "u2" or channels is None:
        check_said(tmp_path / f"b{suffix}", icc)
    else:  # which Pillow does not open
        assert images.read(tmp_path / f"b{suffix}").form.said == picture.form.said
        assert picture.form.said.icc == icc
        assert picture.form.said.exif is not None
    again = images.read(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(as_array(again.give_back(again.planes)), array)
    if suffix == ".png" and channels is not None:
        with Image.open(tmp_path / f"b{suffix}") as high:  # another reader agrees
            np.testing.assert_array_equal(np.asarray(high), array >> 8)


def test_tifffile_reads_what_was_added_to_a_tiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = pattern("u2", 3)
    files.save(array, tmp_path / "a.tif", Metadata(None, written(1).tobytes()))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 1
        np.testing.assert_array_equal(file.asarray(), array)
        tags = file.pages[0].tags
        assert tags["Make"].value == "Maker"
        assert tags["ExifTag"].value["DateTimeOriginal"] == MADE
        assert tags["GPSTag"].value["GPSLatitude"] == (47, 1, 20, 1, 3, 2)


def test_a_tiff_of_more_than_4_gib_stays_readable(caplog: pytest.LogCaptureFixture) -> None:
    big = io.BytesIO(b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + bytes(64))
    before = big.getvalue()
    tiff._describe(big, written(1).tobytes())  # pyright: ignore[reportPrivateUsage]
    assert big.getvalue() == before
    assert "without its EXIF" in caplog.text


def test_a_profile_goes_with_the_channels_it_is_for(tmp_path: Path) -> None:
    colour = Image.fromarray(pattern("u1", 3))
    colour.info["icc_profile"] = profile()
    luma = colour.convert("L")
    luma.info["icc_profile"] = profile()
    for image, expected in ((colour, profile()), (luma, None)):
        for suffix in (".png", ".jpg", ".tif", ".webp"):
            if suffix == ".webp" and image is luma:
                continue  # which has no grey
            files.save(image, tmp_path / f"a{suffix}")
            with Image.open(tmp_path / f"a{suffix}") as found:
                assert found.info.get("icc_profile") == expected
    assert Metadata(grey_profile()).fitting(1).icc == grey_profile()
    assert Metadata(grey_profile()).fitting(3).icc is None
    assert Metadata(b"short").fitting(3).icc is None


def test_a_pil_image_keeps_its_own_and_gets_it_back() -> None:
    image = Image.fromarray(pattern("u1", 3))
    image.info.update(icc_profile=profile(), exif=written().tobytes())
    image = Image.open(encoded(image))
    picture = images.read(image)
    back = picture.fused(picture.luma)
    assert isinstance(back, Image.Image)
    assert back.info["icc_profile"] == profile()
    assert back.getexif().get_ifd(Group.GPSInfo)[1] == "N"
    assert Tag.Orientation not in back.getexif()


def encoded(image: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, "PNG", exif=image.info["exif"], icc_profile=image.info["icc_profile"])
    return file


def test_cmyk_becomes_srgb_by_its_profile(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="umfuse")
    image = Image.fromarray(pattern("u1", 3)).convert("CMYK")
    said = Metadata(profile(), b"Exif")
    # No profile of a press lies here: that one is used is seen from what is called with it.
    seen = []

    def converted(image, source, target, outputMode):
        seen.append((source.tobytes(), outputMode))
        return image.convert(outputMode)

    monkeypatch.setattr(ImageCms, "profileToProfile", converted)
    rgb, left = metadata.to_rgb(image, said, "visible")
    assert seen == [(profile(), "RGB")]
    assert rgb.mode == "RGB"
    assert left == Metadata(None, b"Exif")
    assert "visible: CMYK is converted to sRGB by its ICC profile" in caplog.text
    monkeypatch.undo()
    # A profile that is no CMYK profile cannot be used.
    image.save(tmp_path / "a.jpg", icc_profile=profile())
    picture = images.read(tmp_path / "a.jpg", name="visible")
    assert "visible: its ICC profile cannot be used and is dropped" in caplog.text
    assert picture.form.said.icc is None
    assert picture.channels == 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's word on it
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0II*\0\xff\xff\xff\xff", b"?"]
)
def test_exif_that_is_damaged_does_no_harm(tmp_path: Path, exif: bytes) -> None:
    Image.fromarray(pattern("u1", 3)).save(tmp_path / "a.jpg", exif=exif)
    picture = images.read(tmp_path / "a.jpg")
    assert picture.form.said.exif is None


def test_heic_keeps_it(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = written(1)
    image = Image.fromarray(pattern("u1", 3))
    pillow_heif.from_pillow(image).save(
        tmp_path / "a.heic", quality=-1, exif=exif.tobytes(), icc_profile=profile()
    )
    picture = images.read(tmp_path / "a.heic")
    picture.form.save(picture.fused(picture.luma), tmp_path / "b.jpg")
    check_said(tmp_path / "b.jpg", picture.form.said.icc)


def test_opacity_is_dropped_with_a_warning_where_there_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for array in (pattern("u1", 4), Image.fromarray(pattern("u1", 4)).convert("LA")):
        caplog.clear()
        files.save(array, tmp_path / "a.png")
        files.save(array, tmp_path / "a.tif")
        assert not caplog.records
        files.save(array, tmp_path / "a.jpg")
        assert "JPEG has no opacity, the alpha channel is dropped" in caplog.text


def test_the_fused_image_has_what_the_visible_one_had(scene, model, tmp_path: Path) -> None:
    """One run of all of it: time, place, profile, opacity, in a folder of formats."""
    visible = Image.fromarray(scene.visible).convert("RGBA")
    opacity = np.tile(np.arange(visible.width, dtype=np.uint8), (visible.height, 1))
    visible.putalpha(Image.fromarray(opacity))
    visible.save(tmp_path / "vis.png", exif=written(1).tobytes(), icc_profile=profile())
    Image.fromarray(scene.infrared).save(tmp_path / "ir.png")
    fusion = umfuse.fuse(tmp_path / "ir.png", tmp_path / "vis.png", align=False, weights=model)
    fusion.save(tmp_path / "fused.tif")
    check_said(tmp_path / "fused.tif", profile())
    with Image.open(tmp_path / "fused.tif") as fused:
        assert fused.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(fused)[..., 3], opacity)
    fusion.save(tmp_path / "grey.png", grey16=True)
    check_said(tmp_path / "grey.png", None)


def test_bgr_in_bgr_out_and_right_in_the_file(scene, model, tmp_path: Path) -> None:
    rgb = umfuse.fuse(scene.infrared, scene.visible, align=False, weights=model)
    bgr = umfuse.fuse(
        scene.infrared, scene.visible[..., ::-1], channels="bgr", align=False, weights=model
    )
    np.testing.assert_array_equal(as_array(bgr.image)[..., ::-1], as_array(rgb.image))
    rgb.save(tmp_path / "rgb.png")
    bgr.save(tmp_path / "bgr.png")
    assert (tmp_path / "rgb.png").read_bytes() == (tmp_path / "bgr.png").read_bytes()
    assert bgr._repr_png_() == rgb._repr_png_()


def test_registered_infrared_keeps_its_own(scene, model, tmp_path: Path) -> None:
    grey = images.read(scene.infrared).luma[0, 0].mul(255).byte().numpy()
    infrared = np.dstack([grey] * 3 + [np.full_like(grey, 200)])
    said = {"exif": written(1).tobytes(), "icc_profile": profile()}
    Image.fromarray(infrared).save(tmp_path / "ir.png", **said)
    found = umfuse.register(tmp_path / "ir.png", scene.visible, weights=model)
    found.save_infrared(tmp_path / "out.png")
    check_said(tmp_path / "out.png", profile())
    with Image.open(tmp_path / "out.png") as image:
        assert (np.asarray(image)[..., 3] == 200).all()


def test_tensors_say_nothing() -> None:
    assert images.read(torch.rand(3, HEIGHT, WIDTH)).form.said == files.NOTHING

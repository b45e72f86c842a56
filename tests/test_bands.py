"""Stacks: which channel of an image, or page of a file, is looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from patterns import as_array, pattern
from PIL import Image
from test_files import turned

import umfuse
from umfuse import cli, images
from umfuse.images import read

STACK = pattern("u2", 5)


def back(picture: images.Picture) -> object:
    return picture.give_back(picture.values)


@pytest.mark.parametrize("band", range(5))
def test_a_channel_of_an_array_and_of_a_tensor(band: int) -> None:
    given = back(read(STACK, band=band))
    assert isinstance(given, np.ndarray)
    np.testing.assert_array_equal(given, STACK[..., band])
    planes = torch.from_numpy(STACK.astype(np.int32)).movedim(-1, 0)
    for tensor, lead in ((planes, ()), (planes[None], (1,))):
        given = back(read(tensor, band=band))
        assert given.shape == (*lead, 1, *STACK.shape[:2])
        np.testing.assert_array_equal(given.numpy().squeeze(), STACK[..., band])


def test_three_channels_are_colour() -> None:
    picture = read(STACK, name="visible", band=(4, 0, 2))
    np.testing.assert_array_equal(as_array(back(picture)), STACK[..., [4, 0, 2]])
    tensor = torch.from_numpy(STACK.astype(np.int32)).movedim(-1, 0)
    assert read(tensor, band=(4, 0, 2)).channels == 3


def test_a_channel_of_a_pil_image() -> None:
    array = pattern("u1", 4)
    given = back(read(Image.fromarray(array), band=3))
    assert given.mode == "L"
    np.testing.assert_array_equal(np.asarray(given), array[..., 3])
    exif = Image.Exif()
    exif[274] = 6
    image = Image.fromarray(turned(array, 6))
    image.info["exif"] = exif.tobytes()
    np.testing.assert_array_equal(read(image, band=1).values[0, 0].numpy(), array[..., 1])
    grey = Image.fromarray(pattern("u2"))
    np.testing.assert_array_equal(as_array(back(read(grey, band=0))), np.asarray(grey))
    palette = Image.fromarray(pattern("u1")).convert("P")
    palette.putpalette(bytes(range(256)) * 3)
    shown = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(read(palette, band=2).values[0, 0].numpy(), shown[..., 2])


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_a_channel_of_a_tiff(tmp_path: Path, dtype: str, planar: bool) -> None:
    tifffile = pytest.importorskip("tifffile")
    stack, path = pattern(dtype, 6), tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.moveaxis(stack, -1, 0) if planar else stack,
        photometric="minisblack",
        planarconfig="separate" if planar else "contig",
    )
    with pytest.raises(ValueError, match=r"infrared: .*say which one to use, band=0 to band=5$"):
        read(path, name="infrared")
    with pytest.raises(ValueError, match=r"vis_band=0 to vis_band=5, or vis_band=\(red, green"):
        read(path, name="visible")
    for band in range(6):
        np.testing.assert_array_equal(read(path, band=band).values[0, 0].numpy(), stack[..., band])
    np.testing.assert_array_equal(as_array(back(read(path, band=(5, 3, 1)))), stack[..., [5, 3, 1]])


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_two_channels_are_two_bands_unless_one_is_alpha(tmp_path: Path, dtype: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    stack, path = pattern(dtype, 2), tmp_path / "a.tif"
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(path, stack, **options)
    with pytest.raises(ValueError, match="say which one to use, band=0 to band=1"):
        read(path)
    np.testing.assert_array_equal(read(path, band=1).values[0, 0].numpy(), stack[..., 1])
    tifffile.imwrite(path, stack, extrasamples=["unassalpha"], **options)
    np.testing.assert_array_equal(read(path).values[0, 0].numpy(), stack[..., 0])


@pytest.mark.parametrize("suffix", [".tif", ".gif"])
def test_pages(tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    pages = [Image.fromarray(pattern("u1", seed=seed)) for seed in range(3)]
    path = tmp_path / f"a{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    picture = read(path, name="infrared")
    np.testing.assert_array_equal(picture.values[0, 0].numpy(), np.asarray(pages[0]))
    assert "3 pages, the first is used; say which one to use, band=0 to band=2" in caplog.text
    caplog.clear()
    for number, page in enumerate(pages):
        picture = read(path, band=number)
        if suffix == ".tif":
            assert as_array(back(picture)).ndim == 2
        np.testing.assert_array_equal(picture.values[0, 0].numpy(), np.asarray(page))
    assert not caplog.records


def test_three_pages_are_colour(tmp_path: Path) -> None:
    pages = [Image.fromarray(pattern("u1", seed=seed)) for seed in range(4)]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    given = back(read(path, name="visible", band=(3, 0, 1)))
    assert given.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(given), np.stack([pages[n] for n in (3, 0, 1)], -1))


def test_pages_that_are_no_colour_planes(tmp_path: Path) -> None:
    colour, grey = Image.fromarray(pattern("u1", 3)), Image.fromarray(pattern("u1"))
    path = tmp_path / "a.tif"
    colour.save(path, save_all=True, append_images=[grey, grey.resize((30, 30))])
    assert read(path, band=0).channels == 3
    for pages in ((0, 1, 1), (1, 1, 2)):
        with pytest.raises(ValueError, match="visible: expected vis_band to name three grey pages"):
            read(path, name="visible", band=pages)


def test_a_page_of_many_says_what_is_no_data(tmp_path: Path) -> None:
    pages = [Image.fromarray(pattern("f4", seed=seed)) for seed in range(2)]
    pages[1].putpixel((3, 2), -9999)
    path = tmp_path / "a.tif"
    tags = {42113: "-9999"}
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo=tags)
    lost = read(path, band=1, range="minmax").missing
    assert lost is not None
    assert lost.nonzero().tolist() == [[0, 0, 2, 3]]


@pytest.mark.parametrize("band", [5, -1, (0, 1), (0, 1, 5)])
def test_bands_that_are_not_there(tmp_path: Path, band: object) -> None:
    tensor = torch.from_numpy(STACK.astype(np.int32)).movedim(-1, 0)
    for image in (STACK, tensor):
        with pytest.raises(
            ValueError, match=r"no band=.* in a stack of 5 \(from 0 on\); say which"
        ):
            read(image, band=band)
    pages = [Image.fromarray(pattern("u1", seed=seed)) for seed in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match=r"visible: there is no vis_band=.* in a stack of 5"):
        read(tmp_path / "a.tif", name="visible", band=band)


@pytest.mark.parametrize("band", ["0", 1.0, True, (0, 1, "2")])
def test_bands_are_integers(band: object) -> None:
    with pytest.raises(TypeError, match="infrared: expected band to be an integer, or three"):
        read(STACK, name="infrared", band=band)


# ---- register, fuse, the command line --------------------------------------------------


def test_register_and_fuse_take_bands(scene, model):
    infrared, visible = np.asarray(scene.infrared), np.asarray(scene.visible)
    noise = np.random.default_rng(0).integers(0, 60000, infrared.shape, np.uint16)
    thermal = np.stack([noise, infrared, noise, noise, noise], -1)
    colours = np.concatenate([visible[..., :1] * 0, visible[..., ::-1], visible[..., :1]], -1)
    plain = umfuse.register(infrared, visible, weights=model)
    found = umfuse.register(thermal, colours, band=1, vis_band=(3, 2, 1), weights=model)
    np.testing.assert_array_equal(found.transform, plain.transform)
    np.testing.assert_array_equal(found.infrared, plain.infrared)
    fused = umfuse.fuse(thermal, colours, band=1, vis_band=2, registration=plain, weights=model)
    assert fused.image.shape == visible.shape[:2]
    assert fused.image.dtype == np.uint8


def test_commands_take_bands(scene, model, tmp_path, capsys):
    tifffile = pytest.importorskip("tifffile")
    infrared, visible = np.asarray(scene.infrared), np.asarray(scene.visible)
    files = [str(tmp_path / name) for name in ("ir.tif", "vis.tif")]
    tifffile.imwrite(files[0], np.stack([infrared * 0, infrared], 0), photometric="minisblack")
    planes = np.moveaxis(np.concatenate([visible[..., ::-1], visible[..., :2]], -1), -1, 0)
    tifffile.imwrite(files[1], planes, photometric="minisblack", planarconfig="separate")
    output, sheet = tmp_path / "fused.png", tmp_path / "sheet.png"
    command = ["fuse", *files, "-o", str(output), "--sheet", str(sheet), "--on-failure", "raise"]
    assert cli.main(command) == 1
    assert "visible: " in (said := capsys.readouterr().err)
    assert "say which one to use, --vis-band 0 to --vis-band 4" in said
    assert cli.main([*command, "--band", "1", "--vis-band", "2,1,0"]) == 0
    assert np.asarray(Image.open(output)).shape == visible.shape
    with pytest.raises(SystemExit):
        cli.main([*command, "--vis-band", "1,2"])
    assert "expected N or RED,GREEN,BLUE (integers), got '1,2'" in capsys.readouterr().err

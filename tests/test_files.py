from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import files
from patterns import HEIGHT, WIDTH, as_array, pattern
from PIL import Image

from umfuse.files import save
from umfuse.images import read

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"


# ---- opening ------------------------------------------------------------------------


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels as stored in a file with this EXIF orientation (the inverse of showing them)."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](array).copy()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "rgb"])
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, dtype: str) -> None:
    array = pattern("u1", 3) if dtype == "rgb" else pattern(dtype)
    exif = Image.Exif()
    exif[274] = orientation
    for suffix in [".tif"] if dtype == "f4" else [".png", ".tif"]:
        path = tmp_path / f"a{suffix}"
        Image.fromarray(turned(array, orientation)).save(path, exif=exif)
        picture = read(path)
        back = picture.give_back(picture.values)
        assert isinstance(back, Image.Image)
        np.testing.assert_array_equal(np.asarray(back), array)
        # Through a stream: given a name, Pillow 13 maps a grey TIFF into memory with its sides
        # exchanged, and scrambles it before we see it.
        with path.open("rb") as stream, Image.open(stream) as opened:
            np.testing.assert_array_equal(as_array(read(opened).values[0, 0]), array_grey(array))


def array_grey(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 2 else array[..., 0]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_files_keep_their_counts(tmp_path: Path, suffix: str) -> None:
    counts = pattern("u2")
    save(counts, tmp_path / f"a{suffix}")
    picture = read(str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(picture.values[0, 0].numpy(), counts)
    back = picture.give_back(picture.values)
    assert isinstance(back, Image.Image)
    assert back.mode == "I;16"


def test_big_endian_tiff(tmp_path: Path) -> None:
    counts = pattern("u2")
    Image.frombytes("I;16B", (WIDTH, HEIGHT), counts.astype(">u2").tobytes()).save(
        tmp_path / "big.tif"
    )
    with Image.open(tmp_path / "big.tif") as opened:
        assert opened.mode == "I;16B"
    picture = read(tmp_path / "big.tif")
    np.testing.assert_array_equal(picture.values[0, 0].numpy(), counts)
    np.testing.assert_array_equal(as_array(picture.give_back(picture.values)), counts)


def test_float_tiff_in_degrees(tmp_path: Path) -> None:
    celsius = pattern("f4") * 40
    save(celsius, tmp_path / "a.tif")
    with pytest.raises(ValueError, match="pass range="):
        read(tmp_path / "a.tif")
    picture = read(tmp_path / "a.tif", range=(0, 40))
    back = picture.give_back(picture.values)
    assert isinstance(back, Image.Image)
    assert back.mode == "F"
    np.testing.assert_array_equal(np.asarray(back), celsius)


@pytest.mark.parametrize("dtype", ["f8", "f2"])
def test_float_tiffs_that_only_tifffile_reads(tmp_path: Path, dtype: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = pattern(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array)
    picture = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.values[0, 0].numpy(), array.astype(np.float32))
    assert isinstance(picture.give_back(picture.values), Image.Image)


def test_16_bit_colour_tiff_keeps_16_bits(tmp_path: Path) -> None:
    pytest.importorskip("tifffile")
    array = pattern("u2", 3)
    save(array, tmp_path / "a.tif")
    picture = read(tmp_path / "a.tif")
    back = picture.give_back(picture.values)
    assert isinstance(back, np.ndarray)  # PIL has no such mode
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_colour_tiff_is_upright(tmp_path: Path, orientation: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = pattern("u2", 3)
    tifffile.imwrite(
        tmp_path / "a.tif",
        turned(array, orientation),
        photometric="rgb",
        extratags=[(274, 3, 1, orientation, True)],
    )
    np.testing.assert_array_equal(as_array(read(tmp_path / "a.tif").values[0, 0]), array[..., 0])


def test_16_bit_colour_planar_tiff(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    array = pattern("u2", 3)
    tifffile.imwrite(
        tmp_path / "a.tif", np.moveaxis(array, -1, 0), photometric="rgb", planarconfig="separate"
    )
    np.testing.assert_array_equal(read(tmp_path / "a.tif").values[0, 2].numpy(), array[..., 2])


def test_16_bit_colour_tiff_needs_tifffile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tifffile")
    array, path = pattern("u2", 3), tmp_path / "a.tif"
    save(array, path)
    with Image.open(path) as opened, pytest.raises(ValueError, match="pass the path of its file"):
        read(opened)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(
        ValueError, match=r"infrared: .*needs tifffile: pip install 'umfuse\[tiff\]'"
    ):
        read(path, name="infrared")
    with pytest.raises(ValueError, match=r"needs tifffile; pip install 'umfuse\[tiff\]'"):
        save(array, tmp_path / "b.tif")


def test_compressed_tiff_needs_imagecodecs(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    array, path = pattern("u4"), tmp_path / "a.tif"
    tifffile.imwrite(path, array, compression="lzw")
    np.testing.assert_array_equal(read(path).values[0, 0].numpy(), array)
    # In another process, because tifffile imports its codecs once.
    script = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from umfuse.images import read\n"
        f"read({str(path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "is a kind of TIFF that needs imagecodecs: pip install 'umfuse[tiff]'" in done.stderr


def test_damaged_tiff_of_tifffile(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pattern("f8"))
    whole = path.read_bytes()
    for keep in (len(whole) - 100, 6):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match=r"truncated or damaged|no format that can be read"):
            read(path)


def test_a_second_page_that_is_damaged(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([pattern("u1")] * 2), photometric="minisblack")
    with tifffile.TiffFile(path) as file:
        width = file.pages[1].tags["ImageWidth"].offset
    content = bytearray(path.read_bytes())
    content[width : width + 2] = b"\xff\xff"  # no such tag: Pillow raises a TypeError
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"truncated or damaged \(Missing dimensions\)"):
        read(path)


def test_tiff_of_colours_that_are_not_grey_or_rgb(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", pattern("u2", 4), photometric="separated")
    with pytest.raises(ValueError, match="colours SEPARATED, which is not read exactly; convert"):
        read(tmp_path / "a.tif")


def test_tiff_of_more_than_an_image(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    volume = np.stack([pattern("u1", seed=seed) for seed in range(16)])
    tifffile.imwrite(path, volume, volumetric=True, tile=(16, 16, 16), photometric="minisblack")
    with pytest.raises(ValueError, match="a TIFF of axes ZYX and colours MINISBLACK, which is not"):
        read(path)
    with tifffile.TiffWriter(path) as writer:  # as cameras write DNG: the photograph is inside
        writer.write(pattern("u1"), subfiletype=1, subifds=1)
        writer.write(pattern("u2"))
    with pytest.raises(ValueError, match=r"a\.tif is a raw photograph.*a preview; develop it"):
        read(path)


@pytest.mark.parametrize("dtype", ["i1", "i2", "u4"])
def test_tiffs_of_other_integers_are_given_back_and_saved(tmp_path: Path, dtype: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    for channels in (None, 3):
        array = pattern(dtype, channels)
        photometric = "rgb" if channels else "minisblack"
        tifffile.imwrite(tmp_path / "a.tif", array, photometric=photometric)
        picture = read(tmp_path / "a.tif")
        back = picture.give_back(picture.values)
        np.testing.assert_array_equal(as_array(back), array)
        save(back, tmp_path / "b.tif")
        again = read(tmp_path / "b.tif")
        np.testing.assert_array_equal(as_array(again.give_back(again.values)), array)
        save(array, tmp_path / "c.tif")
        assert tifffile.imread(tmp_path / "c.tif").dtype == array.dtype


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_an_opened_deep_png_is_refused(tmp_path: Path, mode: str) -> None:
    kind, channels = {"LA": (4, 2), "RGB": (2, 3), "RGBA": (6, 4)}[mode]
    content, expected = files.png(kind, channels, interlaced=False)
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with Image.open(path) as opened, pytest.raises(ValueError, match="pass the path of its file"):
        read(opened)
    picture = read(path)
    back = as_array(picture.give_back(picture.planes))
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, expected)


def test_truncated_deep_files(tmp_path: Path) -> None:
    for name, content in {
        "a.png": files.png(2, 3, interlaced=False)[0],
        "a.ppm": files.pnm(3, 65535, words=False)[0],
        "b.ppm": files.pnm(3, 65535, words=True)[0],
    }.items():
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="truncated or damaged"):
            read(tmp_path / name)


def test_heic_needs_pillow_heif(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_heif")
    content, expected = files.heic("8 bits", 3)
    path = tmp_path / "a.heic"
    path.write_bytes(content)
    picture = read(path)
    back = picture.give_back(picture.values)
    assert isinstance(back, Image.Image)
    np.testing.assert_array_equal(np.asarray(back), expected)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read(path)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match=r"visible: .*pip install 'umfuse\[heif\]', or convert"):
        read(path, name="visible")


@pytest.mark.parametrize(("format", "suffix"), [("SGI", ".rgb"), ("JPEG2000", ".jp2")])
def test_depth_that_pillow_would_reduce(tmp_path: Path, format: str, suffix: str) -> None:
    image, path = Image.fromarray(pattern("u1")), tmp_path / f"a{suffix}"
    image.save(path, format)
    np.testing.assert_array_equal(read(path).values[0, 0].numpy(), np.asarray(image))
    if format == "SGI":
        image.save(path, format, bpc=2)
    else:
        Image.fromarray(pattern("u2")).save(path, format)
    with pytest.raises(ValueError, match=f"{format} of more than 8 bits, which is not"):
        read(path)


def test_deep_avif_is_refused(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    path = tmp_path / "a.avif"
    path.write_bytes(imagecodecs.avif_encode(pattern("u1", 3), level=100))
    assert read(path).channels == 3
    deep = imagecodecs.avif_encode(pattern("u2", 3) >> 6, level=100, bitspersample=10)
    path.write_bytes(deep)
    with pytest.raises(ValueError, match="AVIF of more than 8 bits, which is not"):
        read(path)


def test_a_git_lfs_pointer_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_text(POINTER)
    with pytest.raises(ValueError, match=r"a\.png is a Git LFS pointer.*run `git lfs pull`"):
        read(path)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("a.MP4", "`umfuse video` fuses the frames"), ("a.seq", "export its frames")],
)
def test_videos_are_no_images(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).write_bytes(bytes(100))
    with pytest.raises(ValueError, match=rf"infrared: .*an image is expected; .*{remedy}"):
        read(tmp_path / name, name="infrared")


def test_8_bit_and_16_bit_grey_files_log_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, array in {"a.png": pattern("u2"), "b.png": pattern("u1", 3)}.items():
        save(array, tmp_path / name)
        read(tmp_path / name)
    assert not caplog.records


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"infrared: .*nothing\.png does not exist"):
        read(tmp_path / "nothing.png", name="infrared")
    with pytest.raises(IsADirectoryError, match="expected an image file, got the folder"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg", "a"])
def test_text_named_as_an_image(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is not an image\n" * 10)
    with pytest.raises(ValueError, match="is in no format that can be read; convert it"):
        read(tmp_path / name)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # it says so, too
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save(np.random.default_rng(0).integers(0, 256, (100, 100, 3)).astype(np.uint8), path)
    whole = path.read_bytes()
    for keep in (len(whole) // 2, 40, 0):
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError, match=r"truncated or damaged|no format that can be read"):
            read(path)
    # A PIL image decodes late: the same error comes from the image that the caller opened.
    path.write_bytes(whole[: len(whole) // 2])
    try:
        opened = Image.open(path)
    except OSError:
        return
    with opened, pytest.raises(ValueError, match="cannot be decoded"):
        read(opened)


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(pattern("u1"), tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"more pixels than Pillow trusts.*MAX_IMAGE_PIXELS"):
        read(tmp_path / "a.png")


def test_decompression_bomb_of_tifffile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", pattern("f8"))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    read(tmp_path / "a.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"more pixels than Pillow trusts.*MAX_IMAGE_PIXELS"):
        read(tmp_path / "a.tif")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save(pattern("u1"), path)
    path.chmod(0)
    with pytest.raises(PermissionError, match="cannot open the image file"):
        read(path)


# ---- saving -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "channels", "suffix"),
    [
        ("u1", None, ".png"),
        ("u1", 3, ".png"),
        ("u1", 4, ".png"),
        ("u1", 1, ".bmp"),
        ("u1", 3, ".TIFF"),
        ("u2", None, ".png"),
        (">u2", None, ".tif"),
        ("i4", None, ".tif"),
        ("f4", None, ".tif"),
        ("f8", None, ".tif"),
    ],
)
def test_saved_pixels_are_read_again(
    tmp_path: Path, dtype: str, channels: int | None, suffix: str
) -> None:
    array = pattern(dtype, channels)
    tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="))[None])
    if channels is not None:
        tensor = tensor.movedim(-1, 1)
    for number, image in enumerate((array, tensor)):
        path = tmp_path / f"{number}{suffix}"
        save(image, path)
        with Image.open(path) as opened:
            np.testing.assert_array_equal(
                np.asarray(opened).squeeze(),
                array.astype("f4" if dtype == "f8" else dtype).squeeze(),
            )


def test_float_images_in_the_unit_range_can_be_saved_as_8_bit(tmp_path: Path) -> None:
    for image in (pattern("f4", 3), pattern("f4"), torch.rand(3, HEIGHT, WIDTH).bfloat16()):
        save(image, tmp_path / "a.png")
        values = read(tmp_path / "a.png").values[0]
        wanted = as_array(image)
        wanted = wanted if isinstance(image, torch.Tensor) else np.moveaxis(wanted, -1, 0)
        if image.ndim == 2:
            values, wanted = values[0], image
        np.testing.assert_array_equal(values.numpy(), np.rint(wanted * np.float32(255)))
    with pytest.raises(ValueError, match=r"PNG cannot hold floats.*save it as \.tif"):
        save(pattern("f4") * 300, tmp_path / "b.png")
    with pytest.raises(ValueError, match="JPEG cannot hold floats"):
        save(Image.fromarray(pattern("f4") * 300), tmp_path / "b.jpg")


def test_save_overwrites_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    save(pattern("u1", seed=1), path)
    save(Image.fromarray(pattern("u1", seed=2)), str(path))
    np.testing.assert_array_equal(as_array(read(path).values[0, 0]), pattern("u1", seed=2))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_save_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    save(pattern("u1", seed=1), tmp_path / "real" / "a.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "real" / "a.png")
    save(pattern("u1", seed=2), tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    np.testing.assert_array_equal(
        as_array(read(tmp_path / "real" / "a.png").values[0, 0]), pattern("u1", seed=2)
    )


@pytest.mark.parametrize("existing", [False, True])
def test_disk_full_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    path = tmp_path / "a.png"
    if existing:
        save(pattern("u1"), path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(self: Image.Image, file: object, *args: object, **kwargs: object) -> None:
        file.write(b"\x89PNG half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match=r"No space left.*no file was changed, check space") as caught:
        save(pattern("u1", seed=2), path)
    assert caught.value.errno == errno.ENOSPC
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_an_interrupt_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(pattern("u1"), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_save_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    grey, deep = pattern("u1"), pattern("u2")
    with pytest.raises(FileNotFoundError, match=r"the folder .*missing does not exist; create"):
        save(grey, tmp_path / "missing" / "a.png")
    with pytest.raises(ValueError, match=r"expected a suffix such as .png.*got '.xyz'"):
        save(grey, tmp_path / "a.xyz")
    with pytest.raises(ValueError, match="got ''"):
        save(grey, tmp_path / "a")
    with pytest.raises(ValueError, match=r"JPEG cannot hold 16-bit grey; save it as .png or .tif"):
        save(deep, tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"PNG cannot hold 32-bit grey; save it as .tif"):
        save(pattern("i4"), tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"WEBP cannot hold colour of uint16.*save it as .tif"):
        save(pattern("u2", 3), tmp_path / "a.webp")
    with pytest.raises(ValueError, match="cannot write mode RGBA as Palm; convert the image"):
        save(pattern("u1", 4), tmp_path / "a.palm")
    with pytest.raises(ValueError, match="save the images of a batch one by one"):
        save(torch.rand(2, 3, HEIGHT, WIDTH), tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"got shape \(12, 20, 5\)"):
        save(np.zeros((12, 20, 5), dtype=np.uint8), tmp_path / "a.png")
    with pytest.raises(TypeError, match="got int64; cast"):
        save(pattern("i8"), tmp_path / "a.png")
    with pytest.raises(TypeError, match=r"expected a PIL image.*got list"):
        save([1, 2], tmp_path / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        save(grey, tmp_path / "folder.png")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]

"""The size of an image by the head of its file."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from umfuse.files import measuring

WIDTH, HEIGHT = 33, 21


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".pgm", ".bmp"])
def test_the_head_of_a_file_says_its_size(suffix, tmp_path):
    path = tmp_path / f"image{suffix}"
    Image.new("L", (WIDTH, HEIGHT)).save(path)
    assert measuring.size(path) == (HEIGHT, WIDTH)


def test_the_head_is_enough(tmp_path):
    path = tmp_path / "image.png"
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:60])
    assert measuring.size(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "byteorder": ">"}])
def test_tiffs_that_pillow_does_not_open(options, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((HEIGHT, WIDTH, 3), np.float32), photometric="rgb", **options)
    assert measuring.size(path) == (HEIGHT, WIDTH)


def test_heic(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "image.heic"
    heif.from_pillow(Image.new("RGB", (64, 48))).save(path)
    assert measuring.size(path) == (48, 64)


@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0", b"MM\0+", b"\0\0\0\x14ftypheic"])
def test_what_is_no_image_has_no_size(content, tmp_path):
    path = tmp_path / "image"
    path.write_bytes(content)
    assert measuring.size(path) is None


def test_more_pixels_than_pillow_trusts(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.new("1", (200, 200)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30_000)
    assert measuring.size(path) == (200, 200)  # and no warning, which the tests make an error
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(Image.DecompressionBombError):
        measuring.size(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        measuring.size(tmp_path / "none.png")

"""What bfloat16 costs, and where it is not used."""

import numpy as np
import pytest
import torch
from PIL import Image

import umfuse
from umfuse import cli, demo, devices


@pytest.fixture(scope="module")
def pairs():
    """Infrared, visible and the transform between them, by day and by night."""
    return [demo.pair(night=night) for night in (False, True)]


def fused(pair, precision, visible=None):
    model = umfuse.load(device="cpu", precision=precision)
    visible = pair.visible if visible is None else visible
    return umfuse.fuse(pair.infrared, visible, registration=pair.transform, weights=model).luma


def test_bfloat16_is_within_a_grey_level(pairs):
    for pair in pairs:
        apart = np.abs(fused(pair, "bfloat16") - fused(pair, "float32")) * 255
        assert apart.max() > 0
        assert (apart <= 1).mean() >= 0.999


@pytest.fixture
def anywhere(monkeypatch):
    """The device has instructions for bfloat16."""
    monkeypatch.setattr(devices, "has_bf16", lambda kind: True)


def test_images_of_more_than_8_bits_are_fused_in_float32(pairs, anywhere):
    pair = pairs[0]
    bytes_ = np.asarray(Image.open(pair.visible))
    exact = {
        dtype: fused(pair, "float32", (bytes_ / np.float32(255) * scale).astype(dtype))
        for dtype, scale in (("uint16", 65535), ("float32", 1))
    }
    for dtype, scale in (("uint16", 65535), ("float32", 1)):
        image = (bytes_ / np.float32(255) * scale).astype(dtype)
        np.testing.assert_array_equal(fused(pair, "auto", image), exact[dtype])
        assert (fused(pair, "bfloat16", image) != exact[dtype]).any()
    assert (fused(pair, "auto") != fused(pair, "float32")).any()


def test_16_bit_grey_is_computed_in_float32(pairs, anywhere, tmp_path):
    pair, file = pairs[0], tmp_path / "rig.npz"
    expected = np.rint(fused(pair, "float32") * 65535).astype(np.uint16)
    umfuse.Registration.from_transform(pair.transform, (256, 320), (480, 640)).save(file)
    words = ["fuse", pair.infrared, pair.visible, "--registration", file, "--device", "cpu"]
    words += ["-o", tmp_path / "fused.png"]
    assert cli.main([*map(str, words), "--grey16"]) == 0
    written = np.asarray(Image.open(tmp_path / "fused.png"))
    np.testing.assert_array_equal(written, expected)
    assert len(np.unique(written)) > 5000


def test_autocast_does_as_precision_says(anywhere):
    model = umfuse.load(device="cpu", cpstn=False)
    for precision, deep, expected in (
        *(("auto", False, True), ("auto", True, False)),
        *(("bfloat16", True, True), ("float32", False, False)),
    ):
        model.precision = precision
        with model.autocast(deep=deep):
            assert torch.is_autocast_enabled("cpu") == expected

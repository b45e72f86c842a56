"""Large images go in parts: the same result, in less memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import umfuse
from umfuse import images, tiles
from umfuse.registration import places

SIZE, INFRARED = (203, 331), (96, 128)


def shapes(height, width, seed):
    y, x = np.mgrid[:height, :width] / (7 + seed)
    return 0.5 + 0.25 * np.sin(x) * np.cos(y) + 0.2 * np.cos((x + 2 * y) / 3)


@pytest.fixture(scope="module")
def model():
    model = umfuse.load(device="cpu")
    model.precision = "float32"
    return model


@pytest.fixture
def pair():
    infrared = np.ma.array(shapes(*INFRARED, 0).astype(np.float32), mask=False)
    infrared[20:40, 50:80] = np.ma.masked
    red, green = shapes(*SIZE, 1), shapes(*SIZE, 2)
    visible = np.stack((red, green, (red + green) / 2), -1).astype(np.float32)
    return infrared, visible


@pytest.fixture
def registration():
    """Bent, and with infrared on a part of the visible image only."""
    y, x = np.mgrid[:9, :12]
    return umfuse.Registration(
        transform=np.array([[0.5, 0.02, -12.0], [0.01, 0.55, 3.0], [1e-5, 2e-5, 1.0]]),
        field=np.stack((np.sin(x) * 2, np.cos(y) * 3), -1).astype(np.float32),
        infrared_size=INFRARED,
        visible_size=SIZE,
    )


def small_parts(monkeypatch):
    monkeypatch.setattr(tiles, "BAND", 5000)
    monkeypatch.setattr(tiles, "TILE", 64)
    assert len(list(tiles.bands(SIZE))) > 5
    assert len(list(tiles.squares(SIZE))) > 5


def test_parts_cover_an_image_once(monkeypatch):
    monkeypatch.setattr(tiles, "BAND", 100)
    monkeypatch.setattr(tiles, "TILE", 16)
    for size in ((8, 8), (40, 33), (3, 250), (16, 32)):
        seen = torch.zeros(size)
        for rows in tiles.bands(size):
            seen[rows] += 1
        assert (seen == 1).all()
        for window in tiles.squares(size):
            seen[window] += 1
        assert (seen == 2).all()


def test_parts_give_what_the_whole_image_gives(model, pair, registration, monkeypatch):
    whole = umfuse.fuse(*pair, registration=registration, weights=model)
    small_parts(monkeypatch)
    parts = umfuse.fuse(*pair, registration=registration, weights=model)
    assert np.ptp(whole.luma) > 0.3
    np.testing.assert_allclose(parts.luma, whole.luma, atol=1e-5, rtol=0)
    np.testing.assert_allclose(parts.image, whole.image, atol=1e-5, rtol=0)


def test_parts_give_what_is_differentiated(model, pair, registration, monkeypatch):
    """The way of the gradients is not tiled at all."""
    small_parts(monkeypatch)
    infrared, visible = (images.read(one, range="minmax") for one in pair)
    given = infrared.luma, visible.luma, registration.tensor()
    whole = model.fuse(*given, missing=infrared.missing)
    assert whole.requires_grad
    with torch.no_grad():
        parts = model.fuse_content(infrared.luma, visible.luma, places(registration), None)
        torch.testing.assert_close(parts, model.fuse(*given).detach(), atol=1e-5, rtol=0)
        parts = model.fuse(*given, missing=infrared.missing)
        torch.testing.assert_close(parts, whole.detach(), atol=1e-5, rtol=0)
        assert (model.fuse(*given) - parts).abs().max() > 0.01  # what is missing must show


def test_a_registered_image_is_the_same_in_parts(pair, registration, monkeypatch):
    infrared = images.read(pair[0], name="infrared", range="minmax")
    object.__setattr__(registration, "_picture", infrared)

    def everything():
        found = registration
        nearest = found.apply(np.arange(96 * 128, dtype=np.uint16).reshape(96, 128), "nearest")
        return (
            *(found.coordinates, found.displacement, found.valid_mask, found.apply(pair[0])),
            *(nearest, found.apply(shapes(*INFRARED, 3))),
        )

    whole = everything()
    small_parts(monkeypatch)
    for one, other in zip(whole, everything(), strict=True):
        np.testing.assert_array_equal(np.ma.getmaskarray(one), np.ma.getmaskarray(other))
        np.testing.assert_array_equal(one, other)
    assert 0.2 < whole[2].mean() < 0.9


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("uint8", "array"), (">u2", "array"), ("float32", "array"), ("uint16", "tensor")],
)
def test_pixels_are_given_back_the_same_in_parts(dtype, kind, monkeypatch):
    planes = np.stack([shapes(*SIZE, seed) for seed in range(4)], -1)
    planes = planes if dtype == "float32" else planes * 250
    image = planes.astype(dtype)
    image = torch.from_numpy(image).movedim(-1, 0) if kind == "tensor" else image
    small_parts(monkeypatch)
    picture = images.read(image, range="dtype")
    for back in (picture.give_back(picture.planes), picture.fused(picture.luma)):
        assert back.dtype == image.dtype
        np.testing.assert_allclose(np.asarray(back), np.asarray(image), atol=1e-6, rtol=0)


PEAK = """
import sys, resource
import numpy as np
import umfuse
model = umfuse.load(device="cpu")
infrared = (np.random.default_rng(0).random((64, 80)) * 255).astype(np.uint8)
def run(height, width):
    visible = np.zeros((height, width, 3), np.uint8)
    visible[...] = np.arange(width)[:, None] % 251
    placed = np.diag([80 / width, 64 / height, 1])
    umfuse.fuse(infrared, visible, registration=placed, weights=model)
run(512, 1024)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(2000, 3000)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 6e6)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in KiB there")
def test_a_pixel_takes_few_bytes():
    """Of the visible image: 12 as float32, 4 as luma, 12 of fusion, 6 as bytes, and a band."""
    # Without settings that keep memory from going back to the system.
    environment = {key: v for key, v in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert float(done.stdout) < 60

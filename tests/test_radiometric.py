"""Radiometric JPEGs: FLIR's through flyr, which most tests replace, and DJI's."""

import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import thermograms
from PIL import Image
from thermograms import jpeg

import umfuse
from umfuse import cli, images
from umfuse.files import radiometric

DATA = os.environ.get("UMFUSE_DATA")
real = pytest.mark.skipif(DATA is None, reason="needs UMFUSE_DATA")


@pytest.fixture
def flir_file(tmp_path):
    return jpeg(tmp_path / "FLIR0001.jpg", thermograms.FLIR)


@pytest.fixture
def camera(scene, monkeypatch):
    """A fake flyr that knows one file, of the rendered street."""
    file = thermograms.street(scene)
    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=lambda path: file))
    return file


@pytest.fixture
def without_flyr(monkeypatch):
    monkeypatch.setitem(sys.modules, "flyr", None)


def test_the_placing_by_hand():
    """A photo of 2000 x 1500 with a thermal image of 100 x 75 in its middle fifth."""
    placing = radiometric.factory_placing((75, 100), (1500, 2000), 5.0, (0.0, 0.0))
    np.testing.assert_allclose(placing @ [999.5, 749.5, 1], [49.5, 37, 1])
    # The corner of the thermal image, half a pixel before its first one, is at 800 of the photo.
    np.testing.assert_allclose(placing @ [799.5, 599.5, 1], [-0.5, -0.5, 1])
    moved = radiometric.factory_placing((75, 100), (1500, 2000), 5.0, (40.0, -20.0))
    np.testing.assert_allclose(moved @ [1039.5, 729.5, 1], [49.5, 37, 1])


def test_one_file_is_a_pair(flir_file, camera, model):
    fusion = umfuse.fuse(flir_file, weights=model)
    registration = fusion.registration
    assert registration.confidence > 0.5
    assert fusion.image.size == camera.optical.shape[1::-1]
    assert registration.infrared.mode == "F"
    values = np.asarray(registration.infrared)
    assert abs(np.median(values) - np.median(camera.celsius)) < 3
    points = np.array([[100.0, 80.0], [160.0, 120.0], [200.0, 160.0]])
    there = np.c_[points, np.ones(3)] @ camera.placing.T
    assert np.abs(registration.map_points(points) - there[:, :2]).max() < 1
    again = umfuse.register(flir_file, weights=model)
    np.testing.assert_array_equal(again.transform, registration.transform)


def test_what_is_known_of_the_pair_goes_before_the_camera(flir_file, camera, model):
    wrong = camera.placing @ [[1, 0, 60], [0, 1, 0], [0, 0, 1]]
    camera.pip_info.offset_x -= 60
    kept = umfuse.register(flir_file, weights=model, initial=wrong, min_confidence=1)
    np.testing.assert_allclose(kept.transform, wrong)
    found = umfuse.register(flir_file, weights=model, fov=thermograms.RATIO)
    assert found.method in ("search", "dense")


def test_a_dark_photo_leaves_the_pair_where_the_camera_places_it(flir_file, camera, model, caplog):
    rng = np.random.default_rng(0)
    camera.optical = rng.integers(0, 3, camera.optical.shape, dtype=np.uint8)
    fusion = umfuse.fuse(flir_file, weights=model)
    assert fusion.registration.method == "given"
    np.testing.assert_allclose(fusion.registration.transform, camera.placing)
    assert "doubtful" in caplog.text
    seen = umfuse.fuse(flir_file, weights=model, align=False)
    assert seen.registration is None
    np.testing.assert_array_equal(np.asarray(seen.image), np.asarray(fusion.image))


def test_no_photo_and_what_to_do_then(flir_file, camera, scene, model):
    camera.optical = camera.pip_info = None
    with pytest.raises(ValueError, match=r"FLIR0001.jpg holds temperatures, but no photo: pass"):
        umfuse.fuse(flir_file, weights=model)
    found = umfuse.register(flir_file, scene.visible, weights=model)
    assert found.confidence > 0.5
    assert found.infrared.mode == "F"


def test_beside_a_visible_image_the_temperatures_are_used(flir_file, camera, scene, model, caplog):
    caplog.set_level(logging.INFO)
    picture = images.read(flir_file, name="infrared")
    assert "read in degrees Celsius" in caplog.text
    np.testing.assert_allclose(picture.values[0, 0].numpy(), camera.celsius, rtol=1e-6)
    assert picture.luma.std() > 0.1  # stretched, not the 0 to 1 of floats


def test_as_the_visible_image_its_photo_is_used(flir_file, camera, caplog):
    picture = images.read(flir_file, name="visible")
    assert picture.size == camera.optical.shape[:2]
    assert "the photo inside is used" in caplog.text
    camera.optical = None
    assert images.read(flir_file, name="visible").size == (60, 80)
    assert "not a photo inside" in caplog.text


def test_without_flyr_nothing_is_silent(flir_file, without_flyr, caplog, scene):
    with pytest.raises(ValueError, match=r"need flyr: pip install 'umfuse\[flir\]'"):
        umfuse.fuse(flir_file)
    picture = images.read(flir_file, name="infrared")
    assert picture.size == (60, 80)
    assert "holds temperatures, which need flyr (pip install 'umfuse[flir]')" in caplog.text


def test_a_file_that_flyr_cannot_read(flir_file, scene, monkeypatch):
    def unpack(path):
        raise KeyError("no thermal record")

    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=unpack))
    with pytest.raises(ValueError, match="flyr cannot read"):
        umfuse.fuse(flir_file, scene.visible)


def test_a_damaged_file_of_flir_through_flyr_itself(flir_file):
    pytest.importorskip("flyr")
    with pytest.raises(ValueError, match="flyr cannot read"):
        umfuse.fuse(flir_file)


def test_dji_says_how_to_get_temperatures(tmp_path, caplog):
    tags = Image.Exif()
    tags[0x010F] = "DJI"
    exif = tags.tobytes()
    path = jpeg(tmp_path / "DJI_0001_T.JPG", (0xE1, exif), (0xE3, bytes(60000)), (0xE3, bytes(99)))
    assert images.read(path, name="infrared").size == (60, 80)
    assert "dji_irp" in caplog.text
    caplog.clear()
    assert images.read(path, name="visible").size == (60, 80)
    photo = jpeg(tmp_path / "DJI_0001_W.JPG", (0xE1, exif))
    assert images.read(photo, name="infrared").size == (60, 80)
    assert not caplog.records


def test_what_the_dji_message_advises_helps(tmp_path, scene, model):
    """Tenths of degrees as dji_irp writes them, read as docs/cameras.md says."""
    infrared = np.asarray(scene.infrared).astype(np.float32) / 100 - 273.15
    (infrared * 10).round().astype(np.int16).tofile(tmp_path / "x.raw")
    degrees = np.fromfile(tmp_path / "x.raw", np.int16).reshape(infrared.shape) / 10
    found = umfuse.register(degrees, scene.visible, ir_range="percentile", weights=model)
    assert found.confidence > 0.5


def test_one_image_that_is_no_pair(tmp_path, scene, flir_file):
    images.save(scene.visible, tmp_path / "plain.jpg")
    with pytest.raises(ValueError, match="which is no FLIR radiometric JPEG: pass the visible"):
        umfuse.fuse(tmp_path / "plain.jpg")
    with pytest.raises(TypeError, match="only the path of a FLIR radiometric JPEG"):
        umfuse.register(scene.infrared)
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg"):
        umfuse.register(tmp_path / "missing.jpg")


def test_the_command_takes_one_file_and_folders_of_them(flir_file, camera, tmp_path, capsys):
    out = tmp_path / "out.png"
    assert cli.main(["fuse", str(flir_file), "-o", str(out), "--sheet", str(out) + ".png"]) == 0
    with Image.open(out) as fused:
        assert fused.size == camera.optical.shape[1::-1]
    (tmp_path / "many").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "many" / name).write_bytes(flir_file.read_bytes())
    jpeg(tmp_path / "many/c.jpg")
    for command, suffix in (("fuse", "png"), ("register", "tif")):
        folder = tmp_path / command
        assert cli.main([command, str(tmp_path / "many"), "-o", str(folder)]) == 1
        names = ["a." + suffix, "b." + suffix, "registrations.csv"]
        assert sorted(path.name for path in folder.iterdir()) == names
    assert "c.jpg has no partner" in capsys.readouterr().err


@pytest.mark.data
@real
@pytest.mark.parametrize(
    ("name", "thermal", "photo"),
    [
        ("FLIR8565", (120, 160), (1536, 2048)),
        ("FLIR8589", (120, 160), (1536, 2048)),
        ("FLIR8613", (120, 160), (1536, 2048)),
        ("FLIR_AX8", (60, 80), (480, 640)),
    ],
)
def test_real_files_of_flir(name, thermal, photo, model):
    pytest.importorskip("flyr")
    path = Path(DATA) / "flir_rjpeg" / f"{name}.jpg"
    found = umfuse.register(path, weights=model)
    placing = radiometric.thermogram(path, "infrared").placing
    assert (found.infrared_size, found.visible_size) == (thermal, photo)
    assert 15 < np.asarray(found.infrared)[found.valid_mask].mean() < 35
    middle = (np.array([thermal[1], thermal[0]]) - 1) / 2
    there = found.inverse_map_points(middle[None])[0]
    away = np.linalg.norm(there - np.linalg.solve(placing, [*middle, 1])[:2])
    assert away < 0.03 * photo[1]  # parallax of a wall a metre away
    if name == "FLIR_AX8":  # the others show photos of the night, black
        assert found.confidence > 0.9


@pytest.mark.data
@real
def test_a_real_file_without_photo(model, tmp_path, scene):
    pytest.importorskip("flyr")
    path = Path(DATA) / "flir_rjpeg/FLIR_E40.jpg"
    with pytest.raises(ValueError, match="but no photo: pass the visible image too"):
        umfuse.fuse(path, weights=model)
    fusion = umfuse.fuse(path, scene.visible, weights=model, on_failure="return")
    assert fusion.image.shape == scene.visible.shape

"""Files that are cut short, or changed: read as they were, or refused with a clear message."""

from __future__ import annotations

import functools
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import files
from PIL import Image

from umfuse import Registration, images
from umfuse.evaluate.dataset import read_displacement, write_displacement
from umfuse.images import Picture
from umfuse.train.grids import read_absolute_grid

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

TENTHS = range(10)
DATA = os.environ.get("UMFUSE_DATA")
SOME = 8  # of the kinds of TIFF, whose number is great: every eighth

# Pillow warns of what it then raises an error about, or reads well.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@functools.cache
def kinds() -> list[files.Kind]:
    """Kinds of image files: all but most of those of TIFF."""
    for module in files.MODULES:
        pytest.importorskip(module)
    every = list(files.kinds())
    tiffs = [kind for kind in every if kind.format == "TIFF"]
    return [kind for kind in every if kind.format != "TIFF"] + tiffs[::SOME]


@functools.cache
def written(number: int) -> bytes:
    return kinds()[number].write()[0]


def outcome(path: Path, content: bytes, band: int | None = None) -> Picture | Exception:
    """What is read of a file of these bytes, or the documented error."""
    path.write_bytes(content)
    try:
        return images.read(path, name="visible", range="minmax", band=band)
    except (TypeError, ValueError, OSError) as error:
        refusal = error
    assert "visible: " in str(refusal)
    return refusal


def test_files_that_are_cut_short(tmp_path: Path) -> None:
    """Of every kind of image, at every tenth of its length."""
    refused = 0
    for number, kind in enumerate(kinds()):
        content = written(number)
        whole = outcome(tmp_path / "whole", content, kind.band)
        for tenth in TENTHS:
            found = outcome(tmp_path / "cut", content[: len(content) * tenth // 10], kind.band)
            if isinstance(found, Picture):  # what is missing is not of the pixels
                assert isinstance(whole, Picture)
                assert torch.equal(found.planes, whole.planes), (kind, tenth)
            refused += not isinstance(found, Picture)
    assert refused > 0.9 * len(kinds()) * len(TENTHS)


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="needs UMFUSE_DATA")
@pytest.mark.parametrize("name", ["infrared", "visible"])
def test_radiometric_files_that_are_cut_short(name: str, tmp_path: Path) -> None:
    pytest.importorskip("flyr")
    path, whole = tmp_path / "a.jpg", Path(str(DATA)) / "flir_rjpeg" / "FLIR_E40.jpg"
    content, expected = whole.read_bytes(), images.read(whole, name=name)
    refusals: list[str] = []
    for tenth in TENTHS:
        path.write_bytes(content[: len(content) * tenth // 10])
        try:
            found = images.read(path, name=name)
        except ValueError as error:
            refusals.append(str(error))
        else:  # what is missing is not of the pixels
            assert torch.equal(found.values, expected.values)
    assert len(refusals) > 5
    assert all(refusal.startswith(f"{name}: ") for refusal in refusals)


# ---- changed bytes ----------------------------------------------------------------------


def changes(*kinds: str) -> st.SearchStrategy[list[tuple[str, float, int]]]:
    where = st.floats(0, 1)  # as a share of the length
    value = st.sampled_from([0, 1, 2, 7, 8, 127, 128, 255])
    return st.lists(st.tuples(st.sampled_from(kinds), where, value), min_size=1, max_size=4)


CHANGES = changes("set", "set", "insert", "remove", "repeat", "number")
EARLY = st.sampled_from([0.05, 0.3, 1.0])  # headers say more than pixels


def changed(content: bytes, changes: list[tuple[str, float, int]], early: float) -> bytes:
    for what, share, value in changes:
        at = int(share * early * len(content))
        before, after = content[:at], content[at:]
        content = {
            "set": before + bytes([value]) + after[1:],
            "insert": before + bytes([value]) * (1 + value % 9) + after,
            "remove": before + after[1 + value % 9 :],
            "repeat": before + before[-64:] + after,
            "number": before + struct.pack("<I", 2**32 - 1 - value) + after[4:],
        }[what]
    return content


def test_image_files_that_are_changed(tmp_path) -> None:
    are_read: list[bool] = []

    @given(st.integers(0, 10**6), CHANGES, EARLY)
    @settings(max_examples=1200)
    def look(number, changes, early) -> None:
        number %= len(kinds())
        content = changed(written(number), changes, early)
        found = outcome(tmp_path / "changed", content, kinds()[number].band)
        are_read.append(isinstance(found, Picture))
        if isinstance(found, Picture):
            assert found.values.isfinite().all()
            assert found.luma.isfinite().all()
            assert 0 <= found.luma.min() <= found.luma.max() <= 1 + 1e-6

    look()
    assert 0.1 < np.mean(are_read) < 0.9


def coordinates(path: Path) -> np.ndarray:
    """Of a registration, if they are not too many."""
    found = Registration.load(path)
    assert np.isfinite(found.transform).all()
    return found.coordinates if math.prod(found.visible_size) < 10**6 else found.transform


def restore(path: Path) -> np.ndarray:
    """The truth of a deformation."""
    return read_displacement(path)[0].numpy()


def grid(path: Path) -> np.ndarray:
    """The truth of a deformation, as others publish it."""
    return read_absolute_grid(path).numpy()


def write(path: Path, read: Callable[[Path], np.ndarray]) -> None:
    """Writes a small file of what is read."""
    if read is coordinates:
        transform = np.array([[0.7, 0.01, 9], [0, 0.7, 4], [0, 0, 1]])
        Registration.from_transform(transform, (80, 100), (90, 120)).save(path)
    elif read is restore:
        write_displacement(path, torch.ones(1, 2, 9, 12), torch.ones(1, 1, 9, 12, dtype=torch.bool))
    else:
        x, y = np.meshgrid(np.linspace(-1, 1, 12), np.linspace(-1, 1, 9))
        np.savez_compressed(path, grid=np.stack((x, y), -1))


ARRAYS = pytest.mark.parametrize("read", [coordinates, restore, grid])


def refused(path: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray | None:
    """The numbers of a file, or None where it is refused."""
    try:
        return read(path)
    except ValueError as error:
        refusal = str(error)
    assert path.name in refusal
    assert len(refusal) > len(str(path)) + 20
    return None


@ARRAYS
def test_files_of_arrays_that_are_changed(tmp_path, read) -> None:
    """They hold check sums: what is read is what was saved."""
    path = tmp_path / "a.npz"
    write(path, read)
    content, expected = path.read_bytes(), read(path)
    are_read: list[bool] = []

    @given(CHANGES, EARLY, st.floats(0, 1))
    @settings(max_examples=300)
    def look(changes, early, cut) -> None:
        path.write_bytes(changed(content[: int(len(content) * (0.2 + cut))], changes, early))
        found = refused(path, read)
        are_read.append(found is not None)
        if found is not None:
            np.testing.assert_array_equal(found, expected)

    look()
    assert np.mean(are_read) < 0.2


@ARRAYS
def test_files_of_arrays_whose_numbers_are_changed(tmp_path, read) -> None:
    """With the check sums that then are right."""
    path, are_read = tmp_path / "a.npz", list[bool]()
    write(path, read)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    @given(st.sampled_from(sorted(members)), changes("set", "number"), st.booleans())
    @settings(max_examples=600)
    def look(name, changes, header) -> None:
        start = 0 if header else 128
        body = members[name][:start] + changed(members[name][start:], changes, 1.0)
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in {**members, name: body}.items():
                archive.writestr(member, content)
        found = refused(path, read)
        are_read.append(found is not None)
        assert found is None or np.isfinite(found).all()

    look()
    assert 0.1 < np.mean(are_read) < 0.9, np.mean(are_read)


# ---- what is larger than it looks -------------------------------------------------------


def bomb(width: int, height: int, kind: int, depth: int) -> bytes:
    """A PNG of few bytes and many pixels, all of them 0."""
    row = 1 + width * depth * {0: 1, 2: 3, 4: 2, 6: 4}[kind] // 8
    squeeze = zlib.compressobj(9)
    body = b"".join(squeeze.compress(bytes(row)) for _ in range(height)) + squeeze.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    )


@pytest.mark.parametrize(("kind", "depth"), [(0, 8), (0, 16), (2, 8), (2, 16), (4, 16), (6, 16)])
def test_pngs_that_are_larger_than_they_look(tmp_path, monkeypatch, kind, depth) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bomb(3000, 1000, kind, depth))
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    with pytest.raises(ValueError, match="more pixels than Pillow trusts"):
        images.read(path)


def test_tiffs_that_are_larger_than_they_look(tmp_path, monkeypatch) -> None:
    """Of few pixels, but of many channels that lie nowhere in the file."""
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "a.tif"
    array = np.zeros((64, 64, 3000), np.uint8)
    tifffile.imwrite(
        path, array, photometric="minisblack", planarconfig="contig", compression="zlib"
    )
    assert path.stat().st_size < 30_000
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    with pytest.raises(ValueError, match="more pixels than Pillow trusts"):
        images.read(path, band=0)


@pytest.mark.parametrize("letter", "2356")
@pytest.mark.parametrize(
    "size", [(10**9, 10**9), (2**32, 2**32), (2**62, 8), (0, 0), (10**300, 1), (2**63, 2)]
)
def test_sizes_that_no_pgm_has(tmp_path, size, letter) -> None:
    content = f"P{letter}\n{size[0]} {size[1]}\n65535\n".encode() + b"1 2 3 4 " * 50
    assert isinstance(outcome(tmp_path / "a.pgm", content), ValueError)

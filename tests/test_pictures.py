"""The pictures of README.md and the pages are what their command makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks import pictures
from PIL import Image

from umfuse import demo

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "docs" / "pictures"
NAMES = ["demo.webp", "flicker.gif", "sheet.webp"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of the pictures as the command makes them now."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures.main(["--out", str(folder)])
    return folder


def pixels(path, frame=0):
    with Image.open(path) as image:
        image.seek(frame)
        return np.asarray(image.convert("RGB"), dtype=float)


def panels(picture):
    """Infrared, visible, overlaid and fused: the lower parts, without the titles."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    places = [(top, left) for top in (0, height) for left in (0, width)]
    return [picture[y + 40 : y + height - 8, x + 24 : x + width - 24] for y, x in places]


def test_there_is_no_other_picture():
    assert sorted(path.name for path in COMMITTED.iterdir()) == NAMES
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text += "".join(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/*.md"))
    for name in NAMES:
        assert f"pictures/{name}" in text


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_picture_is_the_one_that_the_command_makes(made, name):
    before, now = pixels(COMMITTED / name), pixels(made / name)
    assert before.shape == now.shape
    assert np.abs(before - now).mean() < 4, "run: python -m benchmarks.pictures"
    assert (COMMITTED / name).stat().st_size < 400_000


def test_the_flicker_is_of_the_registered_and_the_visible_image(made):
    first, second = (pixels(made / "flicker.gif", frame) for frame in (0, 1))
    assert np.ptp(first, axis=2).max() < 30
    with Image.open(demo.pair().visible) as image:
        small = np.asarray(image.resize(second.shape[1::-1]), dtype=float)
    assert np.abs(second - small).mean() < 8


def test_panels_show_the_pair_the_ghosts_and_the_fused_image(made):
    picture = pixels(made / "demo.webp")
    infrared, visible, overlaid, fused = panels(picture)
    assert np.ptp(infrared, axis=2).max() < 30  # grey, but for the colour of the compression
    for panel in (visible, overlaid, fused):
        assert np.ptp(panel, axis=2).max() > 60
    with Image.open(demo.pair().visible) as image:
        small = np.asarray(image.resize((480, 360)), dtype=float)
    left, top = picture.shape[1] - 6 - 480, 30
    assert np.abs(picture[top : top + 360, left : left + 480] - small).mean() < 4

    # What is overlaid loses edges of the visible image that the fused one keeps.
    soft, sharp = (np.abs(np.diff(panel.mean(2), axis=1)).mean() for panel in (overlaid, fused))
    assert sharp > 1.3 * soft

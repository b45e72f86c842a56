"""The page of a folder run: worst first, whole names, pictures that are there, no network."""

from __future__ import annotations

import os
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest
from PIL import Image

from umfuse import cli, images
from umfuse.cli import page
from umfuse.cli.report import COLUMNS

NAMES = ["a", "<b>x & 'y' \"z\" 100%25 #1?\\\n.", "ünï"]
if sys.platform == "win32":  # where names are poorer
    NAMES[1] = "b & 'y' 100%25 #1"


class Reader(HTMLParser):
    """What a browser sees: titles, text of paragraphs, places of pictures, and every tag."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.titles, self.said, self.places, self.tags = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href"):
                self.places.append(Path(os.fsdecode(unquote_to_bytes(value))))

    def handle_data(self, text):
        if text.strip():
            {"h2": self.titles, "p": self.said}.get(self.tags[-1], []).append(text.strip())


def row(pair, confidence="", method="search", error=""):
    return dict.fromkeys(COLUMNS, "") | {
        **{"pair": pair, "confidence": confidence, "method": method},
        "error": error,
    }


def test_the_worst_come_first(tmp_path):
    rows = [
        *(row("good", "0.99"), row("given", method="given"), row("bad", "0.1", "resize")),
        *(row("plain", method=""), row("broken", method="", error="no <image>")),
        *(row("ok", "0.4"), row("", method="", error="x.png has no partner")),
    ]
    page.write(tmp_path / "page.html", rows, 0.3)
    seen = Reader(tmp_path / "page.html")
    assert seen.titles == ["broken", "bad", "ok", "good", "given", "plain"]
    text = " ".join(seen.said)
    assert "failed: no <image>" in text
    assert "failed: x.png has no partner" in text
    assert text.count("doubtful:") == 1
    assert text.index("doubtful:") < text.index("confidence 0.10")
    assert "7 pairs, 2 failed, 1 doubtful" in (tmp_path / "page.html").read_text()
    assert not seen.places
    page.write(tmp_path / "page.html", rows[:1], 0.3)
    assert "<h1>1 pair, 0 failed, 0 doubtful</h1>" in (tmp_path / "page.html").read_text()


@pytest.fixture
def folders(tmp_path, scene):
    for folder, image in (("ir", scene.infrared), ("vis", scene.visible)):
        (tmp_path / folder).mkdir()
        for name in NAMES:
            images.save(image, tmp_path / folder / f"{name}.png")
    (tmp_path / "ir/ünï.png").write_bytes(b"none")
    return tmp_path


def run(folders, *options):
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    code = cli.main([*arguments, "--html", str(folders / "my page/all.html"), *options])
    return code, Reader(folders / "my page/all.html")


def test_names_are_whole_and_pictures_are_where_the_page_looks(folders):
    code, seen = run(folders)
    assert code == 1
    assert seen.titles[0] == "ünï"
    assert sorted(seen.titles[1:]) == sorted(NAMES[:2])
    assert set(seen.tags) <= {
        *("html", "meta", "title", "style", "h1", "h2", "p", "section", "meter", "a", "img"),
    }
    assert len(seen.places) == 4  # a picture and a link to it, of each pair that went well
    for place in seen.places:
        assert not place.is_absolute()
        with Image.open(folders / "my page" / place) as picture:
            assert picture.format == "JPEG"
            assert picture.width > 900
    text = (folders / "my page/all.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert "//" not in text


def test_a_run_that_goes_on_keeps_what_was_shown(folders, scene):
    run(folders, "--no-align")
    before = {path: path.stat().st_mtime_ns for path in (folders / "my page").rglob("*.jpg")}
    images.save(scene.infrared, folders / "ir/ünï.png")
    code, seen = run(folders, "--no-align", "--resume")
    assert code == 0
    assert sorted(seen.titles) == sorted(NAMES)
    assert len(seen.places) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_page_takes_the_place_of_nothing_that_is_read_or_written(folders, capsys):
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    for taken, message in (
        (folders / "ir" / "a.png", "would take the place of an image"),
        (folders / "out" / "registrations.csv", "would be written to one file"),
    ):
        assert cli.main([*arguments, "--html", str(taken)]) == 2
        assert message in capsys.readouterr().err


def test_one_pair_has_no_page(folders, capsys):
    pair = [str(folders / folder / "a.png") for folder in ("ir", "vis")]
    assert cli.main(["fuse", *pair, "-o", str(folders / "f.png"), "--html", "p.html"]) == 2
    assert "--html is for folders" in capsys.readouterr().err


def test_flicker_shows_the_registered_and_the_visible_image(folders, scene, capsys):
    pair = [str(folders / folder / "a.png") for folder in ("ir", "vis")]
    arguments = ["register", *pair, "-o", str(folders / "r.png"), "--flicker"]
    assert cli.main([*arguments, "f.png"]) == 2
    assert "ends in .gif" in capsys.readouterr().err
    assert cli.main([*arguments, str(folders / "f.gif")]) == 0
    with Image.open(folders / "f.gif") as flicker, Image.open(folders / "r.png") as registered:
        first = np.asarray(flicker.convert("RGB"), dtype=float)
        flicker.seek(1)
        second = np.asarray(flicker.convert("RGB"), dtype=float)
        counts = np.asarray(registered, dtype=float)
    assert np.corrcoef(first.mean(2).ravel(), counts.ravel())[0, 1] > 0.95
    assert np.abs(second - scene.visible).mean() < 8

"""The pages: their Python runs, their commands parse, their figures come from commands.

Training blocks run for two steps: a number after ``steps=`` is replaced.
"""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import thermograms
import torch
from benchmarks import data, readme, scenes
from PIL import Image

import umfuse
from umfuse import cli, images
from umfuse.files import video

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a language, also those that stand indented in a list."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", text, re.M | re.S)
    return [textwrap.dedent(code) for _, code in found]


def with_code(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


# ---- code ----------------------------------------------------------------------------------------


@pytest.fixture
def names(tmp_path, monkeypatch):
    """The files that blocks read, in the folder where they run, and the names that they take."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    scene = scenes.render(0, (240, 320))
    for name in ("ir.tif", "new.tif"):
        images.save(scene.infrared, name)
    for name in ("vis.jpg", "new.jpg"):
        images.save(scene.visible, name)
    file = thermograms.street(scene)
    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=lambda path: file))
    thermograms.jpeg(Path("FLIR0123.jpg"), thermograms.FLIR)
    tenths = np.asarray(Image.fromarray(scene.infrared).resize((640, 512))) / 10 - 2731.5
    tenths.round().astype(np.int16).tofile("DJI_0001_T.raw")
    images.save(scene.visible, "DJI_0001_W.JPG")
    deep = scene.infrared.astype(np.uint16)
    for name, image, codec in (
        ("thermal.mkv", deep, "ffv1"),
        ("visible.mp4", scene.visible, "libx264"),
    ):
        with video.writing(Path(name), codec) as writer:
            for number in range(3):
                writer.write(video.Frame(number / 25, image))
    for folder, image in (("ir", scene.aligned_infrared), ("vis", scene.visible)):
        (Path("my-camera") / folder).mkdir(parents=True)
        for stem in range(6):
            images.save(image, Path("my-camera") / folder / f"{stem}.png")
    return {
        "np": np,
        "umfuse": umfuse,
        "ir": scene.infrared,
        "vis": scene.visible,
        "labels": (scene.infrared > scene.infrared.mean()).astype(np.uint8),
        "xy": np.array([[0.0, 0.0], [160.0, 120.0]]),
        "xy_visible": np.random.default_rng(0).uniform((20, 20), (300, 220), (60, 2)),
        "ir_batch": torch.cat([images.read(scene.infrared).luma] * 2),
        "vis_batch": torch.cat([images.read(scene.visible).rgb] * 2),
    }


@pytest.mark.slow
@pytest.mark.parametrize("page", with_code("python"), ids=lambda page: page.name)
def test_python_blocks_run_one_after_the_other(page, names):
    for number, block in enumerate(blocks(page, "python"), 1):
        code, training = re.subn(r"\bsteps=[\d_]+", "steps=2", block)
        assert training == len(re.findall(r"(?<!\w)fine_tune\(", block)), "give steps=..."
        exec(compile(code, f"<block {number} of {page.name}>", "exec"), names)


def test_readme_has_code_and_the_pages_have_tables():
    assert len(blocks(ROOT / "README.md", "python")) >= 4
    assert len(with_code("python")) > 8
    assert sum(len(tables(page)) for page in PAGES) > 8


def commands() -> list[str]:
    """Every `umfuse ...` of the pages, with lines that a backslash continues."""
    text = "\n".join("\n".join(blocks(page, "sh")) for page in PAGES)
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("umfuse ")]


@pytest.mark.parametrize("command", commands())
def test_commands_parse(command):
    cli._parser().parse_args(shlex.split(command, comments=True)[1:])


# ---- figures -------------------------------------------------------------------------------------


def test_readme_shows_the_figures_of_the_results_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.filled(text, RESULTS) == text, "run: python -m benchmarks.readme"


def test_a_figure_that_changes_on_the_results_page_changes_in_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    row = data.table_block(RESULTS, "large-tno").splitlines()[3]
    cells = row.split("|")
    cells[8] = " 123.4 "
    changed = readme.filled(text, RESULTS.replace(row, "|".join(cells)))
    assert changed.count("123.4") == 1
    assert changed.replace("123.4", row.split("|")[8].strip()) == text


def test_a_row_or_column_or_table_that_is_missing_is_named():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="'fusion-tno' has no 'Qabf'"):
        readme.filled(text, RESULTS.replace("| Qabf |", "| other |"))
    with pytest.raises(ValueError, match="no place for the table 'fusion'"):
        readme.filled(text.replace("<!-- fusion -->", ""), RESULTS)


def tables(page: Path) -> list[str]:
    """The tables of a page that no command writes."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<!-- [\w-]+ -->\n.*?<!-- end -->", "", text, flags=re.S)
    return re.findall(r"(?:^\|.*\n)+", text, re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_table_of_figures_is_written_by_a_command(page):
    for table in tables(page):
        rows = [row.split("|")[2:-1] for row in table.splitlines()[2:]]
        cells = [cell.strip(" *%") for row in rows for cell in row]
        figures = [cell for cell in cells if re.fullmatch(r"[\d.]*\d( px| s)?", cell)]
        assert len(figures) < len(cells) / 3, f"no command writes this table:\n{table}"

"""The commands of `benchmarks/` on a rendered data set; their figures come from real pairs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from umfuse import demo, metrics, warp

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SIZE, INFRARED_SIZE = (96, 128), (80, 100)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def eight_bit(counts: np.ndarray) -> np.ndarray:
    low, high = int(counts.min()), int(counts.max())
    return ((counts.astype(float) - low) / (high - low) * 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> tuple[Path, demo.Scene]:
    scene = demo.render(3, SIZE, infrared_size=INFRARED_SIZE)
    folder = tmp_path_factory.mktemp("data") / "test"
    for name in ("roadscene", "tno", "msrs_gray"):
        write(folder / name / "ir" / "one.png", eight_bit(scene.aligned_infrared))
        write(folder / name / "vis" / "one.png", scene.visible)
    write(folder / "roadscene" / "ir_raw" / "one.png", eight_bit(scene.infrared))
    large = Image.fromarray(scene.visible).resize((2 * SIZE[1], 2 * SIZE[0]))
    write(folder / "roadscene" / "vis_hr" / "one.png", np.asarray(large))
    truth = {"one": {"H": scene.transform.tolist()}}
    (folder / "roadscene" / "homography.json").write_text(json.dumps(truth))
    return folder.parent, scene


def rows(data: Path, *command: str) -> dict[tuple[str, str], list[str]]:
    """Runs a benchmark and returns the cells of its table by case and row."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "UMFUSE_DATA": str(data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table, case = {}, ""
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        case = cells[0] or case
        table[case, cells[1]] = cells[2:]
    return table


def test_registration_measures_the_raw_pair_against_its_homography(scene):
    data, rendered = scene
    table = rows(data, "benchmarks.registration", "--only", "raw")
    plain = warp.resize_transform(SIZE, INFRARED_SIZE)
    expected = metrics.grid_error(plain, torch.from_numpy(rendered.transform), SIZE).item()
    case = "test/roadscene raw, grid (1)"
    assert float(table[case, "input"][0]) == pytest.approx(expected, rel=0.01)
    assert float(table[case, "search"][0]) < 0.5 * expected


def test_registration_measures_a_synthetic_displacement(scene):
    table = rows(scene[0], "benchmarks.registration", "--only", "tno 4")
    # The mean is that of the whole frame, the error that of its valid part.
    assert 2.5 < float(table["test/tno 4 px (1)", "input"][0]) < 5
    assert {stage for _, stage in table} >= {"input", "search", "pipeline"}


def test_fusion_prints_every_method(scene):
    table = rows(scene[0], "benchmarks.fusion", "--aligned")
    for name in ("test/tno (1)", "test/roadscene (1)", "test/msrs_gray (1)"):
        for method in ("average", "saliency mean", "maximum", "umfuse"):
            assert all(0 < float(value) < 3 for value in table[name, method])


def test_perceptual_features_know_the_right_place(scene, tmp_path):
    for name in ("roadscene", "m3svd", "msrs_gray"):
        write(tmp_path / "train" / name / "ir" / "one.png", eight_bit(scene[1].aligned_infrared))
        write(tmp_path / "train" / name / "vis" / "one.png", scene[1].visible)
    table = rows(tmp_path, "benchmarks.perceptual", "--only", "MIND, 3 levels")
    for kind in ("luma", "pseudo-infrared"):
        assert float(table[kind, "MIND, 3 levels"][3]) > 0.7  # at 16 px


def test_without_data_says_what_to_set():
    environment = {name: value for name, value in os.environ.items() if name != "UMFUSE_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fusion", "--aligned"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "UMFUSE_DATA" in done.stderr

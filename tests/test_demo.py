"""The pairs that come with the package, and `umfuse demo` on them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import scenes
from PIL import Image

from umfuse import cli, demo

PICTURES = ("infrared.png", "visible.png", "registered.png", "fused.png", "sheet.png")


@pytest.mark.parametrize("night", [False, True], ids=["day", "night"])
def test_the_pairs_are_what_the_renderer_renders(night):
    pair, scene = demo.pair(night=night), scenes.render(0, night=night)
    np.testing.assert_allclose(pair.transform, scene.transform, rtol=1e-12)
    for path, rendered in ((pair.infrared, scene.infrared), (pair.visible, scene.visible)):
        with Image.open(path) as image:
            packaged = np.asarray(image)
        assert packaged.dtype == rendered.dtype
        assert packaged.shape == rendered.shape
        assert np.abs(packaged.astype(int) - rendered.astype(int)).max() <= 1


@pytest.mark.parametrize("options", [[], ["--night"]], ids=["day", "night"])
def test_the_command_aligns_the_pair_and_says_how_well(options, tmp_path, capsys):
    folder = tmp_path / "demo"
    assert cli.main(["demo", "-o", str(folder), *options]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(folder / name) for name in PICTURES]
    pair = demo.pair(night=bool(options))
    for name in ("infrared", "visible"):
        assert (folder / f"{name}.png").read_bytes() == getattr(pair, name).read_bytes()
    sizes = {}
    for name in PICTURES:
        with Image.open(folder / name) as image:
            sizes[name] = image.size
    assert sizes["registered.png"] == sizes["fused.png"] == (640, 480)
    before, after = re.findall(r"([\d.]+) by resizing, ([\d.]+) by umfuse", captured.err)[0]
    assert float(before) > 10
    assert float(after) < 1


def state(folder):
    """What lies in a folder, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def test_a_package_that_is_only_to_be_read_is_enough(tmp_path):
    """And nothing is written there by those who may; of the Hub no folder is needed."""
    site, out, home = tmp_path / "site", tmp_path / "out", tmp_path / "home"
    package = Path(demo.__file__).parents[1]
    shutil.copytree(package, site / "umfuse", ignore=shutil.ignore_patterns("__pycache__"))
    home.write_bytes(b"no folder")
    before = state(site)
    assert site / "umfuse" / "__main__.py" in before
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "umfuse", "demo", "-o", str(out)],
            cwd=site,  # where -m looks first
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HF_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert state(site) == before
    finally:
        for path in before:
            path.chmod(0o755)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str(out / name) for name in PICTURES]
    assert "Traceback" not in result.stderr


def test_the_package_is_small():
    folder = Path(demo.__file__).parent
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.suffix for path in files} == {".py", ".png", ".json"}
    assert sum(path.stat().st_size for path in files) < 1.5e6

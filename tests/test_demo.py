"""The pairs that come with the package, and `umfuse demo` on them."""

from __future__ import annotations

import re
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


def test_the_package_is_small():
    folder = Path(demo.__file__).parent
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.suffix for path in files} == {".py", ".png", ".json"}
    assert sum(path.stat().st_size for path in files) < 1.5e6

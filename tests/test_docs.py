"""The pages become HTML without a warning, and every page has its place in the contents."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def contents() -> list[str]:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    lists = re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.M | re.S)
    lines = [line for one in lists for line in one.splitlines()]
    return [line for line in lines if line and not line.startswith(":")]


def test_every_page_is_in_the_contents_once():
    pages = sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")
    assert sorted(contents()) == pages, "add the new page to docs/index.md"


@pytest.mark.slow
def test_pages_build_without_a_warning(tmp_path):
    for name in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(name)
    # In a process of its own: it changes warnings and the path of modules.
    command = [sys.executable, "-m", "sphinx", "-W", "-b", "html", DOCS, tmp_path]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    api = (tmp_path / "api.html").read_text(encoding="utf-8")
    for name in ("umfuse.fuse", "umfuse.metrics.ssim", "umfuse.train.fine_tune", "umfuse.Rig"):
        assert f'id="{name}"' in api, f"{name} has no place on the API page"

"""docs/files.md says which files are read exactly, and it is so."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import data, files

PAGE = Path(__file__).parents[1] / "docs" / "files.md"


@pytest.fixture(scope="module")
def rows():
    for module in files.MODULES:
        pytest.importorskip(module)
    return files.rows()


def test_no_file_is_misread(rows):
    outcomes = {cell for row in rows for cell in row[-len(files.EXTRAS) :]}
    assert outcomes == {"exact", "error"}


def test_the_page_has_this_table(rows):
    table = data.table_block(PAGE.read_text(encoding="utf-8"), "files")
    assert [line.strip("| ").split(" | ") for line in table.strip().splitlines()[2:]] == rows

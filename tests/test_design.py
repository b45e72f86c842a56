"""docs/design.md says what is there: the tree, the arrows, the long files."""

from __future__ import annotations

import re
from pathlib import Path

from test_architecture import GROUND, MAY_IMPORT, PACKAGE

PAGE = (Path(__file__).parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
LONGEST = 350
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def tree() -> dict[str, str]:
    """The files of the tree, and what is said of them."""
    lines = re.findall(r"^```\n(.*?)^```", section("The tree"), re.M | re.S)[0].splitlines()
    assert lines[0] == "src/umfuse/"
    folders: list[str] = []
    found: dict[str, str] = {}
    for line in lines[1:]:
        indent, name, text = re.fullmatch(r"( +)(\S+) *(.*)", line).groups()
        del folders[len(indent) // 2 - 1 :]
        if name.endswith("/"):
            folders.append(name)
        else:
            found["".join(folders) + name] = text
    return found


def test_the_tree_names_every_file_and_nothing_else():
    assert set(tree()) == set(FILES)
    assert all(tree().values())


def test_the_table_of_rooms_is_what_the_arrows_test_holds():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section("Which room may import which"), re.M)
    rooms = {room: set(re.findall(r"\w+", imports)) for room, imports in rows}
    # Nothing but the ground floor is what a room imports that is not in the list of the test.
    listed = {room: set(imports) for room, imports in MAY_IMPORT.items() if room not in GROUND}
    assert rooms == listed


def test_long_files_have_a_reason():
    reasons = dict(re.findall(r"^- `([\w/.]+)`: (.{20,})$", section("Long files"), re.M))
    lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in FILES.items()}
    assert {name for name, length in lengths.items() if length > LONGEST} == set(reasons)

"""The arrows of the house: which module may import which."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "umfuse"

# The ground floor, on which every room stands.
GROUND = {"borders", "dtypes", "filters", "geometry", "lfs", "missing", "tiles"}
# A module may import what its room lists, and the ground floor, which imports nothing of umfuse.
MAY_IMPORT = {
    "__init__": {"api", "config", "metrics", "pipeline", "registration", "rig", "weights"},
    "__main__": {"cli"},
    "api": {
        *("devices", "draw", "images", "matching", "picture", "pipeline", "registering"),
        *("registration", "search", "sources", "weights"),
    },
    "card": set(),
    "certainty": {"picture", "resampling", "search"},
    "cli": {
        *("__init__", "api", "cli", "demo", "draw", "evaluate", "images", "pipeline", "train"),
        *("export", "publishing", "ui"),
        *("convert", "devices", "files", "pairing", "registering", "resampling", "search"),
        *("sources", "weights"),
    },
    "convert": {"config", "networks", "pipeline", "weights"},
    "demo": set(),
    "draw": {"draw"},
    "evaluate": {
        *("api", "draw", "evaluate", "files", "images", "metrics", "pairing", "pipeline"),
        *("resampling", "weights"),
    },
    "export": {"files", "pipeline"},
    "files": {"files"},
    "fusing": {"networks", "noise", "resampling", "search"},
    "images": {"files", "picture", "ranges"},
    "matching": set(),
    "metrics": {"metrics"},
    "networks": {"networks"},
    "noise": set(),
    "pairing": set(),
    "config": {"networks"},
    "picture": {"files", "noise"},
    "pipeline": {
        *("config", "devices", "fusing", "networks", "pretrained", "resampling", "search"),
    },
    "pretrained": {"card", "config", "weights"},
    "publishing": {"card", "weights"},
    "ranges": {"files"},
    "registering": {
        *("certainty", "images", "matching", "pipeline", "registration", "resampling", "search"),
    },
    "registration": {
        *("certainty", "draw", "files", "images", "registration_file", "resampling"),
    },
    "registration_file": {"files"},
    "rig": {
        *("api", "images", "networks", "pipeline", "registering", "registration", "resampling"),
        *("search", "sources"),
    },
    "search": {"devices", "search"},
    "sources": {"files", "images"},
    "ui": {
        *("api", "demo", "devices", "draw", "files", "images", "pipeline", "registration"),
        *("resampling", "sources", "ui"),
    },
    "weights": {"hub", "weights_folder"},
    "weights_folder": {"config", "hub"},
    "train": {
        *("config", "devices", "draw", "files", "images", "metrics", "networks", "pairing"),
        *("pipeline", "resampling", "search", "train", "weights"),
    },
}


def room(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, _, rest = name.partition(".")
            if top == "umfuse":
                first = rest.partition(".")[0]
                is_room = (PACKAGE / f"{first}.py").is_file() or (PACKAGE / first).is_dir()
                yield first if first and is_room else "__init__"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_arrows(path):
    own = room(path)
    extra = set(imported_rooms(path)) - MAY_IMPORT.get(own, set())
    if own not in GROUND:
        extra -= GROUND
    assert not extra, f"{own} may not import {sorted(extra)}"

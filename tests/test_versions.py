"""constraints-lowest.txt has the lower bounds of pyproject.toml, so that .ci/run tests them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def versions(text: str, sign: str) -> dict[str, str]:
    found = re.findall(rf"^[\s\"]*([\w-]+){sign}([\w.]+)", text, re.M)
    return {name.lower().replace("-", "_"): version for name, version in found}


def number(version: str) -> list[int]:
    parts = [int(part) for part in version.split(".")]
    return parts + [0] * (3 - len(parts))


def test_the_lowest_versions_are_those_declared():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    core, dev = re.findall(r"^(?:dependencies|dev) = \[\n(.*?)^\]", project, re.M | re.S)
    declared = versions(core, ">=")
    assert declared.pop("torch")  # too large to install once more: its bound was run by hand
    declared["scipy"] = versions(dev, ">=")["scipy"]
    lowest = versions((ROOT / "constraints-lowest.txt").read_text(encoding="utf-8"), "==")
    assert {name: number(v) for name, v in declared.items()} == {
        name: number(v) for name, v in lowest.items()
    }

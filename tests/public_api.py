"""What is public, as text: `python tests/public_api.py > tests/public_api.txt` after a change.

That is what docs/api.md shows, with parameters and fields, the commands with their options, and
what is in the files that umfuse writes.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import umfuse
from umfuse import cli, registration_file
from umfuse.cli import report

ROOT = Path(__file__).parents[1]


def shown() -> Iterator[tuple[str, object]]:
    """What the page shows, by name: `import umfuse`, and the modules beside it."""
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    for kind, name in re.findall(r"auto(function|class|module):: (\S+)", page):
        if kind == "module":
            module = importlib.import_module(name)
            for member in sorted(members(module)):
                yield f"{name}.{member}", getattr(module, member)
        else:
            module, _, last = name.rpartition(".")
            yield name, getattr(importlib.import_module(module), last)


def members(module: ModuleType) -> list[str]:
    """The names that a module offers."""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return getattr(module, "__all__", own)


def lines(name: str, what: object) -> Iterator[str]:
    """One line for what is called, and one for each field and method of a class."""
    if not callable(what):
        yield name
        return
    yield f"{name}{signature(what)}"
    if not isinstance(what, type):
        return
    for member in sorted(dir(what)):
        value = inspect.getattr_static(what, member)
        if member.startswith("_") or not ours(what, member):
            continue
        if isinstance(value, staticmethod | classmethod) or inspect.isfunction(value):
            yield f"{name}.{member}{signature(getattr(what, member))}"
        else:
            yield f"{name}.{member}"
    for field in sorted(annotated(what) - set(dir(what))):
        yield f"{name}.{field}"


def ours(what: type, member: str) -> bool:
    """Says whether a class has a member from us, and not from torch or huggingface_hub."""
    (owner,) = [one for one in what.__mro__ if member in vars(one)][:1]
    return owner.__module__.startswith("umfuse")


def annotated(what: type) -> set[str]:
    """The fields that a class of ours declares."""
    classes = [one for one in what.__mro__ if one.__module__.startswith("umfuse")]
    names = [name for one in classes for name in inspect.get_annotations(one)]
    return {name for name in names if not name.startswith("_")}


def signature(what: object) -> str:
    """The parameters of what is called; of an error only if they are ours."""
    if isinstance(what, type) and issubclass(what, Exception) and not ours(what, "__init__"):
        return "(...)"
    return re.sub(r"ForwardRef\(('\w+')\)", r"\1", str(inspect.signature(what)))  # type: ignore[arg-type]


def commands(parser: argparse.ArgumentParser, words: str) -> Iterator[str]:
    """One line for each command, with all that can be given to it."""
    inner = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    for action in inner:
        for name, child in action.choices.items():
            yield from commands(child, f"{words} {name}")
    if not inner:
        names = ["/".join(one.option_strings) or str(one.dest) for one in parser._actions]
        yield f"{words} {' '.join(sorted(names))}"


def files() -> Iterator[str]:
    """One line for each kind of file."""
    values = umfuse.UmfuseConfig().to_dict()
    yield f"config.json {values['format_version']}: {' '.join(sorted(values))}"
    yield f"registration.npz: {registration_file.FORMAT_VERSION}"
    yield f"registrations.csv: {' '.join(report.COLUMNS)}"
    yield f"scores.csv: name {' '.join(umfuse.metrics.FUSION)}"


def text() -> str:
    """All of it."""
    offered = [f"umfuse: {name}" for name in sorted(umfuse.__all__)]
    found = [line for name, what in shown() for line in sorted(lines(name, what))]
    written = sorted(commands(cli._parser(), "umfuse"))
    return "\n".join([*offered, "", *found, "", *written, "", *files(), ""])


if __name__ == "__main__":
    sys.stdout.write(text())

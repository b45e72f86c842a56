"""Whether the tests of a module notice changes of it: `python -m benchmarks.mutants FILE TESTS`.

Mutation testing with `cosmic-ray` (pip install cosmic-ray): places of the file are drawn, at each
one of the changes that its operators know is made to a copy of the checkout, and the tests run on
it. The score is the share of changes with which they fail. Survivors are printed as a difference:
each is a line that could be wrong without a test that tells, or a change that changes nothing.

Annotations are left alone, since nothing evaluates them. Needs `os.fork`: torch is imported once.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

HEAVY = ("torch", "torch._dynamo", "numpy", "scipy.ndimage", "PIL.Image", "pytest")
SLOWEST = 5  # times what the tests need, at least 30 s: then a change made them hang
Place = tuple[int, int]  # line from 1, column from 0


class Mutant(NamedTuple):
    """A change of a file."""

    line: int
    operator: str
    code: str


def main() -> None:
    """Prints the score and what survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("file", type=Path, help="of src/umfuse, as a path from the checkout's root")
    parser.add_argument("tests", nargs="+", help="arguments of pytest: the files that test it")
    parser.add_argument("--sample", type=int, default=80, help="how many places")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    drawn = sample(options.file.read_text("utf-8"), options.sample, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            if Path(name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(name, copy / name)
        whole = options.file.read_text("utf-8")
        begun = time.monotonic()
        if not passes(copy, options.file, whole, options.tests, 600):
            sys.exit("the tests fail without any change")
        limit = max(30.0, SLOWEST * (time.monotonic() - begun))
        if passes(copy, options.file, "raise RuntimeError\n", options.tests, limit):
            sys.exit("the tests do not look at this file")
        survived: list[Mutant] = []
        for mutant in drawn:
            if passes(copy, options.file, mutant.code, options.tests, limit):
                survived.append(mutant)
                print(f"\n{options.file}:{mutant.line} {mutant.operator}", flush=True)
                lines = difflib.unified_diff(whole.split("\n"), mutant.code.split("\n"), n=0)
                print("\n".join(list(lines)[3:]), flush=True)
    killed = len(drawn) - len(survived)
    print(f"\n{options.file}: {killed} of {len(drawn)} noticed, {100 * killed / len(drawn):.0f} %")


def sample(source: str, count: int, seed: int) -> list[Mutant]:
    """Returns changes at places that are drawn, in the order of the lines."""
    mutating: Any = importlib.import_module("cosmic_ray.mutating")
    trees: Any = importlib.import_module("cosmic_ray.ast")
    plugins: Any = importlib.import_module("cosmic_ray.plugins")
    ignored = _annotations(source)
    found = defaultdict[Place, list[tuple[str, int]]](list)
    for name in plugins.operator_names():
        operator = plugins.get_operator(name)
        if operator.arguments():
            continue
        spots = (
            start
            for node in trees.ast_nodes(trees.get_ast(source))
            for start, _ in operator().mutation_positions(node)
        )
        for occurrence, start in enumerate(spots):
            if not any(first <= start < last for first, last in ignored):
                found[start].append((name, occurrence))
    chance = random.Random(seed)
    places = chance.sample(sorted(found), min(count, len(found)))
    mutants: list[Mutant] = []
    for place in sorted(places):
        name, occurrence = chance.choice(found[place])
        code = mutating.mutate_code(source, plugins.get_operator(name)(), occurrence)
        mutants.append(Mutant(place[0], name.partition("/")[2], code))
    return mutants


def _annotations(source: str) -> list[tuple[Place, Place]]:
    """Returns where annotations begin and end."""
    nodes: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.arg, ast.AnnAssign)):
            nodes.append(node.annotation)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            nodes.append(node.returns)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in nodes
        if node is not None
    ]


def passes(copy: Path, file: Path, code: str, tests: list[str], limit: float) -> bool:
    """Says whether tests pass in a copy of the checkout with other code in one file.

    Args:
        copy: Its root.
        file: Its file that is changed, as a path from the root.
        code: What the file says.
        tests: Arguments of pytest.
        limit: Seconds after which they are taken to hang.
    """
    (copy / file).write_text(code, encoding="utf-8")
    process = multiprocessing.get_context("fork").Process(target=_test, args=(copy, tests))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode == 0


def _test(copy: Path, tests: list[str]) -> None:
    """Runs in a process of its own."""
    import pytest

    os.chdir(copy)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(copy), str(copy / "src")]
    os.environ["PYTHONPATH"] = str(copy / "src")
    words = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *tests]
    sys.exit(int(pytest.main(words)))


if __name__ == "__main__":
    for module in HEAVY:
        importlib.import_module(module)
    if any(name.partition(".")[0] == "umfuse" for name in sys.modules):
        sys.exit("umfuse is imported already: nothing would be tested")
    main()

"""Pickles can run code: which files of the package read them, and that they are read without."""

import ast

import pytest
from test_architecture import PACKAGE

# The authors' checkpoints, and the state of a training with its optimiser: on the disk, and on its
# way between the processes that train together.
READERS = {"convert.py", "train/checkpoints.py", "train/distributed.py"}
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}


def names(node):
    """The names that a file uses, as ``module.name`` however they were imported."""
    short = {}
    for one in ast.walk(node):
        if isinstance(one, ast.Import):
            short |= {alias.asname or alias.name: alias.name for alias in one.names}
        elif isinstance(one, ast.ImportFrom):
            short |= {a.asname or a.name: f"{one.module}.{a.name}" for a in one.names}
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute | ast.Name):
            first, dot, rest = ast.unparse(one).partition(".")
            yield one, short.get(first, first) + dot + rest


def refused(source):
    """What a file does that could run the code of a pickle, and whether it reads one at all."""
    tree = ast.parse(source)
    parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found, reads = [], False
    for node, name in names(tree):
        first, _, rest = name.partition(".")
        call = parents[id(node)]
        call = call if isinstance(call, ast.Call) and call.func is node else None
        given = {key.arg: ast.unparse(key.value) for key in call.keywords} if call else {}
        if first in ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"):
            if rest and name != "pickle.UnpicklingError":
                found.append(name)
        elif name in ("torch.load", "torch.serialization.load", "torch.jit.load"):
            reads = True
            if given.get("weights_only") != "True":
                found.append(ast.unparse(call or node))
        elif name == "numpy.load" and given.get("allow_pickle", "False") != "False":
            found.append(ast.unparse(call))
    return found, reads


@pytest.mark.parametrize("name", FILES)
def test_no_pickle_may_run_code(name):
    found, reads = refused(FILES[name].read_text(encoding="utf-8"))
    assert found == []
    assert reads == (name in READERS)


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=trusted)",
        "import torch as t\nread = t.load",
        "from torch import load\nload(path)",
        "from torch import load as read\nread(path)",
        "import pickle\npickle.load(file)",
        "from pickle import loads\nloads(text)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "from joblib import load\nload(path)",
    ],
)
def test_every_way_to_read_one_is_seen(source):
    assert refused(source)[0]


def test_what_is_allowed_is_allowed():
    source = """
import pickle
import numpy as np
import torch
try:
    torch.load(path, map_location="cpu", weights_only=True)
except pickle.UnpicklingError:
    np.load(path)
"""
    assert refused(source) == ([], True)

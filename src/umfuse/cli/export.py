"""`umfuse export`: the networks as ONNX graphs."""

from __future__ import annotations

import argparse
from pathlib import Path

from umfuse.cli.common import Commands, Options


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parser of this command."""
    export = commands.add_parser(
        "export",
        parents=[shared.common],
        help="write the networks as ONNX graphs (umfuse[onnx])",
        description="Writes dense.onnx, fuse.onnx and export.json, which says what goes in and "
        "out: docs/export.md.",
    )
    export.add_argument("output", type=Path, metavar="OUT", help="the folder")
    export.add_argument(
        "--weights", metavar="NAME", help="name, folder or Hub repository; default: embedded"
    )
    export.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from umfuse import load, weights
    from umfuse.export import export

    folder = weights.locate(options.weights)
    model = load(folder, device="cpu")
    files = (*weights.FILES, weights.CPSTN) if model.config.needs_cpstn else weights.FILES
    name = options.weights or weights.manifest()["default"]
    about = {"name": name, "sha256": {file: weights.sha256(folder / file) for file in files}}
    print(export(model, options.output, about))
    return 0

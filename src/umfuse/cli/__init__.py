"""The command line: `umfuse fuse`, `register`, `video`, `demo`, `deform`, `evaluate`, `train`, ...

Results go to disk and their paths to stdout (of `evaluate` the table), everything else to stderr.
The exit code is 2 for wrong usage, 1 if anything failed: of `fuse` and `register` with
`--on-failure raise` also a pair whose alignment is doubtful. Modules that import torch are imported
by the commands that need them, so that help is instant.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import io
import logging
import os
import re
import sys
from collections.abc import Sequence

from umfuse import __version__
from umfuse.cli import common, deform, demo, evaluate, export, pairs, train, video, weights
from umfuse.cli.common import UsageError, as_options

__all__ = ["main"]

NEGATIVE = re.compile(r"-[\d.][\d.e+-]*(,[\d.e+-]+)?")  # a number or two, the first below 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        arguments: Words after the program's name; None means those of this process.
    """
    if arguments is None:
        # What is imported makes a million objects: to look through them for garbage takes longer
        # than to fuse a pair, and at the end of the process there is nothing to be freed.
        gc.set_threshold(50_000)
        atexit.register(gc.freeze)
    parser = _parser()
    options = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    level = logging.WARNING - 10 * min(2, options.verbose)
    for stream in (sys.stdout, sys.stderr):  # names of files may be no text, or not of its letters
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace" if os.name == "nt" else "surrogateescape")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    try:
        return int(options.run(options))
    except UsageError as error:
        parser.print_usage(sys.stderr)
        print(f"umfuse: error: {error}", file=sys.stderr)
        return 2
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"umfuse: error: {as_options(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


class _Formatter(logging.Formatter):
    """Says what the library logs in the words of the command line."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        return as_options(super().format(record))


def _joined(arguments: Sequence[str]) -> list[str]:
    """Returns words in which ``--range -10,60`` is ``--range=-10,60``: argparse sees an option."""
    words: list[str] = []
    for word in arguments:
        if NEGATIVE.fullmatch(word) and words and words[-1].startswith("--"):
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="umfuse",
        description="Align and fuse infrared and visible image pairs that are not registered.",
    )
    parser.add_argument("--version", action="version", version=f"umfuse {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = common.options()
    for group in (pairs, video, demo, deform, evaluate, train, export, weights):
        group.add_commands(commands, shared)
    return parser

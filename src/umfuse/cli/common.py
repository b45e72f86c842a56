"""What the commands have in common."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from umfuse.images import Range

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # pyright: ignore[reportPrivateUsage]
"""What parsers of commands are added to; argparse has no public name for it."""


class UsageError(Exception):
    """Arguments that cannot be meant."""


class Options(NamedTuple):
    """Parents of parsers, with options that several commands share."""

    common: argparse.ArgumentParser
    """Of every command."""
    device: argparse.ArgumentParser
    """Of commands that run a model; includes the common ones."""
    ranges: argparse.ArgumentParser
    """Of commands that read pairs."""


def options() -> Options:
    """Returns the shared options."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more, twice for all"
    )
    device = argparse.ArgumentParser(add_help=False, parents=[common])
    device.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: CUDA if there is any")
    ranges = argparse.ArgumentParser(add_help=False)
    ranges.add_argument(
        "--ir-range",
        "--range",
        type=_range,
        metavar="RANGE",
        help="infrared values that become black and white: dtype, minmax, percentile or LOW,HIGH",
    )
    ranges.add_argument(
        "--vis-range", type=_range, metavar="RANGE", help="the same of visible images"
    )
    return Options(common, device, ranges)


def _range(text: str) -> Range:
    if text in ("dtype", "minmax", "percentile"):
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected dtype, minmax, percentile or LOW,HIGH (two numbers), got {text!r}"
        ) from None
    return low, high

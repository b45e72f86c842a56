"""What the commands have in common."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from umfuse.images import Range

MIN_CONFIDENCE = 0.3  # as umfuse.api has it, which imports torch

_ARGUMENT = re.compile(
    r"(?<![\w.])(band|vis_band|ir_range|vis_range|nodata|registration|fov|rotation"
    r"|on_failure|min_confidence)=(?=\S)"
)  # what functions and commands call alike

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
    cameras: argparse.ArgumentParser
    """Of commands that align pairs: what is known of the cameras, and what is trusted."""


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
    cameras = argparse.ArgumentParser(add_help=False)
    cameras.add_argument(
        "--min-confidence",
        type=_share,
        default=MIN_CONFIDENCE,
        metavar="X",
        help="an alignment of less confidence is not used: the infrared image is only resized; "
        "0 uses all, default: %(default)s",
    )
    cameras.add_argument(
        "--fov",
        type=_numbers,
        metavar="X",
        help="field of view of the visible camera over that of the infrared one, or LOW,HIGH",
    )
    cameras.add_argument(
        "--rotation",
        type=_numbers,
        metavar="DEGREES",
        help="by which the infrared image is turned clockwise against the visible one, or LOW,HIGH",
    )
    cameras.add_argument(
        "--mirror",
        action="store_true",
        help="the infrared image has left and right exchanged",
    )
    cameras.add_argument(
        "--nodata",
        type=float,
        metavar="VALUE",
        help="value of infrared pixels that are no data, such as 0 or -9999",
    )
    return Options(common, device, ranges, cameras)


def as_options(message: object) -> str:
    """Returns a message in the words of the command line: ``--band 2``, not ``band=2``."""
    text = str(message).replace("align=False", "--no-align")
    return _ARGUMENT.sub(lambda found: f"--{found[1].replace('_', '-')} ", text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def _numbers(text: str) -> float | tuple[float, float]:
    try:
        ends = [float(part) for part in text.split(",")]
    except ValueError:
        ends = []
    if len(ends) not in (1, 2):
        raise argparse.ArgumentTypeError(f"expected X or LOW,HIGH (numbers), got {text!r}")
    return ends[0] if len(ends) == 1 else (ends[0], ends[1])


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

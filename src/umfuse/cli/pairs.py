"""Commands on pairs of images: `umfuse fuse` and `register`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from umfuse.cli.common import Commands, Options, UsageError

if TYPE_CHECKING:
    from umfuse.api import Fusion, Registration
    from umfuse.images import Range
    from umfuse.pipeline import Umfuse


class Pair(NamedTuple):
    """The files of one pair, and where its results go."""

    infrared: Path
    visible: Path
    output: Path
    sheet: Path | None


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parsers of these commands."""
    model = argparse.ArgumentParser(add_help=False, parents=[shared.device])
    model.add_argument(
        "--weights", metavar="NAME", help="name, folder or Hub repository; default: embedded"
    )
    pair = argparse.ArgumentParser(add_help=False, parents=[model, shared.ranges])
    pair.add_argument("infrared", type=Path, help="image, or a folder of images")
    pair.add_argument("visible", type=Path, help="image, or a folder paired with it by stem")
    pair.add_argument(
        "-o", "--output", type=Path, required=True, help="image, or a folder for folders"
    )
    pair.add_argument(
        "--sheet", type=Path, help="also write a before/after picture (a folder for folders)"
    )

    fuse = commands.add_parser("fuse", parents=[pair], help="align and fuse pairs")
    fuse.add_argument(
        "--no-register", action="store_true", help="the pairs are aligned: only fuse them"
    )
    fuse.add_argument("--grey16", action="store_true", help="write 16-bit grey, without colour")
    fuse.set_defaults(run=_pairs_command, fuse=True)

    register = commands.add_parser(
        "register", parents=[pair], help="write infrared images aligned with the visible ones"
    )
    register.set_defaults(run=_pairs_command, fuse=False, no_register=False)


def _pairs_command(options: argparse.Namespace) -> int:
    pairs, problems = _pairs(options)
    for problem in problems:
        print(f"umfuse: {problem}", file=sys.stderr)
    if not pairs:
        raise UsageError(
            f"no image in {options.infrared} has a partner of the same stem in {options.visible}"
        )

    from huggingface_hub.utils import tqdm

    from umfuse import load

    model = load(options.weights, device=options.device)
    failed = len(problems)
    bar = tqdm(pairs, disable=len(pairs) == 1, unit="pair", name="umfuse.pairs")
    for pair in cast("Iterable[Pair]", bar):
        try:
            print(_one_pair(pair, model, options), flush=True)
        except (OSError, TypeError, ValueError) as error:
            failed += 1
            tqdm.write(f"umfuse: {pair.infrared} + {pair.visible}: {error}", file=sys.stderr)
    if failed:
        print(f"umfuse: {failed} of {len(pairs) + len(problems)} failed", file=sys.stderr)
    return int(failed > 0)


def _pairs(options: argparse.Namespace) -> tuple[list[Pair], list[str]]:
    """Returns the pairs to work on, and a line for each image that has no partner."""
    infrared, visible, output = options.infrared, options.visible, options.output
    for path in (infrared, visible):
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    if infrared.is_dir() != visible.is_dir():
        raise UsageError("infrared and visible must be two images or two folders, not one of each")
    if not infrared.is_dir():
        if output.is_dir():
            raise UsageError(f"{output} is a folder: give the name of the image to write")
        return [Pair(infrared, visible, output, options.sheet)], []
    for path in (output, options.sheet):
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    from umfuse.evaluate.dataset import pair

    found, problems = pair({"infrared": infrared, "visible": visible})
    pairs = [
        Pair(
            files["infrared"],
            files["visible"],
            output / f"{stem}.png",
            options.sheet and options.sheet / f"{stem}.png",
        )
        for stem, files in found.items()
    ]
    return pairs, problems


def _one_pair(pair: Pair, model: Umfuse, options: argparse.Namespace) -> Path:
    """Writes the results of one pair and returns the path of the main one."""
    from umfuse import fuse, register

    result: Fusion | Registration
    registration: Registration | None
    if options.fuse:
        result = fuse(
            pair.infrared,
            pair.visible,
            registration=not options.no_register,
            range=options.range,
            weights=model,
        )
        registration = result.registration
        result.save(pair.output, grey16=options.grey16)
    else:
        result = registration = register(
            pair.infrared, pair.visible, range=options.range, weights=model
        )
        result.save(pair.output)
    if registration is not None:
        logging.getLogger(__name__).info(
            "%s: confidence %.2f (%s)",
            pair.infrared.name,
            registration.confidence,
            registration.stage,
        )
    if pair.sheet is not None:
        write_sheet(pair, result, registration, options.range)
    return pair.output


def write_sheet(
    pair: Pair,
    result: Fusion | Registration,
    registration: Registration | None,
    range: Range | None,
) -> None:
    """Writes the before/after picture of a pair that is done."""
    import numpy as np
    from PIL import Image

    from umfuse import draw, images
    from umfuse.api import Fusion

    infrared = images.read(pair.infrared, name="infrared", range=range)
    visible = images.read(pair.visible, name="visible")
    height, width = visible.size
    before = infrared.luma[0, 0].numpy()
    resized = np.asarray(Image.fromarray(before).resize((width, height)))
    after, displacement = resized, np.zeros((height, width, 2), dtype=np.float32)
    if registration is not None:
        low, span = float(infrared.low), float(infrared.span)
        shown = images.read(registration.infrared, range=(low, low + span))
        after, displacement = shown.luma[0, 0].numpy(), registration.displacement
    fused = None
    if isinstance(result, Fusion):
        fused = images.read(result.image).rgb[0].movedim(0, -1).numpy()
    rgb = visible.rgb[0].movedim(0, -1).numpy()
    picture = draw.registration_sheet(before, rgb, resized, after, displacement, fused)
    images.save(picture, pair.sheet or pair.output)

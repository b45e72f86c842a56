"""Commands on pairs of images: `umfuse fuse` and `register`.

The exit code is 0 if every pair gave a result, also where its alignment is doubtful; 1 if a pair
failed, which with `--on-failure raise` a doubtful one does; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from umfuse.cli import jobs, pictures
from umfuse.cli.common import Commands, Options, UsageError, as_options
from umfuse.cli.jobs import Job
from umfuse.cli.report import Report

if TYPE_CHECKING:
    from umfuse.api import Fusion, Registration
    from umfuse.pipeline import Umfuse


EXIT_CODES = (
    "Exit code: 0 if every pair gave a result, 1 if a pair failed or, with --on-failure raise, was "
    "below --min-confidence, 2 for wrong usage."
)


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parsers of these commands."""
    model = argparse.ArgumentParser(add_help=False, parents=[shared.device])
    model.add_argument(
        "--weights", metavar="NAME", help="name, folder or Hub repository; default: embedded"
    )
    pair = argparse.ArgumentParser(add_help=False, parents=[model, shared.ranges, shared.cameras])
    jobs.add_options(pair)
    pair.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="table of method, confidence and error of every pair, .csv; "
        "default for folders: OUTPUT/registrations.csv",
    )
    pair.add_argument(
        "--band",
        type=int,
        metavar="N",
        help="channel of the infrared image, or page of a file of several pages, from 0",
    )
    pair.add_argument(
        "--vis-band",
        type=_bands,
        metavar="N",
        help="the same of the visible image, or RED,GREEN,BLUE",
    )
    after = "with an alignment below --min-confidence: warn (default), raise: the pair failed"

    fuse = commands.add_parser(
        "fuse", parents=[pair], help="align and fuse pairs", epilog=EXIT_CODES
    )
    fuse.add_argument(
        "--on-failure",
        choices=("warn", "raise", "visible", "return"),
        default="warn",
        help=f"{after}, visible: write the visible image, return: say nothing",
    )
    aligned = fuse.add_mutually_exclusive_group()
    aligned.add_argument(
        "--no-align", action="store_true", help="the pairs are aligned: only fuse them"
    )
    aligned.add_argument(
        "--registration",
        type=Path,
        metavar="FILE",
        help="a saved registration to use for all pairs: cameras that do not move",
    )
    fuse.add_argument("--grey16", action="store_true", help="write 16-bit grey, without colour")
    fuse.set_defaults(run=_pairs_command, fuse=True)

    register = commands.add_parser(
        "register",
        parents=[pair],
        help="write infrared images aligned with the visible ones",
        epilog=EXIT_CODES,
    )
    register.add_argument(
        "--on-failure",
        choices=("warn", "raise", "return"),
        default="warn",
        help=f"{after}, return: say nothing",
    )
    register.set_defaults(run=_pairs_command, fuse=False, no_align=False, registration=None)


def _pairs_command(options: argparse.Namespace) -> int:
    pairs, problems = jobs.find(options)
    for problem in problems:
        print(f"umfuse: {problem}", file=sys.stderr)

    from huggingface_hub.utils import tqdm

    from umfuse import Registration, RegistrationError, devices, load
    from umfuse.search import Known

    if options.save_registration is not None and options.no_align:
        raise UsageError("--no-align finds no registration to save")
    try:
        known = Known(options.fov, options.rotation, options.mirror)
    except ValueError as error:
        raise UsageError(error) from error
    if known and (options.no_align or options.registration is not None):
        raise UsageError("--fov, --rotation and --mirror are for pairs that are aligned here")
    if options.registration is not None:
        options.registration = Registration.load(options.registration)
    exact = options.fuse and options.grey16
    model = load(options.weights, device=options.device, precision="float32" if exact else "auto")
    failed = len(problems)
    bar = tqdm(pairs, disable=len(pairs) == 1, unit="pair", name="umfuse.pairs")
    report = Report(
        jobs.report_path(options),
        resume=options.resume,
        page=options.html,
        min_confidence=options.min_confidence,
    )
    with report:
        for problem in problems:
            report.add("", None, problem)
        for pair in cast("Iterable[Job]", bar):
            try:
                report.add(pair.name, _one_pair(pair, model, options))
                print(pair.output, flush=True)
            except (OSError, TypeError, ValueError, MemoryError, RuntimeError) as error:
                said = as_options(error)
                if devices.is_out_of_memory(error):
                    said = "there is not enough memory for images of this size: reduce them"
                elif isinstance(error, RuntimeError):
                    raise
                failed += 1
                found = error.registration if isinstance(error, RegistrationError) else None
                report.add(pair.name, found, said)
                tqdm.write(f"umfuse: {pair.title}: {said}", file=sys.stderr)
    if failed:
        print(f"umfuse: {failed} of {len(pairs) + len(problems)} failed", file=sys.stderr)
    return int(failed > 0)


def _one_pair(pair: Job, model: Umfuse, options: argparse.Namespace) -> Registration | None:
    """Writes the results of one pair and returns its alignment, if it was aligned."""
    from umfuse import fuse, register

    names = ("ir_range", "vis_range", "nodata", "band", "vis_band")
    reading: Any = {name: getattr(options, name) for name in names}
    failure: Any = {"on_failure": options.on_failure, "min_confidence": options.min_confidence}
    known: Any = {name: getattr(options, name) for name in ("fov", "rotation", "mirror")}
    result: Fusion | Registration
    registration: Registration | None
    if options.fuse:
        result = fuse(
            pair.infrared,
            pair.visible,
            align=not options.no_align,
            registration=options.registration,
            weights=model,
            **known,
            **failure,
            **reading,
        )
        registration = result.registration
        result.save(pair.output, grey16=options.grey16)
    else:
        result = registration = register(
            pair.infrared, pair.visible, weights=model, **known, **failure, **reading
        )
        result.save_infrared(pair.output)
    if registration is not None and pair.registration is not None:
        registration.save(pair.registration)
    if registration is not None:
        logging.getLogger(__name__).info(
            "%s: confidence %.2f (%s)",
            pair.infrared.name,
            registration.confidence,
            registration.method,
        )
    pictures.write(pair, result, registration, **reading)
    return registration


def _bands(text: str) -> int | tuple[int, int, int]:
    try:
        bands = [int(part) for part in text.split(",")]
    except ValueError:
        bands = []
    if len(bands) not in (1, 3):
        raise argparse.ArgumentTypeError(f"expected N or RED,GREEN,BLUE (integers), got {text!r}")
    return bands[0] if len(bands) == 1 else (bands[0], bands[1], bands[2])

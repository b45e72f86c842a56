"""Which files a run of `umfuse fuse` or `register` reads, and which it writes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from umfuse import pairing
from umfuse.cli.common import UsageError

LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp"})
DEEP = frozenset({".png", ".tif", ".tiff", ".ppm", ".pgm"})  # of these, what holds 16-bit grey


class Job(NamedTuple):
    """The files of one pair, and where its results go."""

    name: str
    infrared: Path
    visible: Path
    output: Path
    sheet: Path | None = None
    registration: Path | None = None

    @property
    def results(self) -> list[Path]:
        """Every file that it writes."""
        return [path for path in (self.output, self.sheet, self.registration) if path is not None]

    @property
    def done(self) -> bool:
        """Whether everything is there. Files are written whole or not at all."""
        return all(path.is_file() for path in self.results)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which files these are."""
    parser.add_argument("infrared", type=Path, help="image, or a folder of images")
    parser.add_argument("visible", type=Path, help="image, or a folder of images")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="image, or a folder for folders"
    )
    parser.add_argument(
        "--sheet", type=Path, help="also write a before/after picture (a folder for folders)"
    )
    parser.add_argument(
        "--save-registration",
        type=Path,
        metavar="FILE",
        help="also write the registration, .npz (a folder for folders)",
    )
    parser.add_argument(
        "--pair",
        metavar="RULE",
        help="how images of folders are paired: stem (default), order, "
        f"{', '.join(pairing.SCHEMES)}, or templates of both names such as {{stem}}_T,{{stem}}_W",
    )
    parser.add_argument(
        "--format",
        metavar="SUFFIX",
        help="of the results of folders, such as tif; default: that of the images if it is "
        "lossless, else png",
    )
    parser.add_argument(
        "--resume", action="store_true", help="leave out pairs whose results are there already"
    )


def find(options: argparse.Namespace) -> tuple[list[Job], list[str]]:
    """Returns the pairs to work on, and a line for each image that has no partner.

    Raises:
        UsageError: If the options cannot be meant so.
    """
    infrared, visible, output = options.infrared, options.visible, options.output
    for path in (infrared, visible):
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    if infrared.is_dir() != visible.is_dir():
        raise UsageError("infrared and visible must be two images or two folders, not one of each")
    if infrared.is_dir():
        jobs, problems = _of_folders(options)
    elif output.is_dir():
        raise UsageError(f"{output} is a folder: give the name of the image to write")
    elif infrared.samefile(visible):
        raise UsageError(f"{infrared} and {visible} are one file: a pair has two images")
    elif options.pair is not None or options.format is not None:
        raise UsageError("--pair and --format are for folders: -o names the image to write")
    else:
        name = infrared.stem
        results = (output, options.sheet, options.save_registration)
        jobs, problems = [Job(name, infrared, visible, *results)], []
    for job in jobs:
        for result in job.results:
            if any(result.exists() and result.samefile(one) for one in (job.infrared, job.visible)):
                raise UsageError(f"{result} would take the place of an image that is read")
    if options.resume:
        left = [job for job in jobs if not job.done]
        if len(left) < len(jobs):
            print(f"umfuse: {len(jobs) - len(left)} pairs are done already", file=sys.stderr)
        jobs = left
    return jobs, problems


def _of_folders(options: argparse.Namespace) -> tuple[list[Job], list[str]]:
    infrared, visible, output = options.infrared, options.visible, options.output
    try:
        files, problems = pairing.find(infrared, visible, options.pair)
    except ValueError as error:
        raise UsageError(error) from error
    chosen = None if options.format is None else f".{options.format.lstrip('.').lower()}"
    if chosen is not None:
        _check_suffix(chosen, options)
    jobs: list[Job] = []
    for name, (one, other) in files.items():
        # What is written is in the kind of the visible image, or of the infrared one.
        kind = (other if options.fuse else one).suffix.lower()
        kept = DEEP if options.fuse and options.grey16 else LOSSLESS
        suffix = chosen or (kind if kind in kept else ".png")
        sheet, table = options.sheet, options.save_registration
        jobs.append(
            Job(
                name,
                one,
                other,
                output / f"{name}{suffix}",
                sheet and sheet / f"{name}.png",
                table and table / f"{name}.npz",
            )
        )
    for job in jobs:
        for result in job.results:
            result.parent.mkdir(parents=True, exist_ok=True)
    return jobs, problems


def _check_suffix(suffix: str, options: argparse.Namespace) -> None:
    from PIL import Image

    if Image.registered_extensions().get(suffix) not in Image.SAVE:
        raise UsageError(f"expected --format such as png, tif or jpg, got {options.format!r}")
    if options.fuse and options.grey16 and suffix not in DEEP:
        raise UsageError(f"--grey16 needs --format png or tif, got {options.format!r}")

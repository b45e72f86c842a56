"""Which files a run of `umfuse fuse` or `register` reads, and which it writes."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from umfuse import pairing
from umfuse.cli import page, report
from umfuse.cli.common import UsageError

LOSSLESS = frozenset({".png", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".webp"})
DEEP = frozenset({".png", ".tif", ".tiff", ".ppm", ".pgm"})  # of these, what holds 16-bit grey


class Job(NamedTuple):
    """The files of one pair, and where its results go."""

    name: str
    infrared: Path
    visible: Path | None
    output: Path
    sheet: Path | None = None
    registration: Path | None = None
    flicker: Path | None = None
    preview: Path | None = None

    @property
    def results(self) -> list[Path]:
        """Every file that it writes."""
        every = (self.output, self.sheet, self.registration, self.flicker, self.preview)
        return [path for path in every if path is not None]

    @property
    def done(self) -> bool:
        """Whether everything is there. Files are written whole or not at all."""
        return all(path.is_file() for path in self.results)

    @property
    def title(self) -> str:
        """The files that are read."""
        return str(self.infrared) if self.visible is None else f"{self.infrared} + {self.visible}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which files these are."""
    parser.add_argument("infrared", type=Path, help="image, or a folder of images")
    parser.add_argument(
        "visible",
        type=Path,
        nargs="?",
        help="image, or a folder of images; left out if the first has both: a FLIR radiometric "
        "JPEG, or a folder",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="image, or a folder for folders"
    )
    parser.add_argument(
        "--sheet", type=Path, help="also write a before/after picture (a folder for folders)"
    )
    parser.add_argument(
        "--flicker",
        type=Path,
        metavar="FILE",
        help="also write a GIF of registered infrared and visible image in turn (a folder for "
        "folders)",
    )
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write a page of all pairs of folders, worst first, with a before/after picture "
        "of each in the folder FILE_files",
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
        "--resume",
        action="store_true",
        help="leave out pairs whose results are there already, with their row in the table",
    )


def find(options: argparse.Namespace) -> tuple[list[Job], list[str]]:
    """Returns the pairs to work on, and a line for each image that has no partner.

    Raises:
        UsageError: If the options cannot be meant so.
    """
    infrared, visible, output = options.infrared, options.visible, options.output
    given = [path for path in (infrared, visible) if path is not None]
    for path in given:
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    if len({path.is_dir() for path in given}) > 1:
        raise UsageError("infrared and visible must be two images or two folders, not one of each")
    if infrared.is_dir():
        jobs, problems = _of_folders(options)
    elif output.is_dir():
        raise UsageError(f"{output} is a folder: give the name of the image to write")
    elif visible is not None and infrared.samefile(visible):
        raise UsageError(f"{infrared} and {visible} are one file: a pair has two images")
    elif options.pair is not None or options.format is not None:
        raise UsageError("--pair and --format are for folders: -o names the image to write")
    elif options.html is not None:
        raise UsageError("--html is for folders: --sheet shows one pair")
    elif options.flicker is not None and options.flicker.suffix.lower() != ".gif":
        raise UsageError(f"expected a name that ends in .gif, got --flicker {options.flicker}")
    else:
        results = (output, options.sheet, options.save_registration, options.flicker)
        jobs, problems = [Job(infrared.stem, infrared, visible, *results)], []
    _check_places(jobs, options)
    if options.resume:
        table = report_path(options)
        told = None if table is None else report.read(table)
        left = [job for job in jobs if not job.done or (told is not None and job.name not in told)]
        if len(left) < len(jobs):
            print(f"umfuse: {len(jobs) - len(left)} pairs are done already", file=sys.stderr)
        jobs = left
    return jobs, problems


def report_path(options: argparse.Namespace) -> Path | None:
    """Returns where the table goes: of folders, beside their results if it has anything to say."""
    said = options.infrared.is_dir() and (not options.no_align or options.html is not None)
    if options.report is not None or not said:
        return options.report
    return options.output / "registrations.csv"


def _check_places(jobs: Sequence[Job], options: argparse.Namespace) -> None:
    """Refuses results that would take the place of what is read, or of each other."""
    read = {options.registration} | {path for job in jobs for path in (job.infrared, job.visible)}
    sources = {_identity(path) for path in read if path is not None and path.exists()}
    about = [path for path in (report_path(options), options.html) if path is not None]
    exact, folded = dict[Path, Path](), dict[Path, Path]()
    for path in (*about, *(path for job in jobs for path in job.results)):
        if path.exists() and _identity(path) in sources:
            raise UsageError(f"{path} would take the place of an image that is read")
        place = path.parent.resolve() / path.name
        alike = place.with_name(place.name.casefold())
        other = exact.get(place) or folded.get(alike)
        if other is not None and (place in exact or _folds(place.parent)):
            raise UsageError(f"{other} and {path} would be written to one file")
        exact[place] = folded[alike] = path


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _folds(folder: Path) -> bool:
    """Says whether names that differ by case alone are one in a folder."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".umfuse", dir=folder) as file:
            return Path(file.name).with_name(Path(file.name).name.swapcase()).exists()
    except OSError:  # which writing the results will tell
        return False


def _of_folders(options: argparse.Namespace) -> tuple[list[Job], list[str]]:
    from umfuse.files import radiometric

    output = options.output
    files, problems = _paired(options)
    chosen = None if options.format is None else f".{options.format.lstrip('.').lower()}"
    if chosen is not None:
        _check_suffix(chosen, options)
    jobs: list[Job] = []
    for name, (one, other) in files.items():
        # What is written is in the kind of the visible image, or of the infrared one.
        kind = (other or one).suffix.lower() if options.fuse else one.suffix.lower()
        if not options.fuse and radiometric.is_readable(one):
            kind = ".tif"  # degrees
        kept = DEEP if options.fuse and options.grey16 else LOSSLESS
        suffix = chosen or (kind if kind in kept else ".png")
        sheet, table, flicker = options.sheet, options.save_registration, options.flicker
        shown = None if options.html is None else page.pictures(options.html)
        jobs.append(
            Job(
                name,
                one,
                other,
                output / f"{name}{suffix}",
                sheet and sheet / f"{name}.png",
                table and table / f"{name}.npz",
                flicker and flicker / f"{name}.gif",
                shown and shown / f"{name}.jpg",
            )
        )
    for job in jobs:
        for result in job.results:
            result.parent.mkdir(parents=True, exist_ok=True)
    return jobs, problems


def _paired(
    options: argparse.Namespace,
) -> tuple[Mapping[str, tuple[Path, Path | None]], list[str]]:
    """Returns infrared and visible image by name, and a line for each that has no partner."""
    from umfuse.files import radiometric

    infrared, visible = options.infrared, options.visible
    try:
        return pairing.find(infrared, visible or infrared, options.pair)
    except ValueError as error:
        if visible is None and options.pair is None:
            every = pairing.images(infrared)
            whole = {path.stem: (path, None) for path in every if radiometric.is_readable(path)}
            if whole:
                return whole, [f"{one} has no partner" for one in every if one.stem not in whole]
        raise UsageError(error) from error


def _check_suffix(suffix: str, options: argparse.Namespace) -> None:
    from PIL import Image

    if Image.registered_extensions().get(suffix) not in Image.SAVE:
        raise UsageError(f"expected --format such as png, tif or jpg, got {options.format!r}")
    if options.fuse and options.grey16 and suffix not in DEEP:
        raise UsageError(f"--grey16 needs --format png or tif, got {options.format!r}")

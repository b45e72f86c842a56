"""The real pairs of `UMFUSE_DATA` as the benchmarks read them, protocols, and tables.

`python -m benchmarks.data` counts the pairs.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from umfuse import cli, geometry, images
from umfuse.images import Picture

T = TypeVar("T")
CACHE = Path("runs/benchmarks/data")
SETS = {
    "RoadScene, test": ("test/roadscene", "ir", "driving, day and night; other places than train"),
    "RoadScene, train": ("train/roadscene", "ir", "what the networks of the tables learned from"),
    "RoadScene, raw, test": ("test/roadscene", "ir_raw", "as the two cameras saw it"),
    "RoadScene, raw, train": ("train/roadscene", "ir_raw", "as the two cameras saw it"),
    "TNO, test": ("test/tno", "ir", "grey, other cameras and places: nothing was trained on it"),
    "MSRS, test": ("test/msrs_gray", "ir", "driving, grey visible"),
    "SuperFusion, RoadScene": ("test/superfusion_road", "ir_warp", "published warps"),
    "SuperFusion, MSRS": ("test/superfusion_msrs", "ir_warp", "published warps"),
}


@dataclass(frozen=True)
class Pair:
    """An infrared and a visible picture of one name."""

    name: str
    infrared: Picture
    visible: Picture


def root() -> Path:
    """Returns the folder of the data, or ends the program with what to do."""
    folder = os.environ.get("UMFUSE_DATA")
    if not folder or not Path(folder).is_dir():
        sys.exit("Set UMFUSE_DATA to the folder that holds train/ and test/.")
    # Infrared pictures of some sets are stored in colour: known, and not worth a line a picture.
    logging.getLogger("umfuse").setLevel(logging.ERROR)
    return Path(folder)


def pairs(where: str | Path, infrared: str = "ir", visible: str = "vis") -> Iterator[Pair]:
    """Yields the pairs of a set such as ``test/tno``, or of any folder of that layout, by name."""
    folder = root() / where
    others = {path.stem: path for path in (folder / visible).iterdir()}
    for path in sorted((folder / infrared).iterdir()):
        yield Pair(
            path.stem,
            images.read(path, name="infrared"),
            images.read(others[path.stem], name="visible"),
        )


def on_grid(coordinates: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns coordinates ``(1, 2, H, W)`` as seen from another grid over the same picture."""
    scale = geometry.resize_transform(size, (coordinates.shape[-2], coordinates.shape[-1]))
    return geometry.sample(coordinates, geometry.project_grid(scale, size))[0]


def progress(label: str, items: Iterable[T], limit: int | None = None) -> Iterator[T]:
    """Yields at most ``limit`` items and counts them on stderr."""
    for count, item in enumerate(items):
        if limit is not None and count >= limit:
            break
        sys.stderr.write(f"\r{label} {count + 1} ")
        sys.stderr.flush()
        yield item
    sys.stderr.write("\n")


def deformed_name(where: str, protocol: str, side: int | None = None) -> str:
    """Returns what `deformed` calls its folder."""
    return f"{protocol}-{Path(where).name}" + (f"-{side}" if side else "")


def deformed(where: str, protocol: str, side: int | None = None, seed: int = 0) -> Path:
    """Returns the folder of a set deformed by a protocol; `umfuse deform` makes it if missing.

    It has the layout of the published warps, so that any method can read the same inputs.
    """
    folder = (CACHE / deformed_name(where, protocol, side)).resolve()
    if not folder.exists():
        command = ["deform", str(root() / where), str(folder), "--protocol", protocol]
        command += ["--seed", str(seed)] + (["--size", str(side)] if side else [])
        if cli.main(command):
            sys.exit(f"could not deform {where}")
    return folder


def page_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option that `report` follows."""
    parser.add_argument(
        "--page", type=Path, help="also replace the tables of this page, such as docs/results.md"
    )


def report(
    arguments: argparse.Namespace,
    name: str,
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    some: bool = False,
) -> None:
    """Prints a Markdown table, a line as soon as it is there, and puts it on the page if asked.

    On the page a table stands between ``<!-- NAME -->`` and ``<!-- end -->``. Where these are only
    some of its rows, the others stay.
    """
    written = [lines((head, ["---"] * len(head)))]
    print(written[0], flush=True)
    for row in rows:
        written.append(lines([row]))
        print(written[-1], flush=True)
    print()
    if arguments.page is not None:
        text = arguments.page.read_text(encoding="utf-8")
        if some:
            written = _replaced(table_block(text, name), written)
        arguments.page.write_text(with_table(text, name, "\n".join(written)), encoding="utf-8")


def table_block(page: str, name: str) -> str:
    """Returns what stands between ``<!-- NAME -->`` and ``<!-- end -->`` on a page."""
    found = _place(name).search(page)
    if not found:
        raise ValueError(f"the page has no place for the table {name!r}")
    return found[0]


def _replaced(block: str, written: list[str]) -> list[str]:
    """Returns the rows of a table that was there, those that have been written in their places."""
    new = {_names(row): row for row in written[1:]}
    old = [line for line in block.splitlines() if line.startswith("| ")][2:]
    kept = [new.pop(_names(row), row) for row in old]
    return [written[0], *kept, *new.values()]


def _names(row: str) -> tuple[str, ...]:
    """Returns what a row is called: its cells before the first number."""
    cells = (cell.strip() for cell in row.split("|")[1:])
    return tuple(takewhile(lambda cell: not cell[:1].isdigit(), cells))


def with_table(page: str, name: str, table: str) -> str:
    """Returns a page with another table between ``<!-- NAME -->`` and ``<!-- end -->``."""
    table_block(page, name)
    return _place(name).sub(lambda _: f"\n{table}\n\n", page, count=1)


def _place(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {re.escape(name)} -->\n).*?(?=<!-- end -->)", re.DOTALL)


def lines(rows: Iterable[Sequence[object]]) -> str:
    """Returns lines of a Markdown table; floats with three significant digits or so."""
    return "\n".join(f"| {' | '.join(_short(value) for value in row)} |" for row in rows)


def _short(value: object) -> str:
    if isinstance(value, float):
        for bound, digits in ((0.1, 4), (1, 3), (100, 2)):
            if abs(value) < bound:
                return f"{value:.{digits}f}"
        return f"{value:.0f}"
    return str(value)


def main() -> None:
    """Prints the table of the sets."""
    parser = argparse.ArgumentParser(description="Counts the pairs of every set.")
    page_option(parser)
    arguments = parser.parse_args()
    folder = root()
    rows = (
        (name, len(list((folder / where / infrared).iterdir())), what)
        for name, (where, infrared, what) in SETS.items()
    )
    report(arguments, "sets", ("set", "pairs", "what"), rows)


if __name__ == "__main__":
    main()

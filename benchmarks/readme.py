"""Copies figures from the results page into README.md: `python -m benchmarks.readme`.

A table of README.md between ``<!-- NAME -->`` and ``<!-- end -->`` shows rows and columns of tables
that the benchmarks wrote on docs/results.md; `TABLES` says which. No figure is typed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from benchmarks import data

Cells = Mapping[str, Mapping[str, str]]
"""A table: its cells by the first cell of the row, then by the head of the column."""


class Copy(NamedTuple):
    """A table of README.md."""

    rows: Mapping[str, str]
    """What a row is called, and its first cell on the results page."""
    columns: Mapping[str, tuple[str, ...]]
    """What a column is called; the table on the results page, and which of its columns."""


def same(*names: str) -> dict[str, str]:
    """Returns names for themselves."""
    return {name: name for name in names}


MEDIAN = "error, px: median"
REGISTERED = {
    "`paper`, RoadScene": "paper-roadscene-256",
    "`paper`, TNO": "paper-tno-256",
    "`large`, RoadScene": "large-roadscene",
    "`large`, TNO": "large-tno",
    "raw RoadScene": "raw-test",
}
FUSED = {"TNO": "fusion-tno", "RoadScene": "fusion-roadscene", "MSRS": "fusion-msrs_gray"}
TABLES = {
    "robustness": Copy(
        {
            "two cameras side by side": "raw",
            "aligned already": "aligned",
            "field of view 1.5": "FOV 1.5",
            "field of view 2": "FOV 2",
            "field of view 3": "FOV 3",
            "field of view 0.5": "FOV 0.5",
            "field of view 0.25": "FOV 0.25",
            "turned by 10 degrees": "rotated 10",
            "turned by 20 degrees": "rotated 20",
            "turned by 90 degrees": "rotated 90",
            "left and right exchanged": "mirrored",
            "infrared of 160x120": "160x120",
            "infrared of 80x60": "80x60",
            "infrared of 32x24": "32x24",
            "letterbox bars": "bars above and below",
            "edges drawn into the infrared image": "edge overlay",
            "closed shutter: infrared constant": "constant infrared",
            "images of two scenes": "wrong pair",
        },
        {
            name: ("robustness", column)
            for name, column in (
                *(("pairs", "pairs"), ("right, < 5 px", "< 5 px"), ("< 10 px", "< 10 px")),
                *(("confidence, median", "confidence"), ("sure and wrong", "above 0.5 and wrong")),
            )
        },
    ),
    "registration": Copy(
        same(
            *("misaligned input", "SimpleITK MI", "ECC", "SIFT+RANSAC", "FlowNet+STN + CPSTN"),
            *("VoxelMorph + CPSTN", "MRRN + CPSTN", "umfuse"),
        ),
        {name: (table, MEDIAN) for name, table in REGISTERED.items()},
    ),
    "fusion": Copy(
        same("average", "saliency mean", "maximum", "Laplacian pyramid", "paper's DIFN", "umfuse"),
        {name: (table, "VIF", "Qabf", "mean rank") for name, table in FUSED.items()},
    ),
}


def cells(page: str, name: str) -> Cells:
    """Returns the table of a page that stands under a name."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in data.table_block(page, name).strip().splitlines()
    ]
    head = lines[0]
    return {row[0]: dict(zip(head, row, strict=True)) for row in lines[2:]}


def table(copy: Copy, page: str) -> str:
    """Returns a table of README.md with the figures of the results page."""
    tables = {source[0]: cells(page, source[0]) for source in copy.columns.values()}
    rows = [["", *copy.columns], ["---"] * (1 + len(copy.columns))]
    for label, row in copy.rows.items():
        rows.append([label])
        for source, *columns in copy.columns.values():
            try:
                found = [tables[source][row][column] for column in columns]
            except KeyError as missing:
                raise ValueError(f"the table {source!r} has no {missing} (row {row!r})") from None
            rows[-1].append(" / ".join(found))
    return data.lines(rows)


def filled(readme: str, page: str) -> str:
    """Returns README.md with every table of `TABLES` as the results page has it."""
    for name, copy in TABLES.items():
        readme = data.with_table(readme, name, table(copy, page))
    return readme


def main() -> None:
    """Writes README.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    arguments = parser.parse_args()
    readme, page = (one.read_text(encoding="utf-8") for one in (arguments.readme, arguments.page))
    arguments.readme.write_text(filled(readme, page), encoding="utf-8")


if __name__ == "__main__":
    main()

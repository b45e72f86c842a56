"""The table of a run: what was found of every pair, as a CSV and a page, whole at any moment."""

from __future__ import annotations

import csv
import io
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from umfuse.cli import page
from umfuse.cli.common import MIN_CONFIDENCE

if TYPE_CHECKING:
    from umfuse.api import Registration

NUMBERS = ("confidence", "log_likelihood", "runner_up", "correlation")
COLUMNS: tuple[str, ...] = ("pair", "method", *NUMBERS, "error")
PAUSE = 5.0  # seconds from one writing to the next: long runs have long tables


class Report:
    """Rows that are written while they come, and all of them at the end, also after Ctrl-C.

    Args:
        path: The CSV, replaced at once; None writes nothing.
        resume: Keep what the CSV says of pairs that went well and are not looked at again.
        page: The same as a page with pictures, if wanted.
        min_confidence: What the page calls doubtful is below it.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        resume: bool = False,
        page: Path | None = None,
        min_confidence: float = MIN_CONFIDENCE,
    ) -> None:
        self.path, self.page, self.min_confidence = path, page, min_confidence
        self.rows = read(path) if resume and path is not None else {}
        self.written = -math.inf

    def __enter__(self) -> Report:
        self._write()  # a place that cannot be written to is found out before the work
        return self

    def __exit__(self, *error: object) -> None:
        self._write()

    def add(self, pair: str, registration: Registration | None, error: str = "") -> None:
        """Adds a row.

        Args:
            pair: The stem of its images; empty for a line that is about one image alone.
            registration: Its method and numbers; None where there is none.
            error: What went wrong, if anything did.
        """
        numbers = [getattr(registration, name, math.nan) for name in NUMBERS]
        known = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
        method = "" if registration is None else registration.method
        self.rows[pair or error] = (pair, method, *known, " ".join(error.split()))
        if time.monotonic() - self.written > PAUSE:
            self._write()

    def _write(self) -> None:
        if self.path is not None:
            from umfuse import files

            text = io.StringIO(newline="")
            # In one order, however often the run was stopped.
            csv.writer(text).writerows((COLUMNS, *sorted(self.rows.values())))
            files.write_text(self.path, text.getvalue())
        if self.page is not None:
            rows = (dict(zip(COLUMNS, row, strict=True)) for row in self.rows.values())
            page.write(self.page, rows, self.min_confidence)
        self.written = time.monotonic()


def read(path: Path) -> dict[str, tuple[str, ...]]:
    """Returns the rows of pairs that went well, by their names; none of another kind of table."""
    if not path.is_file():
        return {}
    # Names of files may be no text.
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        try:
            header, *rows = csv.reader(file)
        except (csv.Error, ValueError):
            return {}
    if tuple(header) != COLUMNS:
        return {}
    return {row[0]: tuple(row) for row in rows if len(row) == len(COLUMNS) and not row[-1]}

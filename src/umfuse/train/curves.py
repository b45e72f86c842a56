"""The log of a run as a picture: how each of its figures went."""

from __future__ import annotations

import json
import os
from pathlib import Path

from PIL import Image

from umfuse import draw


def picture(log: str | os.PathLike[str]) -> Image.Image:
    """Returns the curves of a run, a panel for each figure in the order of the log.

    Args:
        log: ``log.jsonl`` of a run. A last line that is being written is left out.

    Raises:
        ValueError: If it holds no figure, or is no such log.
        OSError: If it cannot be read.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for line in Path(log).read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        try:
            figures: dict[str, float] = json.loads(line)
            step = figures.pop("step")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{os.fspath(log)} is no log of a run: {line.strip()}") from error
        for name, value in figures.items():
            series.setdefault(name, []).append((step, value))
    if not series:
        raise ValueError(f"{os.fspath(log)} holds no figures yet")
    return draw.curves(series)

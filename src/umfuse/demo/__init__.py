"""The pairs of `umfuse demo`: a rendered street by day and by night, and how its cameras differ.

The infrared image is 16-bit, 320x256, the visible one 8-bit colour, 640x480. They are made by
``python -m benchmarks.scenes`` in the project's repository.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["DemoPair", "pair"]


class DemoPair(NamedTuple):
    """A pair of images that is not aligned, and the truth about it."""

    infrared: Path
    """16-bit thermal counts, hundredths of a kelvin."""
    visible: Path
    """8-bit colour."""
    transform: NDArray[np.float64]
    """``(3, 3)``, from visible pixel (x, y, 1) to infrared pixel."""


def pair(*, night: bool = False) -> DemoPair:
    """Returns the pair of the day or the night; both show one street through the same cameras."""
    folder = Path(__file__).with_name("night" if night else "day")
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    transform = np.array(truth["transform"], dtype=np.float64)
    return DemoPair(folder / "infrared.png", folder / "visible.png", transform)

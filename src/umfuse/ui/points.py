"""Places that somebody has pointed at in both images, as a transform."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor

from umfuse import geometry

Place: TypeAlias = tuple[float, float]
"""A share of the width and of the height of an image, each in [0, 1]."""
Pair: TypeAlias = tuple[Place, Place]
"""One place in the infrared image, and in the visible one."""

COUNT = 3
THINNEST = 0.05  # height of a triangle over its longest side


def parsed(text: str) -> list[Pair]:
    """Returns the pairs of a JSON text ``[[[x, y], [x, y]], ...]``, infrared before visible.

    Raises:
        ValueError: If it is something else than three pairs of places.
    """
    try:
        found: Any = json.loads(text)
        pairs: list[Pair] = [
            ((float(a), float(b)), (float(c), float(d))) for (a, b), (c, d) in found
        ]
    except (TypeError, ValueError, RecursionError):
        pairs = []
    inside = all(0 <= share <= 1 for pair in pairs for place in pair for share in place)
    if len(pairs) != COUNT or not inside:
        raise ValueError(f"points: expected {COUNT} pairs of places, each in both images")
    return pairs


def transform(
    pairs: Sequence[Pair], infrared_size: tuple[int, int], visible_size: tuple[int, int]
) -> Tensor:
    """Returns the affine transform ``(3, 3)`` from visible to infrared pixel that pairs say.

    Args:
        pairs: Three of them.
        infrared_size: Height and width.
        visible_size: Height and width.

    Raises:
        ValueError: If the three places of an image lie almost on a line.
    """
    infrared, visible = (
        torch.tensor([_pixel(pair[image], size) for pair in pairs], dtype=torch.float64)
        for image, size in enumerate((infrared_size, visible_size))
    )
    for name, corners in (("infrared", infrared), ("visible", visible)):
        if _thinness(corners) < THINNEST:
            raise ValueError(
                f"points: the three places in the {name} image lie almost on a line; choose "
                "places that are far from each other, such as near three corners"
            )
    return geometry.fit_affine(visible, infrared)


def _pixel(place: Place, size: tuple[int, int]) -> tuple[float, float]:
    """Returns the pixel (x, y) of a place; pixel centres lie at integers."""
    return place[0] * size[1] - 0.5, place[1] * size[0] - 0.5


def _thinness(corners: Tensor) -> float:
    """Returns the height of a triangle ``(3, 2)`` over its longest side."""
    longest = float(torch.pdist(corners).max())
    sides = corners[1:] - corners[0]
    area = cast("Tensor", torch.linalg.det(sides))
    return abs(float(area)) / max(longest, 1e-9) ** 2

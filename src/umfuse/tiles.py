"""Parts of a large image, one after the other: what is computed of one is gone before the next."""

from __future__ import annotations

from collections.abc import Iterator

BAND = 2**20  # pixels of a band: a few numbers for each stay in a few dozen MiB
# Side of a tile: small for the cache of a processor, large beside a network's margin, and whole
# cells of what a network may see.
TILE = 320

Window = tuple[slice, slice]
"""Rows and columns."""


def bands(size: tuple[int, int]) -> Iterator[slice]:
    """Yields the rows of bands that make up an image.

    Args:
        size: Height and width.
    """
    height, width = size
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        yield slice(top, min(height, top + rows))


def squares(size: tuple[int, int]) -> Iterator[Window]:
    """Yields the windows of tiles that make up an image.

    Args:
        size: Height and width.
    """
    height, width = size
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield slice(top, min(height, top + TILE)), slice(left, min(width, left + TILE))

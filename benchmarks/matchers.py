"""Other people's matchers in the tables, by the examples that show how umfuse takes their points.

``vismatch:NAME`` is any matcher of vismatch (``pip install vismatch``), such as ``vismatch:xoftr``;
``transformers:NAME`` a model of the Hub that `transformers` runs. Their weights are downloaded.
"""

from __future__ import annotations

import argparse
import functools
import runpy
from collections.abc import Callable
from pathlib import Path

from benchmarks import methods
from torch import Tensor

from umfuse import matching
from umfuse.filters import luma

EXAMPLES = Path(__file__).parents[1] / "examples"
CLASSES = {"vismatch": "Vismatch", "transformers": "MatchAnything"}

Find = Callable[[Tensor, Tensor], Tensor]


def named(text: str) -> tuple[str, Find]:
    """Reads LIBRARY:NAME; the matcher itself is made when the first pair comes."""
    library, _, name = text.partition(":")
    if library not in CLASSES or not name:
        known = ", ".join(CLASSES)
        raise argparse.ArgumentTypeError(f"expected LIBRARY:NAME, one of {known}, got {text!r}")
    path = EXAMPLES / f"matcher_{library}.py"
    make = functools.cache(lambda: runpy.run_path(str(path))[CLASSES[library]](name))
    return text, lambda infrared, visible: find(make(), infrared, visible)


def find(matcher: matching.PointMatcher, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the homography ``(3, 3)`` of a matcher's points, or plain resizing where few agree.

    The points become a homography as in ``umfuse.register(..., matcher=)``; no network refines it.
    """
    lumas = (infrared[0, 0].numpy(), luma(visible)[0, 0].numpy())
    size, _ = methods.sizes(infrared, visible)
    fit = matching.homography(matching.match(matcher, *lumas), size)
    return methods.plain(infrared, visible) if fit is None else fit.transform

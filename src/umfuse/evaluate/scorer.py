"""What scorers have in common: how they are asked, and what they need to read and show images."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from umfuse import images, metrics
from umfuse.evaluate.report import Metric, Scores
from umfuse.images import ImageLike, Picture, Range

Files = Mapping[str, Path]
"""The files of a pair: ``ir``, ``vis`` and, if they are asked for, ``input`` and ``result``."""


class Scorer(Protocol):
    """Measures pairs one by one and keeps nothing of them."""

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """What `score` measures, by the head of the column, in order."""
        ...

    @property
    def rank_by(self) -> str:
        """The head that says most about how good a pair is."""
        ...

    def score(self, name: str, files: Files) -> dict[str, Scores]:
        """Returns the scores of the ``"result"`` and, where there is one, of the ``"input"``.

        Raises:
            TypeError: If an image is of a kind that cannot be read.
            ValueError: If the pair cannot be measured.
            OSError: If a file cannot be read.
        """
        ...

    def draw(self, name: str, files: Files, caption: str) -> Image.Image:
        """Returns a picture of what `score` measures, its result with a caption."""
        ...


def described(measure: Callable[..., Tensor], better: str, *, pixels: bool = False) -> Metric:
    """Returns a function of `umfuse.metrics` as a column of figures."""
    first = (inspect.getdoc(measure) or "").partition("\n\n")[0].removeprefix("Returns ")
    return Metric(" ".join(first.split()), better, pixels)


def by_head(measures: Mapping[str, Callable[..., Tensor]]) -> dict[str, Metric]:
    """Returns the columns of `metrics.FUSION` or `metrics.REGISTRATION`."""
    return {
        head: described(measure, "lower" if head in metrics.LOWER_IS_BETTER else "higher")
        for head, measure in measures.items()
    }


def numbers(found: Mapping[str, Tensor | float]) -> Scores:
    """Returns measured values as floats.

    Raises:
        ValueError: If one is not finite.
    """
    scores = {head: float(value) for head, value in found.items()}
    if odd := [head for head, value in scores.items() if not math.isfinite(value)]:
        raise ValueError(f"{', '.join(odd)} of this pair is not finite")
    return scores


class Ranges(NamedTuple):
    """Which values of a pair become 0 and 1, as in `umfuse.fuse`."""

    ir: Range | None = None
    vis: Range | None = None

    def infrared(self, source: ImageLike, like: Picture | None = None) -> Picture:
        """Reads an infrared image, in the range of another if its values are of the same type."""
        return _alike(images.read(source, range=self.ir, option="ir_range"), like)

    def visible(self, source: ImageLike, like: Picture | None = None) -> Picture:
        """Reads a visible or fused image, as `infrared`."""
        return _alike(images.read(source, range=self.vis or "dtype", option="vis_range"), like)


def _alike(picture: Picture, like: Picture | None) -> Picture:
    if picture.missing is not None:
        raise ValueError(
            f"expected images that are data everywhere, got one with {int(picture.missing.sum())} "
            "pixels that are none (NaN, or as its file says): scores are of all pixels, crop it"
        )
    if like is not None and like.form.dtype == picture.form.dtype:
        picture = replace(picture, low=like.low, span=like.span)
    return picture


def check_size(picture: Picture, reference: Picture, what: str) -> None:
    """Raises `ValueError` if a picture has not the size of the reference."""
    if picture.size != reference.size:
        raise ValueError(
            f"expected the {what} image to have the size of the aligned infrared one, "
            f"{reference.size[1]} x {reference.size[0]}, got {picture.size[1]} x {picture.size[0]}"
        )


def shown(picture: Picture) -> NDArray[np.float32]:
    """Returns a picture for `umfuse.draw`, (H, W, 3) in [0, 1]."""
    return picture.rgb[0].movedim(0, -1).numpy()

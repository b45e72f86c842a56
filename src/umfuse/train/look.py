"""Pairs are looked at before they are trained on: opened, and whether they lie as they should."""

from __future__ import annotations

import csv
import io
import logging
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import tqdm
from torch import Tensor

from umfuse import draw, files, filters, geometry, search
from umfuse.train.data import PairDataset

logger = logging.getLogger(__name__)

LOOKED = 8  # pairs
SURE = 0.5  # confidence of a search that is believed
FAR = 10.0  # pixels of an infrared image of 640, between registered and not
SHOWN = 6  # pairs of the sheet
NAMED = 5  # damaged images that an error names


def opened(pairs: PairDataset) -> None:
    """Opens every image once, so that a damaged one does not end a training hours later.

    Raises:
        ValueError: If some cannot be read; it names them.
    """
    broken: list[str] = []
    bar: Any = tqdm(range(len(pairs)), desc="opening", unit="pair", name="umfuse.look")
    for index in bar:
        try:
            pairs[index]
        except (OSError, TypeError, ValueError) as error:
            broken.append(f"{pairs.stems[index]}: {error}")
    if broken:
        more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise ValueError(
            f"{len(broken)} of {len(pairs)} pairs cannot be read: {'; '.join(broken[:NAMED])}{more}"
        )


def registered(pairs: PairDataset) -> None:
    """Looks at up to eight pairs, which are to be registered, by the search.

    Raises:
        ValueError: If most of those that the search is sure of are far from it.
    """
    step = max(1, -(-len(pairs) // LOOKED))
    distances = [distance(*pairs.as_read(stem)) for stem in pairs.stems[::step]]
    known = torch.tensor([one for one in distances if one is not None])
    far = int((known > FAR).sum())
    logger.info("%d pairs looked at, of %d known: %s px", len(distances), len(known), known)
    if 2 * far > len(known):
        raise ValueError(
            f"{far} of {len(distances)} pairs that were looked at are not registered: they are "
            f"{float(known.median()):.0f} px apart. Align them first (registered=False, "
            "--unregistered), or insist that they are registered (registered=True, "
            "--yes-registered)"
        )


def distance(infrared: Tensor, visible: Tensor) -> float | None:
    """Returns how far a pair is from being registered, on the mean over corners and centre.

    Args:
        infrared: ``(1, 1, h, w)`` in [0, 1].
        visible: ``(1, 3, H, W)`` in [0, 1].

    Returns:
        Pixels of an infrared image of 640; None where the search is not sure.
    """
    found = search.find_transform(infrared, filters.luma(visible))
    if found.confidence < SURE:
        return None
    height, width = infrared.shape[-2:]
    size = (visible.shape[-2], visible.shape[-1])
    plain = geometry.resize_transform(size, (height, width))
    gaps = geometry.corners(found.transform, size) - geometry.corners(plain, size)
    return float(gaps.square().sum(-1).sqrt().mean()) * 640 / max(height, width)


def left_out(pairs: PairDataset, folder: Path) -> None:
    """Writes which pairs an aligner left out, with a picture of the worst; nothing if none was.

    Args:
        pairs: The pairs.
        folder: Where to, ``left_out.csv`` and ``left_out.png``.
    """
    if not pairs.dropped:
        return
    worst = sorted(pairs.dropped, key=lambda stem: pairs.confidence[stem])
    folder.mkdir(parents=True, exist_ok=True)
    rows = ((stem, f"{pairs.confidence[stem]:.4f}") for stem in worst)
    text = io.StringIO(newline="")
    csv.writer(text).writerows((("pair", "confidence"), *rows))
    files.write_text(folder / "left_out.csv", text.getvalue())
    panels: list[tuple[str, draw.Displayable]] = []
    for stem in worst[:SHOWN]:
        infrared, visible = pairs.as_read(stem)
        size = (visible.shape[-2], visible.shape[-1])
        plain = geometry.resize_transform(size, (infrared.shape[-2], infrared.shape[-1]))
        resized = geometry.sample(infrared, geometry.project_grid(plain, size))[0]
        shown, grey = (image[0].movedim(0, -1).numpy() for image in (visible, resized))
        panels += [
            (f"{stem}: infrared", infrared[0].movedim(0, -1).numpy()),
            (f"visible, confidence {pairs.confidence[stem]:.2f}", shown),
            ("infrared, only resized", draw.checkerboard(grey, shown)),
        ]
    files.save(draw.sheet(panels, max_width=320), folder / "left_out.png")

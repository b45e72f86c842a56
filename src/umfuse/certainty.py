"""How far two pictures support their alignment, pixel by pixel: no learning, no parameters.

Around each pixel the orientation features of both are compared as they are laid, and with the
infrared one moved by a little in every direction. Where they agree as laid and nowhere else, the
alignment is certain. Where they agree better elsewhere it is wrong there, and where there is
nothing to compare, or all places look alike, nobody knows.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import borders, filters
from umfuse.borders import Box
from umfuse.picture import Picture
from umfuse.search import features, likelihood

HELD = 1024  # pixels of the long side of a visible picture that is held to be looked at, at most
SIDE = 320  # pixels of the long side of what both pictures show, as it is compared
REACH, STEP = 12, 2  # pixels: how far the infrared picture is moved, and from place to place
RIGHT = 2.9  # pixels from where it is laid that count as the same place
CELL = 4  # pixels of a side of what one number is said of
AROUND = 4  # cells to each side that are looked at with it, and as many again that count less
SIGMA = 1.0  # blur of the features, pixels
ALL = 0.999  # of a pixel of that size has infrared data
LITTLE = 0.3  # of the mean power of the features: what is flatter says nothing


def held(visible: Picture) -> Tensor:
    """Returns the luma ``(1, 1, h, w)`` of a picture, as little of it as may be looked at later.

    Of a large one some pixels are kept: means over all would take time of those who never ask.
    """
    step = math.ceil(max(visible.size) / HELD)
    if step == 1:
        return visible.luma
    values = visible.values[..., step // 2 :: step, step // 2 :: step]
    return replace(visible, values=values, missing=None, alpha=None).luma


def of(registered: Tensor, visible: Tensor, valid: Tensor) -> Tensor:
    """Returns how certain the alignment of a pair is.

    Args:
        registered: ``(1, 1, h, w)`` in [0, 1], infrared on the grid of ``visible``.
        visible: `held` of the visible image.
        valid: ``(1, 1, h, w)`` bool, where there is infrared data.

    Returns:
        ``(1, 1, h, w)`` in [0, 1].
    """
    found = torch.zeros_like(visible)
    frame = _frame(valid)
    if frame is None:
        return found
    scale = SIDE / max(frame.size)
    size = [max(CELL, round(side * scale)) for side in frame.size]
    both = borders.part(torch.cat((registered, visible, valid.float()), 1), frame)
    both = F.interpolate(both, size, mode="bilinear", antialias=True)
    cells = support(both[:, :1], both[:, 1:2], both[:, 2:] > ALL)
    whole = F.interpolate(cells, scale_factor=float(CELL), mode="bilinear")
    whole = F.interpolate(whole[..., : size[0], : size[1]], frame.size, mode="bilinear")
    borders.part(found, frame).copy_(whole)
    return found * valid


def support(registered: Tensor, visible: Tensor, valid: Tensor) -> Tensor:
    """Returns how certain it is that two pictures lie right on each other.

    Args:
        registered: ``(1, 1, H, W)`` in [0, 1], infrared on the visible grid.
        visible: ``(1, 1, H, W)`` luma in [0, 1].
        valid: ``(1, 1, H, W)`` bool, where there is infrared data.

    Returns:
        ``(1, 1, h, w)`` in [0, 1], a number for each cell of `CELL` pixels.
    """
    mask = features.eroded(valid.float())
    moving, fixed = (features.whitened(image, SIGMA) * mask for image in (registered, visible))
    height, width = fixed.shape[-2:]
    shifts = range(-REACH, REACH + 1, STEP)
    places = [(x, y) for y in shifts for x in shifts]
    wide = F.pad(torch.cat((moving, moving.square().sum(1, keepdim=True)), 1), (REACH,) * 4)
    power = _around(fixed.square().sum(1, keepdim=True))
    little = LITTLE * power.mean() + 1e-6
    correlations: list[Tensor] = []
    for x, y in places:
        there = wide[..., REACH + y :, REACH + x :][..., :height, :width]
        product = (there[:, :2] * fixed).sum(1, keepdim=True)
        sums = _around(torch.cat((product, there[:, 2:]), 1))
        powers = (power + little) * (sums[:, 1:] + little)
        correlations.append(sums[:, :1] / powers.sqrt())
    pixels = torch.tensor(float((CELL * (2 * AROUND + 1)) ** 2))
    ratios = likelihood.log_likelihood_ratio(torch.cat(correlations, 1), pixels)
    right = torch.tensor([math.hypot(x, y) <= RIGHT for x, y in places])
    share = ratios.softmax(1)[:, right].sum(1, keepdim=True)
    chance = right.float().mean()  # what is left where all places are as good
    return ((share - chance) / (1 - chance)).clamp_min(0)


def _frame(valid: Tensor) -> Box | None:
    """Returns the smallest part of a picture that holds all its valid pixels; None without any."""
    rows, columns = (valid[0, 0].any(axis).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return None
    top, bottom, left, right = (int(x) for x in (rows[0], rows[-1], columns[0], columns[-1]))
    return Box(top, left, bottom + 1, right + 1)


def _around(image: Tensor) -> Tensor:
    """Returns the mean over each cell and those around it."""
    cells = F.avg_pool2d(image, CELL, CELL, ceil_mode=True, count_include_pad=False)
    return filters.box(filters.box(cells, AROUND), AROUND)

"""Edges of the sources that the fused image keeps, and edges that it adds: Qabf and Nabf."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from umfuse import filters
from umfuse.metrics import checks, numeric

_ROUNDING = 1e-5  # grey levels: more than float32 leaves, less than 8-bit images differ by


def qabf(fused: Tensor, infrared: Tensor, visible: Tensor, *, legacy: bool = False) -> Tensor:
    """Returns how much of the edges of both sources the fused image keeps.

    Xydeas and Petrovic, doi:10.1049/el:20000267: per pixel and source the product of two sigmoids,
    of the ratio of edge strengths (0.9994, -15, 0.5) and of the agreement of edge directions
    (0.9879, -22, 0.8); the mean over both sources weighs each pixel by the source's edge strength.
    Sobel edges with replicated borders; directions modulo 180 degrees. In [0, 0.975], higher is
    better; 1 if neither source has an edge, so that there was nothing to keep.

    Args:
        fused: ``(B, 1, H, W)`` in [0, 1].
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: ``(B, 1, H, W)`` in [0, 1].
        legacy: Computes what most papers of this field print: the image ends in black, so that its
            frame counts as an edge that every image keeps (about +0.06 at 256x256), and directions
            just left and right of vertical count as opposite (about -0.02).

    Raises:
        ValueError: See `umfuse.metrics`; sides must have 3 pixels or more.
    """
    fused, sources = checks.sources("qabf", 3, fused, infrared, visible)
    frame = "constant" if legacy else "replicate"
    strength, direction = _sobel(fused, frame)
    strengths, directions = _sobel(sources, frame)
    agreement = _agreement(direction, directions, oriented=legacy)
    quality = _sigmoid(_ratio(strength, strengths), 0.9994, 15, 0.5) * _sigmoid(
        agreement, 0.9879, 22, 0.8
    )
    kept, weight = (value.flatten(1).sum(1) for value in (quality * strengths, strengths))
    return numeric.quotient(kept, weight, otherwise=1.0)


def nabf(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the share of artefacts: edges of the fused image that neither source has.

    Petrovic and Xydeas, doi:10.1109/ICCV.2005.175, as modified by Shreyamsha Kumar,
    doi:10.1007/s11760-012-0361-x, with the constants of his public code::

        sum over pixels where g(F) > g(A) and g(F) > g(B) of (1 - Q_AF) w_A + (1 - Q_BF) w_B
        divided by the sum over all pixels of w_A + w_B

    g is the Sobel strength over 8 on 0..255 with mirrored borders; Q the geometric mean of two
    sigmoids, of the ratio of strengths (0.9999, 19, 0.5) and of the agreement of directions modulo
    180 degrees (0.9995, 22, 0.5); w is ``g^1.5`` from 2 grey levels on, 0.001 below (ports
    to Python have 0). SuperFusion prints it. In [0, 1], lower is better, 0 for a copy or a weighted
    mean of the sources and for a constant image. Blurring lowers it too: read it beside `qabf`.

    Raises:
        ValueError: See `umfuse.metrics`; sides must have 3 pixels or more.
    """
    fused, sources = checks.sources("nabf", 3, fused, infrared, visible)
    strength, direction = _sobel(fused * (255 / 8), "reflect")
    strengths, directions = _sobel(sources * (255 / 8), "reflect")
    quality = (
        _sigmoid(_ratio(strength, strengths), 0.9999, 19, 0.5)
        * _sigmoid(_agreement(direction, directions), 0.9995, 22, 0.5)
    ).sqrt()
    # What is equal in whole grey levels may differ by rounding here.
    weight = torch.where(strengths > 2 - _ROUNDING, strengths**1.5, 0.001)
    added = strength > strengths.amax(1, keepdim=True) + _ROUNDING
    lost = (torch.where(added, 1 - quality, 0.0) * weight).flatten(1).sum(1)
    return lost / weight.flatten(1).sum(1)


def _sobel(image: Tensor, frame: filters.Frame) -> tuple[Tensor, Tensor]:
    """Returns strength and direction, in (-pi/2, pi/2], of Sobel edges of each channel."""
    x, y = filters.sobel(image, frame)
    vertical = x.abs() < 1e-12
    direction = torch.where(vertical, math.pi / 2, (y / torch.where(vertical, 1.0, x)).atan())
    return numeric.root(x.square() + y.square()), direction


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Returns the weaker strength over the stronger, 0 if both are 0."""
    return numeric.quotient(torch.minimum(a, b), torch.maximum(a, b), otherwise=0.0)


def _agreement(a: Tensor, b: Tensor, *, oriented: bool = False) -> Tensor:
    """Returns 1 for equal directions and 0 for perpendicular ones.

    Args:
        a: Directions in (-pi/2, pi/2].
        b: The same.
        oriented: Does not see that directions pi apart are equal, and gives them -1.
    """
    turn = (a - b).abs()
    if not oriented:
        turn = torch.minimum(turn, math.pi - turn)
    return 1 - turn / (math.pi / 2)


def _sigmoid(value: Tensor, height: float, slope: float, centre: float) -> Tensor:
    return height * (slope * (value - centre)).sigmoid()

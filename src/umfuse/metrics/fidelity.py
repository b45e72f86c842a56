"""Visual information fidelity in the pixel domain: VIF and VIFF.

A source is taken for a Gaussian field seen through a noisy visual channel, directly and by way of
the fused image, ``F = g A + V`` in each window; information is that of the two channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import filters
from umfuse.metrics import checks, numeric, windows

_SMALLEST = 41  # the window of the fourth scale just fits
_TINY = 1e-10 / 255**2
_LEAST = 1e-7 * math.log(10)


class _Scale(NamedTuple):
    """One scale: the gain g of the fused image, and the information of each window in nats."""

    gain: Tensor
    kept: Tensor
    total: Tensor


def vif(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the visual information of both sources that the fused image keeps, summed.

    Pixel-domain VIF of Sheikh and Bovik, doi:10.1109/TIP.2005.859378: four scales, Gaussian windows
    of 17, 9, 5 and 3 pixels with sigma a fifth of that, noise variance 2 on 0..255::

        vif(F | A) = sum log(1 + g² var(A) / (var(F - g A) + 2)) / sum log(1 + var(A) / 2)

    ``vif(F | A) + vif(F | B)`` is 0 if nothing is kept; each term is 1 for a perfect copy and may
    be more where contrast is raised. A constant source has nothing to lose: its term is 1.

    The "VIF" of CDDFuse is this. UMF-CMGR and IMF print 0.9 to 1.0, which is out of its reach for a
    weighted mean of the sources; the same sum with the noise of 0..255 on images of [0, 1] comes
    near, and cannot be compared with this.

    Raises:
        ValueError: See `umfuse.metrics`; sides must have 41 pixels or more.
    """
    return vif_of_each(fused, infrared, visible).sum(1)


def vif_of_each(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the two terms of `vif`, ``(B, 2)``: of the infrared and of the visible image."""
    fused, sources = checks.sources("vif", _SMALLEST, fused, infrared, visible)
    kept = total = sources.new_zeros(())
    for scale in _scales(fused, sources, 2 / 255**2):
        kept = kept + scale.kept.sum((2, 3))
        total = total + scale.total.sum((2, 3))
    return numeric.quotient(kept, total, otherwise=1.0)


def viff(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the visual information fidelity for fusion of Han et al.

    doi:10.1016/j.inffus.2011.08.002, with the constants of the authors' public code: scales and
    windows as in `vif`, noise variance 0.005 of the squared range. In every window the source of
    the smaller gain g counts, the visible image if they are equal; a scale is the ratio of the sums
    of what is kept and of what there was, each window with 1e-7 (of log10) more; the scales are
    averaged with the weights 1, 0, 0.15 and 1. From 0, higher is better; 1 for three equal or three
    constant images. UMF-CMGR cites it for a column of 0.9 to 1.0, where a plain average of
    RoadScene pairs has 0.35.

    Raises:
        ValueError: See `umfuse.metrics`; sides must have 41 pixels or more.
    """
    fused, sources = checks.sources("viff", _SMALLEST, fused, infrared, visible)
    result = sources.new_zeros(())
    for weight, scale in zip((1, 0, 0.15, 1), _scales(fused, sources, 0.005), strict=True):
        if weight:
            infrared_counts = scale.gain[:, 0] < scale.gain[:, 1]
            kept, total = (
                torch.where(infrared_counts, map_[:, 0], map_[:, 1]).add(_LEAST).sum((1, 2))
                for map_ in (scale.kept, scale.total)
            )
            result = result + weight / 2.15 * kept / total
    return result


def _scales(fused: Tensor, sources: Tensor, noise: float) -> Iterator[_Scale]:
    """Yields the four scales of a fused image (B, 1, H, W) and its sources (B, 2, H, W)."""
    for octave in range(4):
        size = 2 ** (4 - octave) + 1
        window = filters.gaussian(size, size / 5)
        if octave:
            fused, sources = (
                windows.smooth(image, window)[..., ::2, ::2] for image in (fused, sources)
            )
        _, _, var_fused, var_source, covariance = windows.moments(fused, sources, window)
        # Where the source is flat, or the fused image flat or inverted, nothing is kept.
        var_fused, var_source = (F.threshold(var, _TINY, 0) for var in (var_fused, var_source))
        keeps = (var_fused > 0) & (var_source > 0) & (covariance > 0)
        gain = torch.where(keeps, covariance / torch.where(keeps, var_source, 1.0), 0.0)
        rest = (var_fused - gain * covariance).clamp_min(_TINY)
        yield _Scale(
            gain,
            (1 + gain.square() * var_source / (rest + noise)).log(),
            (1 + var_source / noise).log(),
        )

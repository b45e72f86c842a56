"""Noise of colour: measured, and taken away.

A camera at night shows colours where there are none, and the clearer the luma is that comes from
the infrared image, the more they show.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import filters
from umfuse.filters import precise

RADIUS = 5  # pixels, of the windows in which colour is compared
_AREA = 1024  # side in pixels of the middle of the picture, where noise is measured
_LEVELS = (1.0, 2.0)  # of 255: no noise is weaker, all that is stronger is taken away
_STRENGTH = 2.0  # standard deviations of the noise up to which it is told from colour
_CHANGE = 0.02  # of the range: where the luma changes by that, noise of colour goes
_NORMAL = 0.6745  # median distance of normal values from their mean, in standard deviations
_GAIN = 6.0  # standard deviation of the second difference of white noise of 1


def middle(size: tuple[int, int]) -> tuple[slice, slice]:
    """Returns the rows and columns of a picture in which its noise is measured."""
    height, width = (slice(max(0, (side - _AREA) // 2), (side + _AREA) // 2) for side in size)
    return height, width


def noise(colour: Tensor) -> float:
    """Returns the standard deviation of the noise of colours, the largest of all channels.

    From the median of the second differences across rows and columns (after J. Immerkaer,
    doi:10.1006/cviu.1996.0060), which what a scene shows seldom reaches; of pixels and of squares
    of 2x2, since most files hold colour in these.

    Args:
        colour: ``(B, C, H, W)``, differences from the luma in units of the range.

    Returns:
        A number in the same units, as if each pixel had noise of its own.
    """
    colour = precise(colour)
    if min(colour.shape[-2:]) < 8:
        return 0.0
    squares = F.avg_pool2d(colour, 2)
    return max(_deviation(colour), 2 * _deviation(squares))


def share(deviation: float) -> float:
    """Returns which part of a noise of that standard deviation is taken away, in [0, 1]."""
    low, high = _LEVELS
    return min(1.0, max(0.0, (255 * deviation - low) / (high - low)))


def denoised(colour: Tensor, deviation: float, change: Tensor) -> Tensor:
    """Returns colours without noise: means where they differ by no more, else as they are.

    They stay as they came where the luma does, pixel by pixel.

    A guided filter (K. He et al., doi:10.1109/TPAMI.2012.213) of which each image is its own guide;
    all channels share its weights, so that colours without luma stay so.

    Args:
        colour: ``(B, C, H, W)``, differences from the luma.
        deviation: Of its noise, from `noise`.
        change: ``(B, 1, H, W)``, by how much the luma changes.
    """
    colour, change = precise(colour), precise(change)
    mean = filters.box(colour, RADIUS)
    variance = (filters.box(colour.square(), RADIUS) - mean.square()).mean(1, keepdim=True)
    kept = variance.clamp_min(0)
    kept = kept / (kept + (_STRENGTH * deviation) ** 2)
    smooth = filters.box(kept, RADIUS) * colour + filters.box((1 - kept) * mean, RADIUS)
    weight = (filters.box(change.abs(), RADIUS) / _CHANGE).clamp(0, 1) * (change != 0)
    return torch.lerp(colour, smooth, share(deviation) * weight)


def _deviation(colour: Tensor) -> float:
    second = colour[..., 2:] - 2 * colour[..., 1:-1] + colour[..., :-2]
    second = second[..., 2:, :] - 2 * second[..., 1:-1, :] + second[..., :-2, :]
    return float(second.abs().flatten(2).median(2).values.max()) / (_NORMAL * _GAIN)

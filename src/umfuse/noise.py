"""Noise of sensors: measured, and taken away where it is strong.

What is weak stays, for nobody can tell it from texture: an image with less than the lower of two
bounds comes back as it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import filters
from umfuse.filters import precise

COLOUR_RADIUS, _GREY_RADIUS = 5, 2  # pixels, of the windows in which neighbours are compared
_GREYS, _LINES, _COLOURS = (2.0, 3.0), (2.0, 3.0), (1.0, 2.0)  # of 255: all above is taken away
_CHANGE = 0.02  # of the range: where the luma changes by that around, noise of colour goes
_AREA = 512  # side in pixels of the middle of a picture, where noise is measured
_BLOCK = 16  # pixels; a fifth of such blocks show noise and little else
_NEIGHBOURS = 4  # on each side, that a line is compared with
_NORMAL = 0.6745  # median distance of normal values from their mean, in standard deviations


def without_noise(infrared: Tensor) -> Tensor:
    """Returns infrared images without the stripes and the grain of a microbolometer.

    First what whole columns and rows have in common beyond their neighbours (the median, so that an
    edge of the scene is none), then what differs from pixel to pixel.

    Args:
        infrared: ``(B, 1, h, w)`` in [0, 1], as the sensor has it: not yet resampled.

    Returns:
        The same images, or as many others.
    """
    if min(infrared.shape[-2:]) < 2 * _BLOCK:
        return infrared
    clean = image = precise(infrared)
    if (columns := _stripes(clean)) is not None:
        clean = clean - columns
    if (rows := _stripes(clean.mT)) is not None:
        clean = clean - rows.mT
    level = deviation(_middle_of(clean))
    share = _share(level, _GREYS)
    if bool(share.any()):
        clean = torch.lerp(clean, _smooth(clean, level, _GREY_RADIUS), share)
    return infrared if clean is image else clean.clamp(0, 1)


def deviation(image: Tensor) -> Tensor:
    """Returns the standard deviation of the noise of each image ``(B, C, H, W)``: ``(B, 1, 1, 1)``.

    From second differences across rows and columns (after J. Immerkaer,
    doi:10.1006/cviu.1996.0060): their median in a block, which a few edges do not reach, and of the
    blocks that have any those with the least. The largest of all channels; 0 where the image is
    smaller than a block.
    """
    image = precise(image)
    if min(image.shape[-2:]) < _BLOCK + 2:
        return image.new_zeros(len(image), 1, 1, 1)
    second = image.diff(n=2, dim=-1).diff(n=2, dim=-2).abs()
    down, right = (side // _BLOCK for side in second.shape[-2:])
    second = second[..., : down * _BLOCK, : right * _BLOCK]
    blocks = second.reshape(*second.shape[:2], down, _BLOCK, right, _BLOCK).transpose(3, 4)
    blocks = blocks.flatten(4).median(4).values.flatten(2)
    blocks = torch.where(blocks > 1e-6, blocks, torch.nan)
    # Of white noise of 1 the second difference has a standard deviation of 6.
    least = blocks.nanquantile(0.2, 2).nan_to_num(0.0).amax(1) / (6 * _NORMAL)
    return least[:, None, None, None]


def middle(size: tuple[int, int]) -> tuple[slice, slice]:
    """Returns the rows and columns of a picture in which its noise is measured."""
    height, width = (slice(max(0, (side - _AREA) // 2), (side + _AREA) // 2) for side in size)
    return height, width


def of_colours(colour: Tensor) -> float:
    """Returns the standard deviation of the noise of colours, 0 if it is too weak to be told.

    Args:
        colour: ``(B, C, H, W)``, differences from the luma in units of the range.

    Returns:
        A number in the same units, as if each pixel had noise of its own: most files hold the
        colour of 2x2 pixels as one.
    """
    level = max(float(deviation(colour).max()), 2 * float(deviation(F.avg_pool2d(colour, 2)).max()))
    return level if 255 * level > _COLOURS[0] else 0.0


def without_noise_of_colours(colour: Tensor, level: float, change: Tensor) -> Tensor:
    """Returns colours without noise, where the luma changes; elsewhere they stay bit for bit.

    Args:
        colour: ``(B, C, H, W)``, differences from the luma.
        level: The standard deviation of its noise.
        change: ``(B, 1, H, W)``, by how much the luma changes.
    """
    colour, change = precise(colour), precise(change)
    levels = colour.new_tensor(level)
    # Much around, and something here: beside a place without infrared data the picture goes on.
    around, here = (filters.box(change.abs(), radius) for radius in (COLOUR_RADIUS, 1))
    weight = (around / _CHANGE).clamp(0, 1) * (255 * here).clamp(0, 1) * (change != 0)
    share = weight * _share(levels, _COLOURS)
    return torch.lerp(colour, _smooth(colour, levels, COLOUR_RADIUS), share)


def _share(level: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Returns which part of a noise of that standard deviation is taken away, in [0, 1]."""
    low, high = bounds
    return ((255 * level - low) / (high - low)).clamp(0, 1)


def _middle_of(image: Tensor) -> Tensor:
    rows, columns = middle((image.shape[-2], image.shape[-1]))
    return image[..., rows, columns]


def _stripes(image: Tensor) -> Tensor | None:
    """Returns what columns have of a fixed pattern, ``(B, 1, 1, w)``, or None where it is weak.

    A column that is stronger than noise is of the scene, and so are its neighbours: at a wall or,
    of the rows, a horizon.
    """
    level = _columns(_middle_of(image)).abs().flatten(1).median(1).values / _NORMAL
    level = level[:, None, None, None]
    share = _share(level, _LINES)
    if not bool(share.any()):
        return None
    columns = _columns(image)
    strong = (columns.abs() > 3 * level).to(columns)
    of_the_scene = F.max_pool2d(strong, (1, 2 * _NEIGHBOURS + 1), 1, (0, _NEIGHBOURS)) > 0
    return share * (columns * ~of_the_scene)


def _columns(image: Tensor) -> Tensor:
    """Returns what columns have beyond their neighbours, by the median: ``(B, 1, 1, w)``."""
    around = F.pad(image, (_NEIGHBOURS, _NEIGHBOURS, 0, 0), mode="replicate")
    means = F.avg_pool2d(around, (1, 2 * _NEIGHBOURS + 1), 1)
    return (image - means).median(-2, keepdim=True).values


def _smooth(image: Tensor, level: Tensor, radius: int) -> Tensor:
    """Returns means where images differ by no more than their noise, else what they are.

    A guided filter (K. He et al., doi:10.1109/TPAMI.2012.213) of which each image is its own guide,
    with the weights of Wiener's; all channels share them, so that colours without luma stay so.

    Args:
        image: ``(B, C, H, W)``.
        level: ``(B, 1, 1, 1)``, or one for all: standard deviations of the noise.
        radius: Pixels, of the windows.
    """
    mean = filters.box(image, radius)
    variance = (filters.box(image.square(), radius) - mean.square()).mean(1, keepdim=True)
    kept = ((variance - level.square()) / variance.clamp_min(1e-12)).clamp_min(0)
    return filters.box(kept, radius) * image + filters.box((1 - kept) * mean, radius)

"""How likely a transform is: what the images say of it, and what is known before they are seen.

A candidate is judged by the log-likelihood ratio of "these two feature maps are correlated" against
"they are not", which grows with the correlation and with the number of pixels that carry it: a
small overlap that fits by chance does not win over a large one that fits less well but for a
reason.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor

from umfuse import geometry
from umfuse.search import working
from umfuse.search.view import fitted_size
from umfuse.search.working import WorkingPair

SIZE = 320  # pixels of the infrared long side at which candidates are compared
# A visible image that sees less than this part of the infrared width and height is compared at
# `FINE` times the size: few pixels would be left to tell its place from chance.
SMALL_PART, FINE = 0.5, 2
SIGMA = 1.0
STRIDE = 2  # pixels of that size from one that is compared to the next: they are blurred
PIXELS_PER_SAMPLE = 16.0  # neighbouring feature pixels are not independent
# Weak Gaussian prior: of the log scale, the rotation in degrees, the shift in frames.
SCALE_SPREAD, ROTATION_SPREAD, SHIFT_SPREAD = 0.5, 8.0, 0.35
HALF_RIGHT = 3.5  # times as far as the infrared camera: half of what is found is within 5 pixels
UNLIKELY = -12.0  # log prior of what is none of that: no transform is impossible
NEAR = 0.06  # of the frame: most pairs that arrive are roughly aligned already
NEAR_BONUS = 6.0  # log of about how many more places there are far away than near


def log_likelihood_ratio(correlation: Tensor, pixels: Tensor) -> Tensor:
    """Returns what a correlation over a number of pixels says against chance; 0 if negative."""
    square = correlation.clamp(0, 0.99).square()
    return -0.5 / PIXELS_PER_SAMPLE * pixels * torch.log1p(-square)


def compare(pair: WorkingPair, transforms: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the log-likelihood ratio and the correlation of transforms, ``(N,)`` each.

    Args:
        pair: The images.
        transforms: ``(N, 3, 3)``.
    """
    details = detail(pair, transforms)
    ratios, correlations = torch.empty(2, len(transforms))
    for factor in cast("list[int]", details.unique().tolist()):
        some, longest = details == factor, factor * SIZE
        grid = fitted_size(pair.infrared.size, longest)
        reduce = geometry.resize_transform(pair.infrared.size, grid)
        moved, mask = pair.visible.laid(reduce @ transforms[some], grid, SIGMA, STRIDE)
        fixed = pair.infrared.features(longest, SIGMA)[..., ::STRIDE, ::STRIDE] * mask
        power = moved.square().sum((1, 2, 3)) * fixed.square().sum((1, 2, 3))
        correlation = (moved * fixed).sum((1, 2, 3)) / (power.sqrt() + 1e-3)
        ratio = log_likelihood_ratio(correlation, STRIDE**2 * mask.sum((1, 2, 3)))
        ratios[some], correlations[some] = ratio.cpu(), correlation.cpu()
    return ratios, correlations


def detail(pair: WorkingPair, transforms: Tensor) -> Tensor:
    """Returns by how much the sizes are multiplied at which transforms are looked at, ``(N,)``."""
    fine = _log_scale(pair, transforms) < math.log(SMALL_PART)
    return torch.where(fine, FINE, 1)


def precision(pair: WorkingPair, transforms: Tensor) -> Tensor:
    """Returns the chance that what is right is so within 5 pixels at 640, ``(N,)``.

    Where the visible camera sees further, the infrared frame is a small part of its image, and
    whatever is left there (parallax, lenses, the resolution itself) is so much larger on it. The
    curve is that of train pairs.
    """
    further = _log_scale(pair, transforms).exp().clamp_min(1)
    return 1 / (1 + (further / HALF_RIGHT) ** 4)


def default_transforms(pair: WorkingPair) -> Tensor:
    """Returns what claims least: plain resizing, and square pixels that fit or fill, as known."""
    fov, degrees = pair.known.middle
    (height, width), (h, w) = pair.visible.size, pair.infrared.size
    starts = [pair.plain]
    x, y = w / width, h / height
    if abs(math.log(x / y)) > 0.03:
        middle, target = ((width - 1) / 2, (height - 1) / 2), ((w - 1) / 2, (h - 1) / 2)
        for scale in (min(x, y), max(x, y)):
            sides = (scale * fov, scale * fov)
            starts.append(geometry.similarity_transform(middle, target, sides, degrees))
    return torch.stack(starts)


def log_prior(pair: WorkingPair, transforms: Tensor) -> Tensor:
    """Returns how plausible transforms are before the pictures are compared, ``(N,)``."""
    (height, width), (h, w) = pair.visible.size, pair.infrared.size
    turn = torch.rad2deg(geometry.rotation(transforms[:, :2, :2]))
    middle = torch.tensor([(w - 1) / 2, (h - 1) / 2], dtype=torch.float64)
    places = geometry.corners(transforms, (height, width))
    centre = places[:, 4] - middle
    shift = working.length(centre / torch.tensor([w, h]))
    fovs, (low, high) = pair.known.fovs, pair.known.rests
    # Within what is known every scale and every turn is as likely.
    scale = _log_scale(pair, transforms)
    scale = scale - scale.clamp(*map(math.log, fovs))
    turn = turn - turn.clamp(low, high)
    wide = (scale / SCALE_SPREAD) ** 2 + (turn / ROTATION_SPREAD) ** 2
    # A visible camera that sees further may have the infrared frame at any place of its own.
    reach = SHIFT_SPREAD * max(1.0, pair.known.middle[0])
    wide = -0.5 * (wide + (shift / reach) ** 2)
    wide = torch.logaddexp(wide, torch.full_like(wide, UNLIKELY))
    defaults = geometry.corners(default_transforms(pair), (height, width))[:, None]
    near = working.length(places - defaults).mean(-1).amin(0) / max(h, w)
    return (wide + NEAR_BONUS * (-0.5 * (near / NEAR) ** 2).exp()).float()


def _log_scale(pair: WorkingPair, transforms: Tensor) -> Tensor:
    """Returns the logarithm of the part of the infrared sides that transforms fill, ``(N,)``."""
    (height, width), (h, w) = pair.visible.size, pair.infrared.size
    area = transforms[:, :2, :2].det().abs().clamp_min(1e-6)
    return (area.sqrt() / (w / width * h / height) ** 0.5).log()

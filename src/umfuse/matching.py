"""From the points of any matcher to one homography that bears with the wrong ones.

RANSAC, all hypotheses at once: four random matches make a homography, and it is as good as the
matches that it explains, each by how well, averaged over several scales of noise as in MAGSAC
(Barath et al., 2019, arXiv:1803.07469). The best ones are fitted anew to the matches that they
explain, until these stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from umfuse import geometry

Luma: TypeAlias = NDArray[np.float32]
PointMatcher: TypeAlias = Callable[[Luma, Luma], Sequence[Any]]
"""Infrared ``(h, w)`` and visible ``(H, W)`` luma in [0, 1] -> points of the infrared image
``(N, 2)``, the same points of the visible one ``(N, 2)``, and weights ``(N,)``, None or nothing.
Points are (x, y) pixels whose centres lie at integers; arrays, tensors or lists."""

THRESHOLD = 0.008  # of the infrared long side: a match that is further off is wrong
SMALLEST_THRESHOLD = 2.0  # infrared pixels
SCALES = (0.25, 0.5, 1.0)  # of the threshold: the scales of noise that are averaged over
HYPOTHESES = 2000
JUDGES = 1000  # matches, drawn by their weight, that say which hypotheses are the best
LEADERS = 8  # hypotheses that are fitted anew
FITS = 10  # rounds of fitting anew
LEAST = 8  # matches that must be explained: four always are, and some more by chance


class Matches(NamedTuple):
    """Points of two images that a matcher takes for the same."""

    infrared: Tensor
    """``(N, 2)`` float64 pixels."""
    visible: Tensor
    """``(N, 2)`` float64 pixels."""
    weight: Tensor
    """``(N,)`` float64, positive; of mean 1."""


class Fit(NamedTuple):
    """A homography, and what it explains."""

    transform: Tensor
    """``(3, 3)`` float64, visible pixel to infrared pixel."""
    inliers: Tensor
    """``(N,)`` bool: the matches within the threshold."""
    share: float
    """Of the weight of all matches, that of the inliers."""


def match(matcher: PointMatcher, infrared: Luma, visible: Luma) -> Matches:
    """Returns what a matcher finds, checked; matches of no weight are left out.

    Args:
        matcher: See `PointMatcher`.
        infrared: ``(h, w)`` in [0, 1].
        visible: ``(H, W)`` in [0, 1].

    Raises:
        ValueError: If the matcher returns something else than it should.
    """
    found = matcher(infrared, visible)
    wanted = "the matcher must return infrared points (N, 2), visible points (N, 2), and weights"
    if not isinstance(found, (tuple, list)) or len(found) not in (2, 3):
        raise ValueError(f"{wanted} (N,) or None, as a tuple, got {type(found).__name__}")
    ours, theirs, *rest = found
    points = [_floats(one) for one in (ours, theirs)]
    points = [one if one.numel() else one.reshape(0, 2) for one in points]
    count = len(points[0])
    weight = torch.ones(count).double() if not rest or rest[0] is None else _floats(rest[0])
    shapes = [tuple(one.shape) for one in (*points, weight)]
    if shapes != [(count, 2), (count, 2), (count,)]:
        raise ValueError(f"{wanted} (N,) or None, got shapes {shapes}")
    if not all(bool(one.isfinite().all()) for one in (*points, weight)) or bool((weight < 0).any()):
        raise ValueError(f"{wanted} (N,), all finite and no weight negative")
    used = weight > 0
    infrared_points, visible_points, weight = (one[used] for one in (*points, weight))
    return Matches(infrared_points, visible_points, weight / weight.mean())


def homography(matches: Matches, infrared_size: tuple[int, int], *, seed: int = 0) -> Fit | None:
    """Returns the homography that explains the most of the matches, or None.

    The same matches and seed give the same homography.

    Args:
        matches: Right and wrong ones.
        infrared_size: Height and width; a match is right within 0.8 % of the longer one, but at
            least 2 pixels.
        seed: Of the random hypotheses.

    Returns:
        None if fewer than eight matches agree on a homography.
    """
    if len(matches.weight) < LEAST:
        return None
    threshold = max(SMALLEST_THRESHOLD, THRESHOLD * max(infrared_size))
    generator = torch.Generator().manual_seed(seed)
    hypotheses = _hypotheses(matches, generator)
    judges = _drawn(matches, JUDGES, generator)
    leaders = hypotheses[_scores(judges, hypotheses, threshold).topk(LEADERS).indices]
    candidates = torch.cat([leaders, *(_refitted(matches, one, threshold) for one in leaders)])
    transform = candidates[int(_scores(matches, candidates, threshold).argmax())]
    inliers = _distances(matches, transform[None])[0] <= threshold
    if int(inliers.sum()) < LEAST:
        return None
    share = float(matches.weight[inliers].sum() / matches.weight.sum())
    return Fit(transform, inliers, share)


def _hypotheses(matches: Matches, generator: torch.Generator) -> Tensor:
    """Returns homographies through four random matches each, ``(HYPOTHESES, 3, 3)``."""
    chosen = torch.multinomial(
        matches.weight.expand(HYPOTHESES, -1), 4, replacement=False, generator=generator
    )
    return _fitted(matches.visible[chosen], matches.infrared[chosen])


def _drawn(matches: Matches, count: int, generator: torch.Generator) -> Matches:
    """Returns some of the matches, or all if there are no more."""
    if len(matches.weight) <= count:
        return matches
    chosen = torch.multinomial(matches.weight, count, generator=generator)
    return Matches(matches.infrared[chosen], matches.visible[chosen], torch.ones(count).double())


def _refitted(matches: Matches, transform: Tensor, threshold: float) -> Tensor:
    """Returns a homography fitted again and again to what it explains, ``(1 or fewer, 3, 3)``."""
    before = torch.zeros(len(matches.weight), dtype=torch.bool)
    found = transform[None]
    for _ in range(FITS):
        distance = _distances(matches, found)[0]
        near = distance <= threshold
        if int(near.sum()) < 4:
            return found[:0]
        if bool((near == before).all()):
            break
        before = near
        weight = matches.weight * (1 - (distance / threshold).square()).clamp_min(1e-3)
        found = _fitted(
            matches.visible[None, near], matches.infrared[None, near], weight[None, near]
        )
    return found


def _fitted(visible: Tensor, infrared: Tensor, weight: Tensor | None = None) -> Tensor:
    """Returns the homographies of sets of points ``(B, N, 2)``: ``(B, 3, 3)``."""
    places, images = (points.mT[:, :, None] for points in (visible, infrared))
    fitted = geometry.fit_homography(
        places, images, None if weight is None else weight[:, None, None]
    )
    # Points on a line, or twice the same one, have no homography: what comes explains nothing.
    return fitted.nan_to_num(0.0, 0.0, 0.0)


def _scores(matches: Matches, transforms: Tensor, threshold: float) -> Tensor:
    """Returns how much transforms explain, ``(B,)``."""
    square = (_distances(matches, transforms) / threshold).square()
    explained = torch.zeros_like(square)
    for scale in SCALES:
        explained += (1 - square / scale**2).clamp_min(0)
    return (explained * matches.weight).sum(1)


def _distances(matches: Matches, transforms: Tensor) -> Tensor:
    """Returns how far transforms ``(B, 3, 3)`` miss matches, ``(B, N)`` infrared pixels."""
    points = matches.visible.expand(len(transforms), -1, -1)
    missed = geometry.project_points(transforms, points) - matches.infrared
    return missed.square().sum(-1).sqrt()


def _floats(values: Any) -> Tensor:  # noqa: ANN401  (whatever the matcher gives)
    if isinstance(values, Tensor):
        return values.detach().cpu().double()
    return torch.from_numpy(np.array(values, dtype=np.float64))

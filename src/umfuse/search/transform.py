"""The search itself: from likely starts to one transform, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from umfuse import geometry
from umfuse.search import correlation, ecc, homography, likelihood, working
from umfuse.search.correlation import DISTINCT
from umfuse.search.working import SMALLEST, WorkingPair, size_of

# Sizes are the long side of the image that is searched, in pixels. All values were chosen on the
# RoadScene train split (benchmarks/search.py), none on a test split.
# Upright cameras deserve a fine grid; turned ones are found on a coarse one, which forgives the
# angle between two steps, and refined like the others.
GRIDS = ((216, (0.0,)), (112, (-8.0, -4.0, 4.0, 8.0)))  # size, rotations in degrees
FIRST = 2  # candidates of a grid that are refined before the others
SMALL_SIZE = 160
MIDDLE_SIZE = 320
CLEAR = 150.0  # log posterior that ends the search; wrong places had up to 125
ENOUGH = 10.0  # log posterior below which nothing is moved


class SearchResult(NamedTuple):
    """The global transform between two cameras, and how much speaks for it.

    Attributes:
        transform: ``(3, 3)`` float64, visible pixel ``(x, y, 1)`` to infrared pixel, on the CPU.
            Plain resizing where nothing better was found.
        confidence: In [0, 1]; low means "do not trust this alignment".
        log_likelihood: Log-likelihood ratio of the transform against chance.
        plain: The same for plain resizing.
        runner_up: Log posterior of the best clearly different candidate.
        correlation: Of the orientation features where the images overlap, in [-1, 1].
    """

    transform: Tensor
    confidence: float
    log_likelihood: float
    plain: float
    runner_up: float
    correlation: float


@torch.no_grad()
def find_transform(infrared: Tensor, visible: Tensor) -> SearchResult:
    """Returns the transform from visible to infrared pixels, and how far to trust it.

    Args:
        infrared: Luma in [0, 1], ``(h, w)``, ``(1, h, w)`` or ``(1, 1, h, w)``.
        visible: The same, of any size and aspect of its own.

    Returns:
        A transform that differs from plain resizing only where the evidence asks for it.

    Raises:
        TypeError: An image is not a floating tensor.
        ValueError: An image has another shape.
    """
    vis = _single(visible, "visible")
    ir = _single(infrared, "infrared").to(vis.device)
    size, target = size_of(vis), size_of(ir)
    plain = geometry.resize_transform(size, target)
    if min(*size, *target) < 2 * SMALLEST or float(vis.std()) < 1e-4 or float(ir.std()) < 1e-4:
        return SearchResult(plain, 0.0, 0.0, 0.0, 0.0, 0.0)
    # Everything below happens on reduced images; the transform is mapped back at the end.
    pair = WorkingPair(working.fitted(ir), working.fitted(vis))
    before = geometry.resize_transform(size, size_of(pair.visible))
    after = geometry.resize_transform(target, size_of(pair.infrared))

    middle, ratios, rank = _candidates(pair)
    best = int(rank.argmax())
    far = pair.distance(middle, middle[best]) > DISTINCT
    runner_up = float(rank[far].max()) if bool(far.any()) else 0.0
    base = float(likelihood.compare(pair, pair.plain[None])[0][0])
    if float(rank[best]) < ENOUGH or float(ratios[best]) < base:
        return SearchResult(plain, 0.1 * _logistic(base), base, base, runner_up, 0.0)
    leaders = middle[rank.topk(2).indices]
    # Two starts that met at one place end at one place.
    apart = float(pair.distance(leaders[1:], leaders[0])) > 0.2 * DISTINCT
    refined = torch.stack([homography.refine(pair, one) for one in leaders[: 1 + apart]])
    final, correlations = likelihood.compare(pair, refined)
    top = int((final + likelihood.log_prior(pair, refined)).argmax())
    transform = after.inverse() @ refined[top] @ before
    # A runner-up half as good halves the confidence; repeated structure makes many.
    unique = 1 / (1 + (2 * max(runner_up, 0.0) / float(rank[best])) ** 6)
    return SearchResult(
        transform / transform[2, 2],
        unique * _logistic(float(rank[best]) - max(runner_up, 0.0) - ENOUGH / 2),
        float(final[top]),
        base,
        runner_up,
        float(correlations[top]),
    )


def _candidates(pair: WorkingPair) -> tuple[Tensor, Tensor, Tensor]:
    """Returns refined transforms ``(N, 3, 3)``, their likelihood, and that with their prior."""
    transforms, ratios = torch.empty(0, 3, 3, dtype=torch.float64), torch.empty(0)
    rank = ratios
    for starts in _starts(pair):
        refined = _refined(pair, starts)
        transforms = torch.cat((transforms, refined))
        ratios = torch.cat((ratios, likelihood.compare(pair, refined)[0]))
        rank = ratios + likelihood.log_prior(pair, transforms)
        if float(rank.max()) >= CLEAR:
            break
    return transforms, ratios, rank


def _starts(pair: WorkingPair) -> Iterator[Tensor]:
    """Yields transforms to refine, ``(N, 3, 3)`` each, what is likelier and cheaper first."""
    yield likelihood.default_transforms(pair)
    for longest, rotations in GRIDS:
        found = correlation.candidates(pair, longest, rotations)
        yield found[:FIRST]
        yield found[FIRST:]


def _refined(pair: WorkingPair, starts: Tensor) -> Tensor:
    """Returns the affine maps that starts lead to, two for each: ``(2 N, 3, 3)``."""
    # Two ways up: directly, and by way of a smaller picture, whose hills are wider.
    wide = ecc.refine(pair, starts, SMALL_SIZE, ((1.2, 12),))
    straight = ecc.refine(pair, starts, MIDDLE_SIZE, ((1.5, 12), (1.0, 8)))
    return torch.cat((straight, ecc.refine(pair, wide, MIDDLE_SIZE, ((1.0, 8),))))


def _single(image: Tensor, name: str) -> Tensor:
    """Returns a luma image as ``(1, 1, H, W)`` float32."""
    if not isinstance(image, Tensor) or not image.is_floating_point():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} must be a floating tensor of luma in [0, 1], got {type(image)}")
    if image.ndim not in (2, 3, 4) or image.shape[:-2].numel() != 1 or image.numel() == 0:
        raise ValueError(
            f"{name} must be one luma image of shape (H, W), (1, H, W) or (1, 1, H, W), "
            f"got {tuple(image.shape)}; convert colour to luma and search one pair at a time"
        )
    return image.detach().float().reshape(1, 1, *image.shape[-2:])


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value / 2))

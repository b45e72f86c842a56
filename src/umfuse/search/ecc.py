"""Affine alignment by the enhanced correlation coefficient, for a batch of starts.

Evangelidis and Psarakis, doi:10.1109/TPAMI.2008.113: Gauss-Newton steps on the correlation, which
no gain of either image changes; here over the strongest points of the visible features, damped
after Levenberg and Marquardt.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import geometry
from umfuse.search import features
from umfuse.search.view import fitted_size, size_of
from umfuse.search.working import WorkingPair

POINTS = 1000  # visible edge points that are followed
LARGEST_STEP = 6.0  # pixels


def refine(
    pair: WorkingPair, transforms: Tensor, longest: int, stages: tuple[tuple[float, int], ...]
) -> Tensor:
    """Returns transforms moved to the nearest maximum of the correlation, ``(N, 3, 3)``.

    Args:
        pair: The images.
        transforms: Where to start, ``(N, 3, 3)``.
        longest: The long side of the infrared image that is worked on, pixels.
        stages: Blur and number of steps, one after the other.
    """
    grid = fitted_size(pair.infrared.size, longest)
    reduce = geometry.resize_transform(pair.infrared.size, grid)
    for sigma, steps in stages:
        infrared = pair.infrared.features(longest, sigma)
        points, values = pair.visible.strongest(reduce @ transforms, grid, sigma, POINTS)
        change = maximise(infrared, points, values, steps)
        transforms = reduce.inverse() @ change.cpu().double() @ reduce @ transforms
    return transforms


def maximise(infrared: Tensor, points: Tensor, values: Tensor, steps: int) -> Tensor:
    """Returns the affine maps that best lay visible points onto the infrared features.

    Args:
        infrared: ``(1, 2, H, W)`` features.
        points: ``(B, N, 2)`` where the visible points lie at the start, infrared pixels.
        values: ``(B, N, 2)`` features of the visible points.
        steps: Number of steps.

    Returns:
        ``(B, 3, 3)``, pixel to pixel, the identity where nothing was better.
    """
    size, batch = size_of(infrared), len(values)
    stack = features.with_gradients(infrared)
    normalise = geometry.normalising(size).to(points)
    to_pixel, radius = normalise.inverse(), max(size) / 2
    place = geometry.project_points(normalise, points)
    used = (values.square().sum(-1) > 0).to(values)
    eye = torch.eye(3, device=points.device).repeat(batch, 1, 1)
    best, trial = eye, eye
    reached = torch.full((batch,), -1.0, device=points.device)
    damping = torch.full_like(reached, 1e-3)
    kept: _Normal | None = None
    for step in range(steps + 1):
        seen = geometry.project_points(to_pixel @ trial, place)
        coordinates = seen.movedim(-1, 0)[None]  # one row a start: the sampler wants a picture
        weight = used * geometry.inside(coordinates, size, 0)[0, 0]
        found = geometry.interpolate(stack, coordinates)[0].permute(1, 2, 0)
        found, right, down = found.chunk(3, -1)
        weighted = weight[..., None]
        agree = (weighted * values * found).sum((1, 2))
        power = (weighted * found * found).sum((1, 2))
        own = (weighted * values * values).sum((1, 2))
        kept_points = weight.sum(1) / used.sum(1).clamp_min(1)
        score = agree / (power * own + 1e-9).sqrt() * kept_points.sqrt()
        better = score > reached
        best = torch.where(better[:, None, None], trial, best)
        reached = torch.where(better, score, reached)
        damping = torch.where(better, damping * 0.5, damping * 8).clamp(1e-4, 1e3)
        if step == steps:
            break
        jacobian = _jacobian(place, right, down) * radius
        heavy = (jacobian * weight[..., None, None]).flatten(1, 2).transpose(1, 2)
        fresh = _Normal(
            heavy @ jacobian.flatten(1, 2),
            (heavy @ values.flatten(1)[..., None])[..., 0],
            (heavy @ found.flatten(1)[..., None])[..., 0],
            agree,
            power,
        )
        # A start that got worse goes back to its best point, with more damping.
        kept = fresh if kept is None else kept.replaced(fresh, better)
        change = kept.step(damping)
        moved = radius * change.abs().sum(1, keepdim=True)
        change = change * (LARGEST_STEP / moved.clamp_min(LARGEST_STEP))
        trial = best + F.pad(change, (0, 3)).view(batch, 3, 3)
    return to_pixel @ best @ normalise


class _Normal(NamedTuple):
    """The normal equations of a batch of affine maps."""

    matrix: Tensor
    """``(B, 6, 6)``: of the derivatives with themselves."""
    toward: Tensor
    """``(B, 6)``: with the visible features."""
    own: Tensor
    """``(B, 6)``: with the infrared features."""
    agree: Tensor
    """``(B,)``: of the visible features with the infrared ones."""
    power: Tensor
    """``(B,)``: of the infrared features with themselves."""

    def replaced(self, other: _Normal, where: Tensor) -> _Normal:
        """Returns these equations, of the starts in ``where`` (B,) those of another."""
        return _Normal(
            *(
                torch.where(where.view(-1, *[1] * (new.ndim - 1)), new, old)
                for new, old in zip(other, self, strict=True)
            )
        )

    def step(self, damping: Tensor) -> Tensor:
        """Returns the change of the maps towards a higher correlation, ``(B, 6)``."""
        diagonal = self.matrix.diagonal(dim1=1, dim2=2)
        mean = diagonal.mean(1, keepdim=True)
        ridge = diagonal * damping[:, None] + 1e-4 * mean + 1e-6
        damped = self.matrix + torch.diag_embed(ridge)
        both = torch.stack((self.toward, self.own), -1)
        solved = cast("Tensor", torch.linalg.solve(damped, both))
        above = self.power - (self.own * solved[..., 1]).sum(1)
        below = self.agree - (self.toward * solved[..., 1]).sum(1)
        gain = torch.where(below > 1e-3 * above, above / below.clamp_min(1e-6), 3.0)
        return gain.clamp(0.5, 20)[:, None] * solved[..., 0] - solved[..., 1]


def _jacobian(place: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Returns the derivative of the features by the entries of affine maps, ``(B, N, 2, 6)``."""
    point = F.pad(place, (0, 1), value=1.0)[:, :, None]
    return torch.cat((right[..., None] * point, down[..., None] * point), -1)

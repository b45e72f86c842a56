"""The winner refined to a homography: maximum a posteriori under a prior on pairs of cameras.

The correlation is climbed as in `umfuse.search.ecc`. What little texture leaves open, shear,
perspective, aspect and rotation, is held by a Gaussian prior on these *shape parameters*: pixels
are square, and axes nearly parallel. Many pairs arrive registered, by somebody who could tell more
than faint pictures can: a second prior, of heavy tails, holds plain resizing. It yields to the
Fisher information of clear pictures, and counts for nothing where plain resizing is far away.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import geometry
from umfuse.search import features, likelihood
from umfuse.search.features import BORDER
from umfuse.search.view import size_of, turned
from umfuse.search.working import WorkingPair

# One after the other: infrared long side, blur, stride of the points, largest number of steps.
STAGES = ((320, 1.3, 2, 10), (320, 0.8, 2, 10), (480, 0.8, 2, 8))
# Standard deviations of the shape parameters, with the half long side as unit.
SPREADS = (0.01, 0.02, 0.02, 0.1, 0.02)
TURN = 4  # which of them is the rotation: its prior has heavy tails, for cameras that are turned
# Distance from plain resizing, with the same unit, and the weight of its prior, a t distribution.
AWAY_SPREAD, AWAY_WEIGHT = 0.03, 24.0
PIXELS_PER_TERM = 32.0  # as likelihood.PIXELS_PER_SAMPLE, where the prior is weighed
CONVERGED = 2e-4  # of the half long side: 0.05 pixels at 480
LARGEST_STEP = 0.1  # of the entries of a normalised homography


def refine(pair: WorkingPair, transform: Tensor) -> Tensor:
    """Returns the homography ``(3, 3)`` nearest to a transform that is likeliest a posteriori."""
    from_visible = geometry.normalising(pair.visible.size)
    from_infrared = geometry.normalising(pair.infrared.size)
    current, plain = (
        from_infrared @ one @ from_visible.inverse() for one in (transform, pair.plain)
    )
    current = current / current[2, 2]
    detail = int(likelihood.detail(pair, transform[None]))
    for longest, sigma, stride, steps in STAGES:
        posterior = _Posterior(pair, plain, longest, sigma, stride, current, detail)
        current = _maximise(posterior, current, steps)
    return from_infrared.inverse() @ current @ from_visible


def shape_parameters(maps: Tensor) -> Tensor:
    """Returns shear, perspective (2), log aspect and rotation of normalised maps: ``(B, 5)``."""
    maps = maps / maps[:, 2:, 2:]
    linear = maps[:, :2, :2] - maps[:, :2, 2:] * maps[:, 2:, :2]  # at the middle of the image
    (a, b), (c, d) = (row.unbind(-1) for row in linear.unbind(1))
    shear, turn = b / a + c / d, (c / d - b / a) / 2
    return torch.stack((shear, maps[:, 2, 0], maps[:, 2, 1], (d / a).abs().log(), turn), 1)


class _Posterior:
    """The log posterior of normalised homographies of a pair, at one size of its images.

    Args:
        pair: The images.
        plain: ``(3, 3)``, plain resizing, normalised.
        longest: The long side of the infrared image, pixels.
        sigma: Blur of the features, pixels.
        stride: Pixels from one visible point to the next.
        start: ``(3, 3)`` normalised, near to what will be asked for: both images are looked at at
            one scale, and the features of the visible one turned, as this one has them.
        detail: By how much sizes are multiplied, as `likelihood.detail` has it.
    """

    def __init__(
        self,
        pair: WorkingPair,
        plain: Tensor,
        longest: int,
        sigma: float,
        stride: int,
        start: Tensor,
        detail: int,
    ) -> None:
        self.plain, longest = plain, detail * longest
        infrared = pair.infrared.features(longest, sigma)
        scale = float(start[:2, :2].det().abs().sqrt())  # to normalised infrared points
        visible = pair.visible.features(round(longest * scale), sigma)
        self.size, size = size_of(infrared), size_of(visible)
        self.infrared = features.with_gradients(infrared)
        inner = (..., slice(BORDER, -BORDER, stride), slice(BORDER, -BORDER, stride))
        place = geometry.identity_grid(*size, device=visible.device)[inner]
        normalise = geometry.normalising(size).to(place)
        # All that follows is of N visible points: (2, N) each.
        self.points = geometry.project(normalise, place)[0].flatten(1)
        values = visible[inner].flatten(2).movedim(1, -1)
        self.values = turned(values, start[None, :2, :2])[0].T
        self.samples = (stride * detail * likelihood.SIZE / max(self.size)) ** 2 / PIXELS_PER_TERM
        self.to_pixel = geometry.normalising(self.size).inverse().to(place)
        x, y = self.points
        one, zero = torch.ones_like(x), torch.zeros_like(x)
        # How a point moves by each entry of a map near the identity: (2, 8, N).
        self.basis = torch.stack(
            (
                torch.stack((x, y, one, zero, zero, zero, -x * x, -x * y)),
                torch.stack((zero, zero, zero, x, y, one, -x * y, -y * y)),
            )
        )
        flat = self.basis.movedim(0, 1).flatten(1).double().cpu()
        # Of entries near the identity: how far they move a point on the mean, squared.
        self.moved = flat @ flat.T / x.numel()

    def __call__(self, homography: Tensor) -> tuple[float, Tensor]:
        """Returns the log posterior, up to a constant, and the step towards a higher one.

        Args:
            homography: ``(3, 3)`` float64, normalised visible to normalised infrared.

        Returns:
            The step ``(3, 3)`` is multiplied from the right: ``homography @ (1 + step)``.
        """
        matrix = homography.to(self.points)
        seen = geometry.project(matrix, self.points[None, :, None])  # (1, 2, 1, N)
        coordinates = geometry.project(self.to_pixel, seen)
        inside = geometry.inside(coordinates, self.size, 1)[0, :, 0].to(seen)  # (1, N)
        sampled = geometry.interpolate(self.infrared, coordinates)[0, :, 0]
        found, right, down = (part * inside for part in sampled.chunk(3))
        values = self.values * inside
        agree, power = float((values * found).sum()), float(found.square().sum())
        own = float(values.square().sum())
        correlation = min(max(agree / math.sqrt(power * own + 1e-9), 1e-3), 0.98)
        weight = float(inside.sum()) * self.samples
        shape = shape_parameters(homography[None])[0]
        prior = torch.tensor(SPREADS, dtype=torch.float64) ** -2
        tail = 1 + float(prior[TURN] * shape[TURN].square())
        score = -0.5 * weight * math.log1p(-(correlation**2)) - 0.5 * math.log(tail)
        score -= 0.5 * float((prior * shape.square())[:TURN].sum())
        prior[TURN] /= tail  # what its slope is that of, here

        seen = seen[0, :, 0]
        depth = matrix[2, :2] @ self.points + matrix[2, 2]
        # The derivative of what is seen (first axis) by where the point is (second one).
        turn = (matrix[:2, :2, None] - seen[:, None] * matrix[2, :2, None]) / depth
        gradient = self.to_pixel[0, 0] * torch.stack((right, down))  # of the features
        along = (gradient[:, None] * turn[:, :, None]).sum(0)  # (2, features, N)
        slopes = (along[:, None] * self.basis[:, :, None]).sum(0).flatten(1)  # (8, 2 N)
        normal = (slopes @ slopes.T).double().cpu()
        toward = (slopes @ values.flatten()).double().cpu()
        own_slope = (slopes @ found.flatten()).double().cpu()
        gain = self._gain(normal, toward, own_slope, agree, power, own)
        square = correlation**2
        unit = weight * square / ((1 - square) * power + 1e-9)
        # The derivative of the shape parameters, (5, 8).
        nudges = F.pad(1e-4 * torch.eye(8, dtype=torch.float64), (0, 1)).view(8, 3, 3)
        nudged = homography @ (torch.eye(3, dtype=torch.float64) + nudges)
        bend = ((shape_parameters(nudged) - shape) / 1e-4).T
        away = homography.inverse() @ self.plain
        away = (away / away[2, 2] - torch.eye(3, dtype=torch.float64)).flatten()[:8]
        held = self.moved / AWAY_SPREAD**2
        tail = 1 + float(away @ held @ away)
        score -= AWAY_WEIGHT * math.log(tail)
        held = held * 2 * AWAY_WEIGHT / tail  # of a normal prior of the same slope, as above
        push = unit * (gain * toward - own_slope) - bend.T @ (prior * shape) + held @ away
        curvature = unit * normal + bend.T @ (prior[:, None] * bend) + held
        change = _solve(curvature + torch.diag(1e-3 * curvature.diagonal() + 1e-9), push)
        change = change.clamp(-LARGEST_STEP, LARGEST_STEP)
        return score, F.pad(change, (0, 1)).view(3, 3)

    @staticmethod
    def _gain(
        normal: Tensor, toward: Tensor, own_slope: Tensor, agree: float, power: float, own: float
    ) -> float:
        """Returns the gain of the visible features that the enhanced correlation implies."""
        damped = normal + torch.diag(normal.diagonal() * 1e-6 + 1e-9)
        solved = _solve(damped, torch.stack((toward, own_slope), 1))
        above = power - float(own_slope @ solved[:, 1])
        below = agree - float(toward @ solved[:, 1])
        gain = above / below if below > 1e-9 else math.sqrt(power / max(own, 1e-12))
        return min(max(gain, 0.1), 20.0)


def _maximise(posterior: _Posterior, start: Tensor, steps: int) -> Tensor:
    """Returns the normalised homography of the highest posterior on the way up from a start."""
    current, best, highest = start, start, -math.inf
    converged = False
    for _ in range(steps + 1):
        score, change = posterior(current)
        if score > highest:
            best, highest = current, score
        if converged:
            break
        current = current @ (torch.eye(3, dtype=torch.float64) + change)
        current = current / current[2, 2]
        converged = float(change.abs().max()) < CONVERGED
    return best


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    return cast("Tensor", torch.linalg.solve(matrix, right))

"""Separable windows and what images are like inside them; for every dtype, under every autocast."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

Window = tuple[float, ...]
"""Weights along one side of a square window: symmetric, with the sum 1."""


class Moments(NamedTuple):
    """Means, variances and covariance of two images inside a window, without bias correction."""

    mean_a: Tensor
    mean_b: Tensor
    var_a: Tensor
    var_b: Tensor
    covariance: Tensor


def uniform(size: int) -> Window:
    """Returns a window of ``size`` equal weights."""
    return (1 / size,) * size


def smooth(image: Tensor, window: Window) -> Tensor:
    """Returns ``(B, C, H, W)`` averaged by a window, where it fits: smaller by its size less 1."""
    return cast("Tensor", _Smooth.apply(image, window))


def moments(a: Tensor, b: Tensor, window: Window) -> Moments:
    """Returns the moments of two images of as many channels, or of one channel against many."""
    stack = (a, b, a * a, b * b, a * b)
    smoothed = smooth(torch.cat(stack, 1), window)
    mean_a, mean_b, aa, bb, ab = torch.split(smoothed, [image.shape[1] for image in stack], 1)
    return Moments(mean_a, mean_b, aa - mean_a.square(), bb - mean_b.square(), ab - mean_a * mean_b)


class _Context(FunctionCtx):
    window: Window


class _Smooth(torch.autograd.Function):
    """Shifted sums; on a CPU several times faster than convolutions, forward and backward."""

    @staticmethod
    def forward(ctx: _Context, image: Tensor, window: Window) -> Tensor:
        ctx.window = window
        # A channel at a time stays in the cache of a CPU.
        parts = torch.split(image, 1, 1) if image.device.type == "cpu" else (image,)
        return torch.cat([_average(part, window) for part in parts], 1)

    @staticmethod
    def backward(ctx: _Context, *slopes: Tensor) -> tuple[Tensor, None]:
        around = len(ctx.window) - 1
        return smooth(F.pad(slopes[0], (around,) * 4), ctx.window), None


def _average(image: Tensor, window: Window) -> Tensor:
    for dim in (-2, -1):
        count = image.shape[dim] - len(window) + 1
        total = image.narrow(dim, 0, count) * window[0]
        for offset, weight in enumerate(window[1:], 1):
            total.add_(image.narrow(dim, offset, count), alpha=weight)
        image = total
    return image

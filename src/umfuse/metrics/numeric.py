"""Roots, quotients and correlations that stay finite, with their slopes, for constant images."""

from __future__ import annotations

import torch
from torch import Tensor


def root(square: Tensor) -> Tensor:
    """Returns the square root of values from 0; its slope at 0 is 0 instead of infinite."""
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)


def quotient(part: Tensor, whole: Tensor, *, otherwise: float) -> Tensor:
    """Returns ``part / whole``, or a constant where the whole is not above 0."""
    some = whole > 0
    return torch.where(some, part / torch.where(some, whole, 1.0), otherwise)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Returns Pearson's correlation over the pixels of ``(B, C, H, W)`` as ``(B, C)``.

    It is 0 where one of the two is constant: where its variance is rounding alone.
    """
    a, b = (image - image.mean((2, 3), keepdim=True) for image in (a, b))
    var_a, var_b = (image.square().mean((2, 3)) for image in (a, b))
    varies = (var_a > 1e-20) & (var_b > 1e-20)
    norm = torch.where(varies, var_a * var_b, 1.0).sqrt()
    return torch.where(varies, (a * b).mean((2, 3)) / norm, 0.0)

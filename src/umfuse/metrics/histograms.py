"""Entropies of 8-bit values. Counting has no slope, so what is made of these is not differentiable.

The finite number of pixels biases what two images share upwards, by about
``(bins of both - bins of a - bins of b + 1) / (2 pixels)`` nats in bins that are not empty. So
compare images of one size.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

BITS = 1 / math.log(2)
"""Bits in a nat."""


def entropy(image: Tensor) -> Tensor:
    """Returns the entropy of each channel, ``(B, C, H, W)`` in [0, 1] to ``(B, C)``, in nats."""
    return _entropy(_counts(_levels(image), 256))


def entropies(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns H(a), H(b) and the joint entropy H(a, b) of every channel of ``b``, in nats.

    Args:
        a: ``(B, 1, H, W)`` in [0, 1].
        b: ``(B, C, H, W)`` in [0, 1].

    Returns:
        Three times ``(B, C)``.
    """
    joint = _counts(256 * _levels(a) + _levels(b), 256 * 256)
    table = joint.view(*joint.shape[:2], 256, 256)
    return _entropy(table.sum(3)), _entropy(table.sum(2)), _entropy(joint)


def information(a: Tensor, b: Tensor) -> Tensor:
    """Returns the mutual information ``H(a) + H(b) - H(a, b)``, shaped as `entropies`, in nats."""
    of_a, of_b, joint = entropies(a, b)
    return (of_a + of_b - joint).clamp_min(0)


def _levels(image: Tensor) -> Tensor:
    return (255 * image.detach()).round().long()


def _counts(bins: Tensor, count: int) -> Tensor:
    """Returns how often each bin occurs: (B, C, H, W) to (B, C, count)."""
    batch, channels = bins.shape[:2]
    channel = torch.arange(batch * channels, device=bins.device).view(batch, channels, 1, 1)
    flat = (channel * count + bins).flatten()
    return flat.bincount(minlength=batch * channels * count).view(batch, channels, count)


def _entropy(counts: Tensor) -> Tensor:
    shares = counts.double() / counts.sum(2, keepdim=True)
    return -torch.xlogy(shares, shares).sum(2)

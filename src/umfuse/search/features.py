"""Gradient orientation: what an infrared and a visible image of one place have in common."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import filters

NORMALISING_RADIUS = 12  # pixels around which gradient energy is averaged
WHITENING_RADIUS = 8  # pixels; local means carry the layout (sky, road), not the position
FLOOR = 0.3  # of the mean gradient energy: what is flatter is noise
CLIP = 2.0  # in local standard deviations: no single edge decides
BORDER = 2  # pixels at the edge of a mask whose gradients are not trusted


def orientation(image: Tensor, sigma: float, radius: int = NORMALISING_RADIUS) -> Tensor:
    """Returns the gradient orientation of an image, its angle doubled: ``(B, 2, H, W)``.

    The two channels are the cosine and sine of twice the angle, so that reversing the contrast
    changes nothing; their length is the gradient magnitude over its local root mean square, at
    most ``CLIP``. Differentiable, in float32 under every autocast; constant images give zeros.

    Args:
        image: ``(B, 1, H, W)`` in [0, 1].
        sigma: Of the Gaussian applied first, in pixels.
        radius: Of the window of the local root mean square, in pixels.
    """
    # The root lifts the dark half of a night scene to where its gradients count.
    lifted = (filters.precise(image).clamp(0, 1) + 0.01).sqrt()
    right, down = filters.gradient(filters.blur(lifted, sigma))
    energy = right * right + down * down
    typical = filters.box(energy, radius) + FLOOR * energy.mean((2, 3), keepdim=True) + 1e-8
    length = ((energy + 1e-12) / typical).sqrt().clamp(max=CLIP)
    double = torch.cat((right * right - down * down, 2 * right * down), 1)
    return double * (length / (energy + 1e-12))


def whitened(image: Tensor, sigma: float) -> Tensor:
    """Returns the orientation features of an image without their local mean."""
    features = orientation(image, sigma)
    mean = filters.box(filters.box(features, WHITENING_RADIUS), WHITENING_RADIUS)
    return features - mean


def with_gradients(features: Tensor) -> Tensor:
    """Returns features ``(B, 2, H, W)`` with their slopes to the right and down: 6 channels."""
    return torch.cat((features, *filters.gradient(features)), 1)


def eroded(mask: Tensor) -> Tensor:
    """Returns a mask ``(B, 1, H, W)`` without the pixels whose gradients look across its edge."""
    return 1 - F.max_pool2d(1 - mask, 2 * BORDER + 1, 1, BORDER)


class Similarity:
    """How well infrared images on the grid of a visible one explain it.

    Args:
        visible: ``(B, 1, H, W)`` luma in [0, 1].
    """

    def __init__(self, visible: Tensor) -> None:
        self._visible = [(sigma, whitened(visible, sigma)) for sigma in (1.0, 2.0)]

    def __call__(self, registered: Tensor, valid: Tensor | None = None) -> Tensor:
        """Returns what `similarity` does, ``(B,)``.

        Args:
            registered: ``(B, 1, H, W)`` in [0, 1], infrared sampled on the visible grid.
            valid: ``(B, 1, H, W)`` bool, or None for everywhere.
        """
        mask = torch.ones_like(registered) if valid is None else valid.to(registered.dtype)
        mask = eroded(mask)
        scores: list[Tensor] = []
        for sigma, features in self._visible:
            a, b = whitened(registered, sigma) * mask, features * mask
            power = (a.square().sum((1, 2, 3)) * b.square().sum((1, 2, 3))).sqrt()
            scores.append((a * b).sum((1, 2, 3)) / (power + 1e-6))
        return torch.stack(scores).mean(0)


def similarity(registered: Tensor, visible: Tensor, valid: Tensor | None = None) -> Tensor:
    """Returns how well an infrared image on the visible grid explains the visible one: ``(B,)``.

    The correlation of the orientation features over valid pixels, averaged over two scales,
    in [-1, 1]; 0 where there is no evidence.

    Args:
        registered: ``(B, 1, H, W)`` in [0, 1], infrared sampled on the visible grid.
        visible: ``(B, 1, H, W)`` luma in [0, 1].
        valid: ``(B, 1, H, W)`` bool, or None for everywhere.
    """
    return Similarity(visible)(registered, valid)

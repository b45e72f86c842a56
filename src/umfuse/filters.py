"""Filters of images: luma, Gaussian and box averages, gradients.

Images are ``(B, C, H, W)``. Everything is computed in float32 (float64 if given so) under every
autocast, since a gradient of bfloat16 pixels is mostly rounding; borders are replicated unless said
otherwise. Nothing here has parameters, everything is differentiable.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Frame = Literal["constant", "replicate", "reflect"]


def precise(image: Tensor) -> Tensor:
    """Returns an image in float32, or float64 if it is that."""
    return image if image.dtype == torch.float64 else image.float()


def luma(image: Tensor) -> Tensor:
    """Returns the BT.601 luma ``(B, 1, H, W)`` of a grey or RGB image ``(B, 1 or 3, H, W)``."""
    if image.shape[1] == 1:
        return image
    red, green, blue = (image[:, channel : channel + 1] for channel in range(3))
    return (0.299 * red).add(green, alpha=0.587).add(blue, alpha=0.114)


def gaussian(size: int, sigma: float) -> tuple[float, ...]:
    """Returns the ``size`` weights of a Gaussian of that many pixels; their sum is 1."""
    weights = [math.exp(-(((i - (size - 1) / 2) / sigma) ** 2) / 2) for i in range(size)]
    return tuple(weight / sum(weights) for weight in weights)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Returns an image through a Gaussian of ``sigma`` pixels, cut at three of them."""
    radius = max(1, math.ceil(3 * sigma))
    weights = gaussian(2 * radius + 1, sigma)
    image = F.pad(precise(image), (radius,) * 4, mode="replicate")
    for axis in (-1, -2):
        # Sums of shifted images: a convolution of one channel is slow, and prepared for each size.
        size = image.shape[axis] - 2 * radius
        total = image.narrow(axis, radius, size) * weights[radius]
        for away in range(1, radius + 1):
            before = image.narrow(axis, radius - away, size)
            beside = before + image.narrow(axis, radius + away, size)
            total = torch.add(total, beside, alpha=weights[radius + away])
        image = total
    return image


def box(image: Tensor, radius: int) -> Tensor:
    """Returns the mean over a square window of ``2 radius + 1`` pixels, at a cost that is none's.

    Sums are running ones: no more is done for a wide window than for a narrow one.
    """
    image = precise(image)
    window = 2 * radius + 1
    for axis in (-1, -2):
        around = (radius + 1, radius, 0, 0) if axis == -1 else (0, 0, radius + 1, radius)
        total = F.pad(image, around, mode="replicate").cumsum(axis)
        size = image.shape[axis]
        image = (total.narrow(axis, window, size) - total.narrow(axis, 0, size)) / window
    return image


def gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the central differences to the right and down, per pixel."""
    edge = F.pad(precise(image), (1, 1, 1, 1), mode="replicate")
    right = (edge[..., 1:-1, 2:] - edge[..., 1:-1, :-2]) * 0.5
    return right, (edge[..., 2:, 1:-1] - edge[..., :-2, 1:-1]) * 0.5


def sobel(image: Tensor, frame: Frame = "replicate") -> tuple[Tensor, Tensor]:
    """Returns Sobel's differences to the right and down, 8 times the gradient per pixel.

    Differences come before sums: they are exactly 0 where the image is constant.
    """
    framed = F.pad(precise(image), (1, 1, 1, 1), mode=frame)
    x, y = framed[..., 2:] - framed[..., :-2], framed[..., 2:, :] - framed[..., :-2, :]
    x = x[..., :-2, :] + 2 * x[..., 1:-1, :] + x[..., 2:, :]
    return x, y[..., :-2] + 2 * y[..., 1:-1] + y[..., 2:]


def laplacian(image: Tensor) -> Tensor:
    """Returns the sum of the eight neighbours less eight times the pixel."""
    image = precise(image)
    framed = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = framed[..., :-2, :] + framed[..., 1:-1, :] + framed[..., 2:, :]
    return rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] - 9 * image

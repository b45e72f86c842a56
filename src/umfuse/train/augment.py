"""Random changes of how an image looks, not of where things are in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from umfuse import filters
from umfuse.filters import luma


@dataclass(frozen=True)
class Photometric:
    """How far the images of one modality may be changed. Zeros change nothing.

    Attributes:
        gamma: The exponent lies in ``[exp(-gamma), exp(gamma)]``.
        contrast: The factor about the mean lies in ``[1 - contrast, 1 + contrast]``.
        brightness: The offset lies in ``[-brightness, brightness]``.
        noise: Largest standard deviation of the Gaussian noise.
        blur: Largest sigma of the Gaussian blur, pixels.
        invert: How often light and dark change places.
        grey: How often colour is lost.
        curve: How often grey levels go through a random curve, which need not rise: as different
            as two sensors see one thing.
    """

    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    invert: float = 0.0
    grey: float = 0.0
    curve: float = 0.0

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the image ``(C, H, W)``, changed at random, in [0, 1]."""
        draws = [2 * float(draw) - 1 for draw in torch.rand(7, generator=generator)]
        image = image.clamp(0, 1)
        if self.blur:
            image = _blur(image, abs(draws[4]) * self.blur)
        if (draws[6] + 1) / 2 < self.grey and len(image) == 3:
            image = luma(image[None])[0].expand_as(image)
        if self.curve and float(torch.rand((), generator=generator)) < self.curve:
            image = _curve(image, generator)
        if (draws[5] + 1) / 2 < self.invert:
            image = 1 - image
        if self.gamma:  # a blurred white may be a rounding above 1, and inverted below 0
            image = image.clamp(0, 1) ** math.exp(draws[0] * self.gamma)
        if self.contrast or self.brightness:
            mean = image.mean()
            image = (image - mean) * (1 + draws[1] * self.contrast) + mean
            image = image + draws[2] * self.brightness
        if self.noise:
            noise = torch.randn(image.shape, generator=generator).to(image.device)
            image = image + abs(draws[3]) * self.noise * noise
        return image.clamp(0, 1)


def _curve(image: Tensor, generator: torch.Generator) -> Tensor:
    """Sends grey levels through a line with 3 to 6 random knots over their range."""
    knots = int(torch.randint(3, 7, (), generator=generator))
    levels = torch.rand(knots, generator=generator).to(image.device)
    low, high = image.amin(), image.amax()
    place = (image - low) / (high - low).clamp_min(1e-3) * (knots - 1)
    left = place.long().clamp(0, knots - 2)
    return torch.lerp(levels[left], levels[left + 1], (place - left).clamp(0, 1))


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Returns (C, H, W) blurred by a Gaussian, if its sigma is large enough to matter."""
    return image if sigma < 0.3 else filters.blur(image[None], sigma)[0]

"""The matcher: registration by descriptors that are trained to find their own place.

It stands where the paper has MRRN and keeps its plan, coarse to fine by warping, but each level
compares learned descriptors over a window, and a U-Net reads the displacement from the whole map of
comparisons: where the picture is empty, the field is what the surroundings say. The comparisons are
logits, so `umfuse.train.losses.match` trains the descriptors directly. Such a network leaves "stay"
within minutes of training; the paper's does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umfuse import geometry
from umfuse.networks.mrrn import Match, MrrnOutput, check
from umfuse.networks.padding import crop, pad

_STRIDE = 32  # of the coarsest map: three halvings by the encoder, two by the U-Net


@dataclass(frozen=True)
class MatcherConfig:
    """Sizes of a `Matcher`.

    Attributes:
        in_channels: Channels of each of the two inputs.
        channels: Of the encoder at 1/2, 1/4 and 1/8 of the resolution.
        descriptor: Channels of what is compared.
        context: Channels of the fixed image that the U-Nets see.
        width: Channels of the U-Nets.
        radius: Of the window at 1/8 and at 1/4, in pixels there: the field reaches 8 and 4 times
            as far.
        passes: How often the level at 1/4 is gone through, with the same weights.
        kind: What tells this config from that of the paper's `Mrrn`.
    """

    in_channels: int = 3
    channels: Sequence[int] = (16, 32, 64)
    descriptor: int = 48
    context: int = 32
    width: int = 48
    radius: Sequence[int] = (3, 2)
    passes: int = 2
    kind: Literal["matcher"] = "matcher"

    def __post_init__(self) -> None:
        for name, count in (("channels", 3), ("radius", 2)):
            sizes = tuple(getattr(self, name))  # JSON has no tuples
            if len(sizes) != count or min(sizes) < 1:
                raise ValueError(f"{name} must hold {count} sizes of at least 1, got {sizes}")
            object.__setattr__(self, name, sizes)
        for name in ("in_channels", "descriptor", "context", "width", "passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.kind != "matcher":
            raise ValueError(f"kind must be 'matcher', got {self.kind!r}")


class Matcher(nn.Module):
    """Predicts the displacement that registers one image on another.

    Untrained it says "stay", up to a fraction of a pixel.

    Args:
        config: Sizes; None means the defaults.
    """

    def __init__(self, config: MatcherConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MatcherConfig()
        self.encoder = _Encoder(config)
        of_eighth, of_quarter = config.channels[2], config.descriptor
        self.coarse = _Level(config, of_eighth, config.radius[0])
        self.fine = _Level(config, of_quarter, config.radius[1])

    def encode(self, image: Tensor) -> Encoded:
        """Returns what `forward` makes of one image alone, for more than one use.

        Args:
            image: ``(B, in_channels, H, W)``. Padded inside to a multiple of 32.

        Raises:
            ValueError: If it has the wrong number of channels.
        """
        check(self, self.config.in_channels, image, image)
        encoded: Encoded = self.encoder(pad(image, _STRIDE, "replicate"))
        return encoded

    def forward(self, fixed: Tensor | Encoded, moving: Tensor) -> MrrnOutput:
        """Returns the displacement that brings ``moving`` on the grid of ``fixed``.

        Args:
            fixed: ``(B, in_channels, H, W)``: the visible side; or what `encode` made of it.
            moving: The infrared side, resampled to the same grid, with the same channels.

        Raises:
            ValueError: If an input has the wrong number of channels or the two differ in shape.
        """
        if isinstance(fixed, Tensor):
            check(self, self.config.in_channels, fixed, moving)
            fixed = self.encode(fixed)
        height, width = moving.shape[-2:]
        of_fixed, of_moving = fixed, self.encode(moving)
        no_field = torch.zeros_like(of_fixed.coarse[:, :2])
        match, field = self.coarse(of_fixed.coarse, of_moving.coarse, of_fixed.of_coarse, no_field)
        matches, pyramid = [match], [field]
        field = 2 * _upsample(field, 2)
        for _ in range(self.config.passes):
            match, field = self.fine(of_fixed.fine, of_moving.fine, of_fixed.of_fine, field)
            matches.append(match)
            pyramid.append(field)
        return MrrnOutput(
            crop(4 * _upsample(field, 4), height, width), tuple(pyramid), tuple(matches)
        )


class Encoded:
    """One image: descriptors of unit length, and what they were made from, at 1/8 and 1/4."""

    def __init__(self, coarse: Tensor, of_coarse: Tensor, fine: Tensor, of_fine: Tensor) -> None:
        self.coarse, self.fine = (F.normalize(one.float(), dim=1) for one in (coarse, fine))
        self.of_coarse, self.of_fine = of_coarse, of_fine


class _Encoder(nn.Module):
    def __init__(self, config: MatcherConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.channels
        size = config.descriptor
        self.quarter = nn.Sequential(
            _halve(config.in_channels, half),
            _convolve(half, half),
            _halve(half, quarter),
            _convolve(quarter, quarter),
            _convolve(quarter, quarter),
        )
        self.eighth = nn.Sequential(
            _halve(quarter, eighth), _convolve(eighth, eighth), _convolve(eighth, eighth)
        )
        self.coarse = nn.Conv2d(eighth, size, 1)
        self.join = _convolve(quarter + size, size)
        self.fine = nn.Conv2d(size, size, 3, padding=1)

    def forward(self, image: Tensor) -> Encoded:
        quarter: Tensor = self.quarter(image)
        eighth: Tensor = self.eighth(quarter)
        coarse: Tensor = self.coarse(eighth)
        joined: Tensor = self.join(torch.cat((quarter, _upsample(coarse, 2)), 1))
        return Encoded(coarse, eighth, self.fine(joined), joined)


class _Level(nn.Module):
    """Compares descriptors around a field, and corrects the field."""

    def __init__(self, config: MatcherConfig, channels: int, radius: int) -> None:
        super().__init__()
        self.radius = radius
        self.log_temperature = nn.Parameter(torch.tensor(math.log(10.0)))
        self.context = nn.Conv2d(channels, config.context, 1)
        # Beside window and context: the expected offset, the highest probability, the field so far.
        self.read = _Unet((2 * radius + 1) ** 2 + config.context + 5, config.width)

    def forward(
        self, fixed: Tensor, moving: Tensor, source: Tensor, field: Tensor
    ) -> tuple[Match, Tensor]:
        cosines = correlate(fixed, geometry.warp(moving, field)[0], self.radius)
        # A patch is less ambiguous than a pixel.
        logits = F.avg_pool2d(
            cosines * self.log_temperature.exp(), 3, 1, 1, count_include_pad=False
        )
        probability = logits.softmax(1)
        steps = torch.arange(-self.radius, self.radius + 1, device=logits.device).to(logits)
        side = len(steps)  # the window lists rows first
        offsets = torch.stack((steps.repeat(side), steps.repeat_interleave(side)))
        expected = torch.einsum("bnhw,cn->bchw", probability, offsets)
        highest = probability.amax(1, keepdim=True)
        known = (4 * probability, expected, highest, field / 4, self.context(source))
        return Match(logits, field), field + self.read(torch.cat(known, 1))


class _Unet(nn.Module):
    """Reads a correction of the field, (B, 2, h, w) float32, from a map of comparisons."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.level = _convolve(inputs, width)
        self.down = nn.Sequential(_halve(width, width), _convolve(width, width))
        self.deep = nn.Sequential(
            _halve(width, width), *(_convolve(width, width, dilation=d) for d in (1, 2, 4))
        )
        self.up = _convolve(2 * width, width)
        self.out = _convolve(2 * width, width)
        self.head = nn.Conv2d(width, 2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, inputs: Tensor) -> Tensor:
        full: Tensor = self.level(inputs)
        half: Tensor = self.down(full)
        quarter: Tensor = self.deep(half)
        half = self.up(torch.cat((_upsample(quarter, 2), half), 1))
        full = self.out(torch.cat((_upsample(half, 2), full), 1))
        with torch.autocast(inputs.device.type, enabled=False):  # bfloat16 loses whole pixels
            field: Tensor = self.head(full.float())
        return field


def correlate(fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
    """Returns the products of each pixel with those around its place in the other image.

    Args:
        fixed: ``(B, C, h, w)``.
        moving: The same; borders are replicated, since zeros would push every match inwards.
        radius: r, pixels.

    Returns:
        ``(B, (2 r + 1)², h, w)``, rows of the window first.
    """
    height, width = fixed.shape[-2:]
    moving = F.pad(moving, (radius, radius, radius, radius), mode="replicate")
    side = range(2 * radius + 1)
    windows = (moving[:, :, y : y + height, x : x + width] for y in side for x in side)
    return torch.stack([(fixed * window).sum(1) for window in windows], 1)


def _convolve(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    return _activated(nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation))


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return _activated(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1))


def _activated(convolution: nn.Conv2d) -> nn.Sequential:
    channels = convolution.out_channels
    norm = nn.GroupNorm(math.gcd(channels, 8), channels)
    return nn.Sequential(convolution, norm, nn.LeakyReLU(0.1))


def _upsample(image: Tensor, factor: int) -> Tensor:
    return F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)

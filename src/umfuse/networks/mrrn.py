"""MRRN, the multi-level refinement registration network (Sec. 2.3 of doi:10.24963/ijcai.2022/487).

With the default sizes it is the paper's. With a search window and a soft-argmax each level becomes
a matcher: normalised features are correlated over the window, the expected offset is averaged over
a neighbourhood with a learned precision against a prior that says "stay", and the convolutions only
correct what that leaves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umfuse import warp
from umfuse.networks.padding import crop, pad

Upsampling = Literal["corners", "centres"]
Norm = Literal["none", "group"]


@dataclass(frozen=True)
class MrrnConfig:
    """Sizes of an `Mrrn`; the defaults are the paper's, with 170,904 parameters.

    Attributes:
        in_channels: Channels of each of the two inputs.
        channels: Feature channels of each level; the first works at 1/2, each next at half of it.
        finest: Stride of the finest level that predicts a field: 2 in the paper. Fields are
            smooth, so 4 or 8 saves most of the time and is enlarged to full resolution.
        decoder: Channels of the convolutions that predict a level's correction.
        refine: Channels of the dilated convolutions (1, 2, 4, ...) that smooth a level's field.
        search_radius: 0 compares features at one place (the paper's cost of one channel); r
            correlates normalised features over a window of ``(2 r + 1)²`` offsets.
        soft_argmax: Whether a level starts from the expected offset of its window. Needs a window.
            All corrections are then zero before training, so the network says "stay".
        aggregate: Radius, in pixels of the level, over which correlations are averaged before the
            expectation: a patch is less ambiguous than a pixel.
        smoothing: Radius over which the expected offsets are averaged by precision.
        norm: ``"group"`` puts a group norm behind every convolution of the encoder.
        upsampling: How a field gets to the next level: ``"corners"`` maps corner pixels on corner
            pixels as the authors' code does, ``"centres"`` is the convention of `umfuse.warp`.
    """

    in_channels: int = 1
    channels: Sequence[int] = (16, 32)
    finest: int = 2
    decoder: Sequence[int] = (48, 32, 16)
    refine: Sequence[int] = (48, 48, 32)
    search_radius: int = 0
    soft_argmax: bool = False
    aggregate: int = 0
    smoothing: int = 0
    norm: Norm = "none"
    upsampling: Upsampling = "corners"

    def __post_init__(self) -> None:
        for name in ("channels", "decoder", "refine"):
            sizes = tuple(getattr(self, name))  # JSON has no tuples
            if not sizes or min(sizes) < 1:
                raise ValueError(f"{name} must hold sizes of at least 1, got {sizes}")
            object.__setattr__(self, name, sizes)
        strides = [2 ** (i + 1) for i in range(self.levels)]
        if self.finest not in strides:
            raise ValueError(f"finest must be one of the strides {strides}, got {self.finest}")
        if self.in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {self.in_channels}")
        for name in ("search_radius", "aggregate", "smoothing"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.soft_argmax and self.search_radius == 0:
            raise ValueError("soft_argmax needs a window: set search_radius to at least 1")
        for name, value, choices in (
            ("norm", self.norm, get_args(Norm)),
            ("upsampling", self.upsampling, get_args(Upsampling)),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")

    @property
    def levels(self) -> int:
        """Number of levels, the paper's K."""
        return len(self.channels)


class MrrnOutput(NamedTuple):
    """What an `Mrrn` returns; everything is float32.

    Attributes:
        displacement: ``(B, 2, H, W)`` pixels, the convention of `umfuse.warp`.
        pyramid: The field of every level, coarsest first: ``(B, 2, h, w)`` in pixels of that
            level, where ``h`` is H, padded to a multiple of the coarsest stride, by the stride.
        matches: The field that the soft-argmax of every level alone points to, in the same way,
            for direct supervision; empty without soft-argmax.
        confidences: ``(B, 1, h, w)`` in [0, 1] for every level: the weight of the matches against
            staying; empty without soft-argmax.
    """

    displacement: Tensor
    pyramid: tuple[Tensor, ...]
    matches: tuple[Tensor, ...]
    confidences: tuple[Tensor, ...]


class Mrrn(nn.Module):
    """Predicts the displacement that registers one image on another, coarse to fine.

    Args:
        config: Sizes; None means the paper's.
    """

    def __init__(self, config: MrrnConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MrrnConfig()
        before = (config.in_channels, *config.channels[:-1])
        self.encoder = nn.ModuleList(
            _Stage(i, o, config.norm) for i, o in zip(before, config.channels, strict=True)
        )
        finest = config.finest.bit_length() - 2  # index of the level of that stride
        indices = range(config.levels - 1, finest - 1, -1)
        self.levels = nn.ModuleList(
            _Level(config, config.channels[i], coarsest=i == config.levels - 1) for i in indices
        )

    def forward(self, fixed: Tensor, moving: Tensor) -> MrrnOutput:
        """Returns the displacement that brings ``moving`` on the grid of ``fixed``.

        Args:
            fixed: ``(B, in_channels, H, W)``: the pseudo-infrared image, with further channels if
                the config has them. Padded inside to a multiple of the coarsest stride.
            moving: The infrared image, resampled to the same grid, with the same channels.

        Raises:
            ValueError: If an input has the wrong number of channels or the two differ in shape.
        """
        channels, height, width = self.config.in_channels, *fixed.shape[-2:]
        if fixed.dim() != 4 or fixed.shape[1] != channels or fixed.shape != moving.shape:
            raise ValueError(
                f"Mrrn expects two tensors (B, {channels}, H, W) of the same shape, got "
                f"{tuple(fixed.shape)} and {tuple(moving.shape)}"
            )
        multiple = 2**self.config.levels
        of_fixed, of_moving = (
            self._features(pad(image, multiple, "replicate")) for image in (fixed, moving)
        )
        found: list[_Found] = []
        for level in self.levels:
            before = found[-1] if found else None
            found.append(level(of_fixed.pop(), of_moving.pop(), before))
        field = found[-1].field
        for _ in range(self.config.finest.bit_length() - 1):
            field = _double(field, self.config.upsampling)
        return MrrnOutput(
            crop(field, height, width),
            tuple(one.field for one in found),
            tuple(one.match for one in found if one.match is not None),
            tuple(one.confidence for one in found if one.confidence is not None),
        )

    def _features(self, image: Tensor) -> list[Tensor]:
        """Returns the features of every level, finest first."""
        pyramid: list[Tensor] = []
        for stage in self.encoder:
            image = stage(image)
            pyramid.append(image)
        return pyramid


class _Found(NamedTuple):
    """What a level hands to the next: fields in its own pixels."""

    field: Tensor
    features: Tensor
    match: Tensor | None
    confidence: Tensor | None


class _Stage(nn.Sequential):
    """Halves the resolution: (B, inputs, H, W) -> (B, outputs, H / 2, W / 2)."""

    def __init__(self, inputs: int, outputs: int, norm: Norm) -> None:
        layers: list[nn.Module] = []
        for i in range(3):
            layers.append(
                nn.Conv2d(outputs, outputs, 3, padding=1)
                if i
                else nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
            )
            if norm == "group":
                layers.append(nn.GroupNorm(math.gcd(outputs, 8), outputs))
            layers.append(nn.LeakyReLU(0.2))
        super().__init__(*layers)


class _Level(nn.Module):
    """One level: enlarge the field so far, warp, compare, match, correct, refine."""

    def __init__(self, config: MrrnConfig, channels: int, *, coarsest: bool) -> None:
        super().__init__()
        self.config = config
        inputs = channels + (2 * config.search_radius + 1) ** 2
        self.matcher = _Matcher(config, inputs) if config.soft_argmax else None
        inputs += 3 if config.soft_argmax else 0
        inputs += 0 if coarsest else 2 + config.decoder[-1]
        layers: list[nn.Module] = []
        for outputs in config.decoder:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.2)]
            inputs = outputs
        self.decoder = nn.Sequential(*layers)
        self.head = nn.Conv2d(inputs, 2, 3, padding=1)
        layers, inputs = [], 2
        for i, outputs in enumerate(config.refine):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=2**i, dilation=2**i),
                nn.LeakyReLU(0.1),
            ]
            inputs = outputs
        last = nn.Conv2d(inputs, 2, 3, padding=1)
        self.refine = nn.Sequential(*layers, last)
        if config.soft_argmax:  # the corrections start at nothing, so training starts at "stay"
            for parameter in (*self.head.parameters(), *last.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, fixed: Tensor, moving: Tensor, before: _Found | None) -> _Found:
        if before is None:
            field = torch.zeros_like(fixed[:, :2], dtype=torch.float32)
            context: list[Tensor] = []
        else:
            field = _double(before.field, self.config.upsampling)
            # Doubled with the field, as in the authors' code.
            context = [field, _double(before.features, self.config.upsampling)]
            moving = warp.warp(moving, field)[0]
        radius = self.config.search_radius
        cost = _correlate(fixed, moving, radius) if radius else _distance(fixed, moving)
        match = confidence = None
        if self.matcher is not None:
            offset, update, confidence = self.matcher(cost, fixed)
            match, field = field + offset, field + update
            context = [update, confidence, *context]
        features: Tensor = self.decoder(torch.cat((cost, fixed, *context), 1))
        field = field + _exactly(self.head, features)
        field = field + _exactly(self.refine, field)
        return _Found(field, features, match, confidence)


class _Matcher(nn.Module):
    """Turns a correlation window into an offset, and says how far to believe it."""

    def __init__(self, config: MrrnConfig, inputs: int) -> None:
        super().__init__()
        self.config = config
        width = config.decoder[-1]
        self.log_temperature = nn.Parameter(torch.tensor(math.log(10.0)))
        last = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.zeros_(last.weight)
        last.bias = nn.Parameter(torch.full((1,), -4.0))
        self.gate = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.LeakyReLU(0.2), last)

    def forward(self, cost: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the expected offset, the update and the confidence, all float32."""
        radius = self.config.search_radius
        smooth = _mean(cost, self.config.aggregate)
        chance = (smooth * self.log_temperature.exp()).softmax(1)
        steps = torch.arange(-radius, radius + 1, device=cost.device, dtype=chance.dtype)
        # One product for both axes: the window lists rows first.
        side = len(steps)
        offsets = torch.stack((steps.repeat(side), steps.repeat_interleave(side)))  # (2, window)
        offset = (chance[:, None] * offsets[:, :, None, None]).sum(2)
        gate: Tensor = self.gate(torch.cat((cost, fixed), 1))
        precision = gate.float().clamp(-10, 6).exp()
        # The posterior mean of offsets of that precision, under a prior of precision 1 on zero.
        sums = _mean(torch.cat((precision * offset, precision), 1), self.config.smoothing)
        total = sums[:, 2:]
        return offset, sums[:, :2] / (total + 1), total / (total + 1)


def _exactly(module: nn.Module, inputs: Tensor) -> Tensor:
    """Runs a module in float32 under every autocast: fields lose whole pixels in bfloat16."""
    with torch.autocast(inputs.device.type, enabled=False):
        result: Tensor = module(inputs.float())
    return result


def _double(field: Tensor, upsampling: Upsampling) -> Tensor:
    """Doubles resolution and values."""
    corners = upsampling == "corners"
    return 2 * F.interpolate(field.float(), scale_factor=2, mode="bilinear", align_corners=corners)


def _distance(fixed: Tensor, moving: Tensor) -> Tensor:
    """The paper's cost: the L1 norm of the difference of the features, (B, 1, h, w)."""
    return (fixed.float() - moving.float()).abs().sum(1, keepdim=True)


def _correlate(fixed: Tensor, moving: Tensor, radius: int) -> Tensor:
    """Cosines of features over a window: (B, (2 radius + 1)², h, w), rows of the window first."""
    fixed, moving = (F.normalize(one.float(), dim=1, eps=1e-6) for one in (fixed, moving))
    height, width = fixed.shape[-2:]
    # Replicated: zeros outside would push every match at the border inwards.
    moving = F.pad(moving, (radius, radius, radius, radius), mode="replicate")
    side = range(2 * radius + 1)
    windows = ((moving[:, :, y : y + height, x : x + width]) for y in side for x in side)
    return torch.stack([(fixed * window).sum(1) for window in windows], 1)


def _mean(values: Tensor, radius: int) -> Tensor:
    """Averages over a square of that radius, in float32, of what lies inside the frame."""
    if radius == 0:
        return values
    size = 2 * radius + 1
    for kernel, padding in (((size, 1), (radius, 0)), ((1, size), (0, radius))):
        values = F.avg_pool2d(values, kernel, 1, padding, count_include_pad=False)
    return values

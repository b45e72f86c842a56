"""MRRN, the multi-level refinement registration network (Sec. 2.3 of doi:10.24963/ijcai.2022/487).

With the default sizes it is the paper's. What the embedded weights use in its place is
`umfuse.networks.Matcher`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umfuse import geometry
from umfuse.networks.padding import crop, pad


@dataclass(frozen=True)
class MrrnConfig:
    """Sizes of an `Mrrn`; the defaults are the paper's, with 170,904 parameters.

    Attributes:
        in_channels: Channels of each of the two inputs.
        channels: Feature channels of each level; the first works at 1/2, each next at half of it.
        decoder: Channels of the convolutions that predict a level's correction.
        refine: Channels of the dilated convolutions (1, 2, 4, ...) that smooth a level's field.
        kind: What tells this config from that of a `Matcher`.
    """

    in_channels: int = 1
    channels: Sequence[int] = (16, 32)
    decoder: Sequence[int] = (48, 32, 16)
    refine: Sequence[int] = (48, 48, 32)
    kind: Literal["paper"] = "paper"

    def __post_init__(self) -> None:
        for name in ("channels", "decoder", "refine"):
            sizes = tuple(getattr(self, name))  # JSON has no tuples
            if not sizes or min(sizes) < 1:
                raise ValueError(f"{name} must hold sizes of at least 1, got {sizes}")
            object.__setattr__(self, name, sizes)
        if self.in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {self.in_channels}")
        if self.kind != "paper":
            raise ValueError(f"kind must be 'paper', got {self.kind!r}")

    @property
    def levels(self) -> int:
        """Number of levels, the paper's K."""
        return len(self.channels)


class Match(NamedTuple):
    """What one level of a matcher compares.

    Attributes:
        logits: ``(B, (2 r + 1)², h, w)`` float32: of the offsets of a window of radius r, rows
            first.
        start: ``(B, 2, h, w)`` float32, pixels of the level: the field that the window is centred
            on.
    """

    logits: Tensor
    start: Tensor


class MrrnOutput(NamedTuple):
    """What registration returns; everything is float32.

    Attributes:
        displacement: ``(B, 2, H, W)`` pixels, the convention of `umfuse.geometry`.
        pyramid: The field of every level, coarsest first: ``(B, 2, h, w)`` in pixels of that
            level, where ``h`` is H, padded to a multiple of the coarsest stride, by the stride.
        matches: Of every level, for direct supervision; empty for the paper's network, which
            compares nothing over a window.
    """

    displacement: Tensor
    pyramid: tuple[Tensor, ...]
    matches: tuple[Match, ...] = ()


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
            _Downsample(i, o) for i, o in zip(before, config.channels, strict=True)
        )
        self.levels = nn.ModuleList(
            _Level(config, channels, coarsest=i == 0)
            for i, channels in enumerate(reversed(config.channels))
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
        check(self, self.config.in_channels, fixed, moving)
        height, width = fixed.shape[-2:]
        multiple = 2**self.config.levels
        of_fixed, of_moving = (
            self._features(pad(image, multiple, "replicate")) for image in (fixed, moving)
        )
        found: list[_Found] = []
        for level in self.levels:
            before = found[-1] if found else None
            found.append(level(of_fixed.pop(), of_moving.pop(), before))
        field = crop(_upsample(found[-1].field), height, width)
        return MrrnOutput(field, tuple(one.field for one in found))

    def _features(self, image: Tensor) -> list[Tensor]:
        """Returns the features of every level, finest first."""
        pyramid: list[Tensor] = []
        for halve in self.encoder:
            image = halve(image)
            pyramid.append(image)
        return pyramid


def check(network: nn.Module, channels: int, fixed: Tensor, moving: Tensor) -> None:
    """Raises ValueError if a pair is not what a network was built for."""
    if fixed.dim() != 4 or fixed.shape[1] != channels or fixed.shape != moving.shape:
        raise ValueError(
            f"{type(network).__name__} expects two tensors (B, {channels}, H, W) of the same "
            f"shape, got {tuple(fixed.shape)} and {tuple(moving.shape)}"
        )


class _Found(NamedTuple):
    """What a level hands to the next; the field in its own pixels."""

    field: Tensor
    features: Tensor


class _Downsample(nn.Sequential):
    """Halves the resolution: (B, inputs, H, W) -> (B, outputs, H / 2, W / 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)]
        for _ in range(2):
            layers += [nn.LeakyReLU(0.2), nn.Conv2d(outputs, outputs, 3, padding=1)]
        super().__init__(*layers, nn.LeakyReLU(0.2))
        _start(self)


class _Level(nn.Module):
    """One level: enlarge the field so far, warp, compare, correct, refine."""

    def __init__(self, config: MrrnConfig, channels: int, *, coarsest: bool) -> None:
        super().__init__()
        inputs = channels + 1 + (0 if coarsest else 2 + config.decoder[-1])
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
        smoothed = nn.Conv2d(inputs, 2, 3, padding=1)
        self.refine = nn.Sequential(*layers, smoothed)
        _start(self)
        with torch.no_grad():
            for field in (self.head, smoothed):
                field.weight.mul_(0.1)

    def forward(self, fixed: Tensor, moving: Tensor, before: _Found | None) -> _Found:
        if before is None:
            field = torch.zeros_like(fixed[:, :2], dtype=torch.float32)
            context: list[Tensor] = []
        else:
            field = _upsample(before.field)
            # Doubled with the field, as in the authors' code.
            context = [field, _upsample(before.features)]
            moving = geometry.warp(moving, field)[0]
        features: Tensor = self.decoder(torch.cat((_l1_cost(fixed, moving), fixed, *context), 1))
        field = field + _in_float32(self.head, features)
        field = field + _in_float32(self.refine, field)
        return _Found(field, features)


def _start(network: nn.Module) -> None:
    """Gives convolutions their first weights by He's rule (doi:10.1109/ICCV.2015.123), no bias.

    As PyTorch starts them, what a level sees hardly depends on the images: it learns to stay.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, a=0.2)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _in_float32(module: nn.Module, inputs: Tensor) -> Tensor:
    """Runs a module in float32 under every autocast: fields lose whole pixels in bfloat16."""
    with torch.autocast(inputs.device.type, enabled=False):
        result: Tensor = module(inputs.float())
    return result


def _upsample(field: Tensor) -> Tensor:
    """Doubles resolution and values; corner pixels on corner pixels, as in the authors' code."""
    return 2 * F.interpolate(field.float(), scale_factor=2, mode="bilinear", align_corners=True)


def _l1_cost(fixed: Tensor, moving: Tensor) -> Tensor:
    """The paper's cost: the L1 norm of the difference of the features, (B, 1, h, w)."""
    return (fixed.float() - moving.float()).abs().sum(1, keepdim=True)

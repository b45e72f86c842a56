"""The two registration networks that the paper compares with, compact and in our own words.

FlowNet (Dosovitskiy et al., doi:10.1109/ICCV.2015.316) sees the two images as channels of one and
predicts fields from stride 64 to stride 4; a spatial transformer, `umfuse.geometry` here, applies
the
last. VoxelMorph (Balakrishnan et al., doi:10.1109/CVPR.2018.00964) is a U-Net with one field at
full resolution. FlowNet is narrower than published (2.1 million parameters), VoxelMorph has 0.1
million; both are trained by `benchmarks.train` like MRRN: same pairs, displacements, loss and
number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umfuse import geometry
from umfuse.networks.mrrn import MrrnOutput
from umfuse.networks.padding import crop, pad


@dataclass(frozen=True)
class Intensity:
    """What a network sees: one channel, as the paper's MRRN."""

    in_channels: int = 1


class FlowNet(nn.Module):
    """FlowNetS at a quarter of its width.

    Args:
        channels: Of the encoder, whose strides are 2, 4, 8, ...
    """

    def __init__(self, channels: tuple[int, ...] = (16, 32, 64, 128, 128, 256)) -> None:
        super().__init__()
        self.config = Intensity()
        inputs = (2, *channels[:-1])
        self.encoder = nn.ModuleList(
            nn.Sequential(
                _convolution(i, o, 7 if k == 0 else 5 if k < 3 else 3, stride=2),
                *([_convolution(o, o, 3)] if k >= 2 else []),
            )
            for k, (i, o) in enumerate(zip(inputs, channels, strict=True))
        )
        self.heads, self.up = nn.ModuleList(), nn.ModuleList()
        width = channels[-1]
        for skip in (*channels[-2:0:-1], None):
            head = nn.Conv2d(width, 2, 3, padding=1)
            nn.init.normal_(head.weight, std=1e-3)
            self.heads.append(head)
            if skip is not None:
                self.up.append(nn.ConvTranspose2d(width, skip // 2, 4, stride=2, padding=1))
                width = skip // 2 + skip + 2

    def forward(self, fixed: Tensor, moving: Tensor) -> MrrnOutput:
        """Returns the displacement ``(B, 2, H, W)`` and the fields of all scales."""
        height, width = fixed.shape[-2:]
        features = pad(torch.cat((fixed, moving), 1), 2 ** len(self.encoder), "replicate")
        skips: list[Tensor] = []
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        features = skips.pop()
        fields = [_exactly(self.heads[0], features)]
        for up, head in zip(self.up, self.heads[1:], strict=True):
            skip = skips.pop()
            field = _double(fields[-1])
            features = torch.cat((F.leaky_relu(up(features), 0.1), skip, field), 1)
            fields.append(_exactly(head, features) + field)
        return _output(fields, height, width)


class VoxelMorph(nn.Module):
    """The 2-D form of VoxelMorph's U-Net.

    Args:
        encoder: Channels at strides 2, 4, 8, ...
        decoder: Channels on the way back, then of the convolutions at full resolution.
    """

    def __init__(
        self,
        encoder: tuple[int, ...] = (16, 32, 32, 32),
        decoder: tuple[int, ...] = (32, 32, 32, 32),
        last: tuple[int, ...] = (16, 16),
    ) -> None:
        super().__init__()
        self.config = Intensity()
        before = (2, *encoder[:-1])
        self.down = nn.ModuleList(
            _convolution(i, o, 3, stride=2) for i, o in zip(before, encoder, strict=True)
        )
        self.up = nn.ModuleList()
        width = encoder[-1]
        for channels, skip in zip(decoder, reversed(before), strict=True):
            self.up.append(_convolution(width, channels, 3))
            width = channels + skip
        layers: list[nn.Module] = []
        for channels in last:
            layers.append(_convolution(width, channels, 3))
            width = channels
        self.last = nn.Sequential(*layers)
        self.head = nn.Conv2d(width, 2, 3, padding=1)
        nn.init.normal_(self.head.weight, std=1e-5)  # as published: starts at "stay"
        nn.init.zeros_(self.head.bias)

    def forward(self, fixed: Tensor, moving: Tensor) -> MrrnOutput:
        """Returns the displacement ``(B, 2, H, W)``."""
        height, width = fixed.shape[-2:]
        features = pad(torch.cat((fixed, moving), 1), 2 ** len(self.down), "replicate")
        skips = [features]
        for stage in self.down:
            skips.append(stage(skips[-1]))
        features = skips.pop()
        for stage in self.up:
            features = F.interpolate(stage(features), scale_factor=2, mode="nearest")
            features = torch.cat((features, skips.pop()), 1)
        field = _exactly(self.head, self.last(features))
        return MrrnOutput(crop(field, height, width), ())


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2)
    nn.init.kaiming_normal_(layer.weight, a=0.1)  # as `umfuse.networks.Mrrn` starts
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.LeakyReLU(0.1))


def _exactly(head: nn.Module, features: Tensor) -> Tensor:
    """Fields are float32 under every autocast."""
    with torch.autocast(features.device.type, enabled=False):
        return head(features.float())


def _double(field: Tensor) -> Tensor:
    return geometry.resize_field(field, (2 * field.shape[-2], 2 * field.shape[-1]))


def _output(fields: list[Tensor], height: int, width: int) -> MrrnOutput:
    full = fields[-1]
    while full.shape[-2] < height or full.shape[-1] < width:
        full = _double(full)
    return MrrnOutput(crop(full, height, width), tuple(fields))

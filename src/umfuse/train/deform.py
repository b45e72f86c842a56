"""Random displacement with its exact truth: what to deform an image with, and what restores it.

The truth is drawn, the deformation is its inverse. So ``deformed = warp(image, field.deform)[0]``
looks like the picture of a misaligned camera, and ``warp(deformed, field.restore)[0]`` is the image
again, but for two interpolations, wherever ``field.valid``. Everything follows the convention of
`umfuse.geometry`.

`deformation` draws what training needs. What is measured on is drawn by
`umfuse.train.protocols.protocol`, the same for everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import geometry

_STEEPEST = 0.4  # px per px: below 1 no field folds, below about 0.5 the inversion is quick


@dataclass(frozen=True)
class DeformConfig:
    """Kinds of displacement and how far they go.

    Attributes:
        mean: Lowest and highest mean displacement of a field, pixels.
        affine: Share of rotation, scale, shear and translation.
        perspective: Share of the change of view that a homography has beyond the affine one.
        elastic: Share of smooth noise of both components.
        parallax: Share of smooth noise along one direction, as a baseline between cameras gives.
        cell: Smallest and largest distance between the knots of that noise, as part of the
            shorter side.
        zero: How often a field is zero, so that "stay" is learned too.
    """

    mean: tuple[float, float] = (0.0, 6.0)
    affine: float = 1.0
    perspective: float = 0.3
    elastic: float = 0.5
    parallax: float = 0.3
    cell: tuple[float, float] = (0.2, 0.5)
    zero: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.mean[0] <= self.mean[1]:
            raise ValueError(f"mean must be two distances 0 <= low <= high, got {self.mean}")
        if min(self.shares) < 0 or max(self.shares) == 0:
            raise ValueError(f"shares must not be negative and not all zero, got {self.shares}")
        if not 0 < self.cell[0] <= self.cell[1]:
            raise ValueError(f"cell must be two parts 0 < low <= high, got {self.cell}")

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """The shares in the order affine, perspective, elastic, parallax."""
        return self.affine, self.perspective, self.elastic, self.parallax


class Deformation(NamedTuple):
    """A displacement, its inverse, and where both hold.

    Attributes:
        restore: ``(B, 2, H, W)`` pixels, the truth: warping the deformed image by it restores
            the image.
        deform: ``(B, 2, H, W)`` pixels, its inverse: warping the image by it deforms the image.
        valid: ``(B, 1, H, W)`` bool, where the restored pixel comes from inside the deformed image
            and was inside the image before.
    """

    restore: Tensor
    deform: Tensor
    valid: Tensor


def deformation(
    batch: int, size: tuple[int, int], config: DeformConfig, generator: torch.Generator
) -> Deformation:
    """Draws displacements of a random mix of kinds, and inverts them.

    Args:
        batch: Number of fields; each has its own mix and magnitude.
        size: Height and width of the images, pixels.
        config: Kinds and magnitude.
        generator: Of the CPU; the same state gives the same fields.

    Returns:
        The fields, float32 on the CPU.
    """
    # A frame around the picture, cropped in the end: the inverse looks beyond the border too.
    frame = 8 + int(3 * config.mean[1])
    height, width = size[0] + 2 * frame, size[1] + 2 * frame
    fields: list[Tensor] = []
    for _ in range(batch):
        target = _uniform(generator, *config.mean)
        if _uniform(generator, 0, 1) < config.zero:
            target = 0.0
        fields.append(target * _unit_field(height, width, target, config, generator))
    restore = torch.cat(fields)
    deform, error = _invert(restore)
    inside = slice(frame, -frame)
    restore, deform, error = (f[..., inside, inside] for f in (restore, deform, error))
    # The pixel p of the image is seen at p + restore(p), which must lie inside the deformed image.
    seen, valid = geometry.warp(error, restore)
    return Deformation(restore.contiguous(), deform.contiguous(), valid & (seen < 0.1))


def _invert(field: Tensor) -> tuple[Tensor, Tensor]:
    """Inverts as `geometry.invert` in a third of the time: most steps at half the resolution."""
    height, width = field.shape[-2:]
    half, _ = geometry.invert(
        geometry.resize_field(field, (height // 2, width // 2)), iterations=10
    )
    inverse = geometry.resize_field(half, (height, width))
    for _ in range(2):
        inverse = -geometry.warp(field, inverse)[0]
    return inverse, geometry.compose(field, inverse).square().sum(1, keepdim=True).sqrt()


def _unit_field(
    height: int, width: int, target: float, config: DeformConfig, generator: torch.Generator
) -> Tensor:
    """Returns a field (1, 2, H, W) of mean magnitude 1 that may be scaled by ``target``."""
    cell = _uniform(generator, *config.cell) * min(height, width)
    parts = (
        _affine(height, width, generator),
        _perspective(height, width, generator),
        _noise(2, height, width, cell, generator),
        _noise(1, height, width, cell, generator) * _direction(generator),
    )
    total = torch.zeros(1, 2, height, width)
    for share, part in zip(config.shares, parts, strict=True):
        weight = share * _uniform(generator, 0, 1)
        total = total + weight * part / _magnitude(part)
    total = total / _magnitude(total)
    # Fields that would fold are made smoother, not smaller: the mean stays what was asked for.
    for radius in (8, 16, 32, 64):
        if target * _steepest(total) <= _STEEPEST:
            return total
        total = _smooth(total, radius)
        total = total / _magnitude(total)
    if target * _steepest(total) <= _STEEPEST:
        return total
    return _direction(generator).expand(-1, -1, height, width)  # a shift cannot fold


def _smooth(field: Tensor, radius: int) -> Tensor:
    """Returns the field averaged over a square, at an eighth of the resolution in between."""
    coarse = F.avg_pool2d(field, 2 * radius + 1, 8, radius, count_include_pad=False)
    return F.interpolate(coarse, field.shape[-2:], mode="bilinear", align_corners=False)


def _affine(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Returns a linear field: rotation, scale, shear (in px over the half side) and a shift."""
    x, y = _centred(height, width)
    turn, scale, shear, stretch, right, down = torch.randn(6, generator=generator)
    shear, stretch = 0.3 * shear, 0.3 * stretch
    u = (scale + stretch) * x + (shear - turn) * y + 0.7 * right
    v = (scale - stretch) * y + (shear + turn) * x + 0.7 * down
    return torch.stack((u, v), 1)


def _perspective(height: int, width: int, generator: torch.Generator) -> Tensor:
    """Returns the quadratic field of a camera turned about the axes of the picture."""
    x, y = _centred(height, width)
    a, b = torch.randn(2, generator=generator)
    return torch.stack((x * (a * x + b * y), y * (a * x + b * y)), 1)


def _noise(
    channels: int, height: int, width: int, cell: float, generator: torch.Generator
) -> Tensor:
    """Returns smooth noise (1, C, H, W) with a knot about every ``cell`` pixels."""
    knots = (max(2, round(height / cell)) + 1, max(2, round(width / cell)) + 1)
    coarse = torch.randn(1, channels, *knots, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


def _direction(generator: torch.Generator) -> Tensor:
    """Returns a unit vector (1, 2, 1, 1)."""
    return F.normalize(torch.randn(1, 2, 1, 1, generator=generator), dim=1)


def _centred(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns x and y (1, H, W), zero in the middle and 1 at half the shorter side."""
    grid = geometry.identity_grid(height, width)
    half = min(height, width) / 2
    x = (grid[:, 0] - (width - 1) / 2) / half
    return x, (grid[:, 1] - (height - 1) / 2) / half


def _magnitude(field: Tensor) -> Tensor:
    return field.square().sum(1).sqrt().mean().clamp_min(1e-6)


def _steepest(field: Tensor) -> float:
    across, down = field.diff(dim=3).abs().amax(), field.diff(dim=2).abs().amax()
    return float(torch.maximum(across, down))


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))

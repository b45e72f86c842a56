"""The displacement that is measured on, the same for everybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import filters, geometry
from umfuse.train.deform import Deformation


@dataclass(frozen=True)
class Protocol:
    """A way to misalign pairs for measuring; every draw is uniform.

    Attributes:
        translation: Largest part of each side by which the image is moved along it.
        rotation: Largest angle about the middle of the image, degrees.
        scale: Largest change of scale about the middle of the image.
    """

    translation: float
    rotation: float = 0.0
    scale: float = 0.0


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "paper": Protocol(translation=0.01),
        "large": Protocol(translation=0.03, rotation=8.0, scale=0.04),
    }
)

_NOISE_SIDE, _NOISE_SIGMA, _NOISE_RADIUS = 256, 16.0, 50  # pixels of the grid of the noise


def protocol(name: str, size: tuple[int, int], seed: int) -> Deformation:
    """Draws the displacement of a named protocol: a similarity, then elastic noise, composed.

    The noise is that of the authors' code (github.com/wdhudiekou/UMF-CMGR): uniform in [-1, 1] for
    both axes on a grid of 256 x 256 pixels, smoothed by a Gaussian of sigma 16 cut at 101 pixels
    with zeros around the grid, in units of half the sides, without gain. Images of another size get
    the same field, stretched.

    - ``paper`` is that code's: a translation of up to 1 % of each side and the noise (0.5 % of a
      side on average). Unlike there, the two are composed, in one convention, and borders are
      replicated. At 256 x 256 a field is 2.5 px long on average and 5.7 px where it is longest;
      1.1 % of the pixels are not `valid`.
    - ``large`` has a rotation of up to 8 degrees, a change of scale of up to 4 % and a translation
      of up to 3 % of each side, chosen so that fields are as long as those of the test pairs of
      SuperFusion (doi:10.1109/JAS.2022.106082; 16.2 px on average, 30.5 px where they are longest,
      at about 300 x 525): there they are 16.3 and 32.3 px long. In general this is 3.9 % and 7.9 %
      of ``sqrt(height * width)``; single pixels reach 13 %, and 5 % of the pixels are not `valid`.

    Args:
        name: A key of `PROTOCOLS`.
        size: Height and width of the image, pixels.
        seed: The same seed gives the same field, of any size.

    Returns:
        One field, float32 on the CPU.

    Raises:
        ValueError: If there is no such protocol.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}: expected one of {', '.join(PROTOCOLS)}")
    generator = torch.Generator().manual_seed(seed)
    affine = _similarity(PROTOCOLS[name], size, generator)
    elastic = _Elastic(size, generator)
    grid = geometry.identity_grid(*size)
    # The pixel p of the image is seen at elastic(affine(p)) in the deformed image.
    moved = geometry.project_grid(affine, size)
    restore = moved + elastic(moved) - grid
    back = torch.zeros_like(grid)
    for _ in range(12):  # the noise is so smooth that each step leaves less than a third
        back = -elastic(grid + back)
    deform = geometry.project(affine.inverse(), grid + back) - grid
    return Deformation(restore, deform, geometry.inside(grid + restore, size))


def _similarity(kind: Protocol, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Returns a transform (3, 3) float64 of the pixels of an image."""
    draws = 2 * torch.rand(4, generator=generator, dtype=torch.float64) - 1
    right, down = (draws[:2] * kind.translation * torch.tensor(size[::-1])).unbind()
    angle, scale = torch.deg2rad(draws[2] * kind.rotation), 1 + draws[3] * kind.scale
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    a, b = scale * angle.cos(), scale * angle.sin()
    transform = torch.eye(3, dtype=torch.float64)
    transform[0] = torch.stack((a, -b, x + right - a * x + b * y))
    transform[1] = torch.stack((b, a, y + down - b * x - a * y))
    return transform


class _Elastic:
    """Smooth noise, defined on the whole plane: it fades out around the image."""

    def __init__(self, size: tuple[int, int], generator: torch.Generator) -> None:
        side, radius = _NOISE_SIDE, _NOISE_RADIUS
        noise = 2 * torch.rand(2, 1, side, side, generator=generator) - 1
        window = torch.tensor(filters.gaussian(2 * radius + 1, _NOISE_SIGMA))
        # Zeros around the noise, and a frame of the result in which it has an effect.
        rows = F.conv2d(F.pad(noise, (2 * radius,) * 4), window.view(1, 1, 1, -1))
        self.half_sides = F.conv2d(rows, window.view(1, 1, -1, 1)).transpose(0, 1)
        self.half = torch.tensor([size[1], size[0]]).view(1, 2, 1, 1) / 2
        self.to_noise = geometry.resize_transform(size, (side, side))
        self.to_noise[:2, 2] += radius

    def __call__(self, coordinates: Tensor) -> Tensor:
        """Returns the displacement (1, 2, H, W) at any pixels of the image or beside it."""
        places = geometry.project(self.to_noise, coordinates)
        return geometry.sample(self.half_sides, places)[0] * self.half

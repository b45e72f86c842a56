"""Random displacement with its exact truth: what to deform an image with, and what restores it.

The truth is drawn, the deformation is its inverse. So ``deformed = warp(image, field.deform)[0]``
looks like the picture of a misaligned camera, and ``warp(deformed, field.restore)[0]`` is the image
again, but for two interpolations, wherever ``field.valid``. Everything follows the convention of
`umfuse.geometry`.

`deformation` draws what training needs; `protocol` draws what is measured on, the same for
everybody; `read_absolute_grid` reads what others publish.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from umfuse import filters, geometry

Array: TypeAlias = NDArray[Any]

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


def read_absolute_grid(path: str | os.PathLike[str], *, align_corners: bool = True) -> Tensor:
    """Reads the sampling grid that others publish as truth, as a displacement.

    Such a file holds for every pixel the (x, y) to sample at, in [-1, 1] over the image, as
    `torch.nn.functional.grid_sample` takes it: ``(H, W, 2)`` or ``(2, H, W)``, with or without
    axes of length 1 in front. Files ``.npy`` and ``.npz`` need nothing, MATLAB's ``.mat`` (up to
    version 7.2) scipy.

    Args:
        path: The file; it holds one array of such a shape.
        align_corners: Whether -1 and 1 are the centres of the outermost pixels (as SuperFusion has
            it) or the outer borders of them.

    Returns:
        ``(1, 2, H, W)`` pixels, float32.

    Raises:
        ValueError: If the file is none of these, or its values are not finite or no such grid.
        ImportError: If scipy is needed and missing.
        OSError: If the file cannot be opened.
    """
    path = Path(path)
    found = {name: array for name, array in _arrays(path).items() if _planes(array) is not None}
    if len(found) != 1:
        raise ValueError(
            f"{path}: expected one array (H, W, 2) or (2, H, W), got "
            f"{', '.join(sorted(found)) or 'none'}; save the grid alone"
        )
    grid = torch.from_numpy(np.array(_planes(*found.values()), dtype=np.float64))[None]
    if not bool(grid.isfinite().all()):
        raise ValueError(f"{path}: the grid has values that are NaN or Inf")
    height, width = grid.shape[-2:]
    across = float((grid[:, 0, :, -1] - grid[:, 0, :, 0]).mean())
    down = float((grid[:, 1, -1] - grid[:, 1, 0]).mean())
    if not (0.5 < across < 4 and 0.5 < down < 4):  # 2 where nothing moves
        raise ValueError(
            f"{path}: expected (x, y) over [-1, 1], but x grows by {across:.3g} from left to right "
            f"and y by {down:.3g} from top to bottom; the file may hold pixels, a displacement or "
            "(y, x)"
        )
    size = torch.tensor([width, height]).view(1, 2, 1, 1)
    pixels = (grid + 1) * (size - 1) / 2 if align_corners else ((grid + 1) * size - 1) / 2
    return (pixels - geometry.identity_grid(height, width, dtype=torch.float64)).float()


def _arrays(path: Path) -> dict[str, Array]:
    """Returns all arrays of a file by name."""
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".mat"):
        raise ValueError(f"{path}: expected a grid in .npy, .npz or .mat, got {suffix!r}")
    with path.open("rb") as file:
        if suffix == ".mat":
            return _matlab(file, path)
        try:
            stored = np.load(file)
            return {"grid": stored} if suffix == ".npy" else dict(stored)
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged or holds no plain array: {error}") from error


def _matlab(file: BinaryIO, path: Path) -> dict[str, Array]:
    try:
        from scipy import io
    except ImportError as error:
        raise ImportError(
            f"{path}: MATLAB's files need scipy; pip install 'umfuse[matlab]', or save the grid as "
            ".npy"
        ) from error
    try:
        stored = cast("dict[str, Any]", io.loadmat(file))
    except (ValueError, NotImplementedError, TypeError, io.matlab.MatReadError) as error:
        raise ValueError(f"{path} is damaged or of another format: {error}") from error
    return {name: np.asarray(value) for name, value in stored.items()}


def _planes(array: Array) -> Array | None:
    """Returns an array as (2, H, W), or None if it has no such shape."""
    while array.ndim > 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or array.dtype.kind not in "fiu":
        return None
    if array.shape[2] == 2:
        array = np.moveaxis(array, 2, 0)
    return array if len(array) == 2 and min(array.shape[1:]) > 1 else None


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

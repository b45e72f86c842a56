"""The coarse search: every scale, aspect, rotation and translation of a grid, correlated by FFT."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import geometry
from umfuse.search import features, working
from umfuse.search.features import BORDER
from umfuse.search.likelihood import log_likelihood_ratio, log_prior
from umfuse.search.working import SMALLEST, WorkingPair, size_of

SIGMA = 0.8
SCALE_STEP = 1.08  # half a step moves the end of a half frame of 80 px by 3 px, within reach
PEAKS = 3  # peaks kept per scale, aspect and rotation
DISTINCT = 0.05  # of the infrared long side: closer candidates are one


class Grid(NamedTuple):
    """What is correlated.

    Attributes:
        longest: Pixels of the long side of the image that the other one is moved over.
        rotations: Degrees.
        scales: Lowest and highest scale relative to plain resizing: how far apart the fields of
            view may be.
        aspects: Pixel aspects; the raw RoadScene pairs need 0.93 to 1.14, and a coarse grid
            forgives them.
        peaks: Distinct ones that are returned.
    """

    longest: int
    rotations: tuple[float, ...]
    scales: tuple[float, float] = (0.5, 2.0)
    aspects: tuple[float, ...] = (0.9, 1.0, 1.11)
    peaks: int = 8


def candidates(pair: WorkingPair, grid: Grid) -> Tensor:
    """Returns the likeliest distinct transforms of a grid, best first: ``(N, 3, 3)``.

    Args:
        pair: The images.
        grid: Scales and rotations.
    """
    longest, rotations, scales, aspects, peaks = grid
    (height, width), (h, w) = size_of(pair.visible), size_of(pair.infrared)
    low = scales[0] * min(w / width, h / height)
    high = scales[1] * max(w / width, h / height)
    steps = max(1, math.ceil(math.log(high / low) / math.log(SCALE_STEP)))
    inner: list[tuple[float, float]] = []
    outer: list[tuple[float, float]] = []
    for step in range(steps + 1):
        scale = low * (high / low) ** (step / steps)
        for aspect in aspects:
            x, y = scale * aspect**0.5, scale / aspect**0.5
            # The image with the smaller field of view moves over the other one.
            if width * x * height * y <= w * h:
                inner.append((x, y))
            else:
                outer.append((1 / x, 1 / y))
    ratios, transforms = torch.empty(0), torch.empty(0, 3, 3, dtype=torch.float64)
    if inner:
        ratios, transforms = _peaks(pair.infrared, pair.visible, inner, longest, rotations)
    if outer:
        more, back = _peaks(pair.visible, pair.infrared, outer, longest, rotations)
        ratios = torch.cat((ratios, more))
        transforms = torch.cat((transforms, back.inverse()))
    rank = ratios + log_prior(pair, transforms)
    found: list[Tensor] = []
    for _ in range(peaks):
        best = int(rank.argmax())
        if rank[best] == -math.inf:
            break
        found.append(transforms[best])
        rank[pair.distance(transforms, transforms[best]) < DISTINCT] = -math.inf
    return torch.stack(found)


def _peaks(
    fixed: Tensor,
    moving: Tensor,
    scales: list[tuple[float, float]],
    longest: int,
    rotations: tuple[float, ...],
) -> tuple[Tensor, Tensor]:
    """Returns log-likelihood ratios ``(N,)`` and transforms, moving to fixed pixel, of peaks."""
    reduced = working.fitted(fixed, longest)
    reduce = geometry.resize_transform(size_of(fixed), size_of(reduced))
    mask = working.inner_mask(reduced)
    h, w = size_of(moving)
    down, right = h * float(reduce[1, 1]), w * float(reduce[0, 0])
    sizes = [(max(SMALLEST, round(down * y)), max(SMALLEST, round(right * x))) for x, y in scales]
    largest = (max(y for y, _ in sizes), max(x for _, x in sizes))
    correlate = _Correlation(features.whitened(reduced, SIGMA) * mask, mask, largest)
    ratios: list[Tensor] = []
    transforms: list[Tensor] = []
    for size in sizes:
        turned, inside = _rotated(working.resized(moving, size), rotations)
        maps = correlate(features.whitened(turned, SIGMA) * inside, inside)
        # A peak is as high as all pixels within its reach.
        ridge = F.max_pool2d(maps, (1, 7), 1, (0, 3))
        ridge = F.max_pool2d(ridge, (7, 1), 1, (3, 0))
        value, index = torch.where(maps == ridge, maps, 0.0).flatten(1).topk(PEAKS, 1)
        ratios.append(value.flatten())
        shift = torch.eye(3, dtype=torch.float64).repeat(len(maps), PEAKS, 1, 1)
        shift[..., 0, 2] = (index % maps.shape[2]).cpu().double() - size[1] // 2
        shift[..., 1, 2] = (index // maps.shape[2]).cpu().double() - size[0] // 2
        turn = _turns(size, rotations)[:, None] @ geometry.resize_transform((h, w), size)
        transforms.append((reduce.inverse() @ shift @ turn).flatten(0, 1))
    return torch.cat(ratios).cpu(), torch.cat(transforms)


class _Correlation:
    """The log-likelihood ratio of every shift of one image over another.

    Args:
        fixed: ``(1, 2, H, W)`` features.
        mask: ``(1, 1, H, W)``, 0 where `fixed` is unknown (and zero).
        largest: Height and width that no moving image exceeds.
    """

    POOL = 4  # overlaps are smooth: a quarter of the resolution does

    def __init__(self, fixed: Tensor, mask: Tensor, largest: tuple[int, int]) -> None:
        self.shape = height, width = size_of(fixed)
        h, w = largest
        self.size = (_fast(max(height + h // 2 + 1, h)), _fast(max(width + w // 2 + 1, w)))
        self.low = (self.size[0] // self.POOL, self.size[1] // self.POOL)
        self.fixed = _spectrum(fixed, self.size)
        power = fixed.square().sum(1, keepdim=True)
        self.sums = _spectrum(self._pool(torch.cat((power, mask, mask), 1)), self.low)

    def __call__(self, moving: Tensor, inside: Tensor) -> Tensor:
        """Returns the ratios of every shift that keeps the centre of `moving` inside.

        Args:
            moving: ``(B, 2, h, w)`` features.
            inside: ``(B, 1, h, w)``, 0 where `moving` is unknown (and zero).

        Returns:
            ``(B, H, W)``: entry ``[y, x]`` puts the first pixel of `moving`
            at ``(y - h // 2, x - w // 2)``.
        """
        (height, width), (h, w) = self.shape, size_of(moving)
        spectrum = (self.fixed * _spectrum(moving, self.size).conj()).sum(1)
        product = cast("Tensor", torch.fft.irfft2(spectrum, s=self.size))
        moved = moving.square().sum(1, keepdim=True)
        other = _spectrum(self._pool(torch.cat((inside, moved, inside), 1)), self.low)
        sums = cast("Tensor", torch.fft.irfft2(self.sums * other.conj(), s=self.low))
        # Entry i of the small maps is shift 4 i, entry 0 of the large ones shift 0.
        sums = F.pad(sums * self.POOL**2, (0, 1, 0, 1), mode="circular")
        big = (self.low[0] * self.POOL + 1, self.low[1] * self.POOL + 1)
        sums = F.interpolate(sums, big, mode="bilinear", align_corners=True)[..., :-1, :-1]
        sums = sums.clamp_min(1e-3)
        correlation = product / (sums[:, 0] * sums[:, 1] + 1e-3).sqrt()
        maps = log_likelihood_ratio(correlation, sums[:, 2])
        rows = torch.arange(-(h // 2), height - h // 2, device=moving.device) % self.size[0]
        columns = torch.arange(-(w // 2), width - w // 2, device=moving.device) % self.size[1]
        return maps[:, rows][:, :, columns]

    def _pool(self, maps: Tensor) -> Tensor:
        h, w = size_of(maps)
        return F.avg_pool2d(F.pad(maps, (0, -w % self.POOL, 0, -h % self.POOL)), self.POOL)


def _spectrum(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return cast("Tensor", torch.fft.rfft2(maps, s=size))


def _fast(size: int) -> int:
    """Returns the next multiple of 8 whose FFT is fast."""
    size += -size % 8
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 8


def _rotated(image: Tensor, rotations: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Returns the image turned by each angle about its centre, and where it is valid."""
    if rotations == (0.0,):
        return image, working.inner_mask(image)
    size = size_of(image)
    coordinates = geometry.project_grid(_turns(size, rotations).inverse().to(image.device), size)
    turned = geometry.interpolate(image, coordinates)
    return turned, geometry.inside(coordinates, size, BORDER).to(turned.dtype)


def _turns(size: tuple[int, int], rotations: tuple[float, ...]) -> Tensor:
    """Returns the rotations about the centre of an image, ``(R, 3, 3)``."""
    middle = ((size[1] - 1) / 2, (size[0] - 1) / 2)
    turns = [geometry.similarity_transform(middle, middle, degrees=angle) for angle in rotations]
    return torch.stack(turns)

"""The coarse search: every scale, aspect, rotation and translation of a grid, correlated by FFT."""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import geometry
from umfuse.search.likelihood import log_likelihood_ratio, log_prior
from umfuse.search.view import SMALLEST, View, inner_mask, size_of
from umfuse.search.working import WorkingPair

SIGMA = 0.8
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
        step: From one scale to the next: half a step moves the end of a half frame of 80 px by
            3 px, which is within reach.
    """

    longest: int
    rotations: tuple[float, ...]
    scales: tuple[float, float] = (0.5, 2.0)
    aspects: tuple[float, ...] = (0.9, 1.0, 1.11)
    peaks: int = 8
    step: float = 1.08


def candidates(pair: WorkingPair, grid: Grid) -> Tensor:
    """Returns the likeliest distinct transforms of a grid, best first: ``(N, 3, 3)``.

    Args:
        pair: The images.
        grid: Scales and rotations.
    """
    (height, width), (h, w) = pair.visible.size, pair.infrared.size
    low = grid.scales[0] * min(w / width, h / height)
    high = grid.scales[1] * max(w / width, h / height)
    steps = max(1, math.ceil(math.log(high / low) / math.log(grid.step)))
    scales = [low * (high / low) ** (step / steps) for step in range(steps + 1)]
    # The image with the smaller field of view moves over the other one.
    inner = [scale for scale in scales if width * scale * height * scale <= w * h]
    outer = [1 / scale for scale in scales if scale not in inner]
    ratios, transforms = torch.empty(0), torch.empty(0, 3, 3, dtype=torch.float64)
    if inner:
        ratios, transforms = _peaks(pair.infrared, pair.visible, inner, grid)
    if outer:
        more, back = _peaks(pair.visible, pair.infrared, outer, grid)
        ratios = torch.cat((ratios, more))
        transforms = torch.cat((transforms, back.inverse()))
    rank = ratios + log_prior(pair, transforms)
    found: list[Tensor] = []
    for _ in range(grid.peaks):
        best = int(rank.argmax())
        if rank[best] == -math.inf:
            break
        found.append(transforms[best])
        rank[pair.distance(transforms, transforms[best]) < DISTINCT] = -math.inf
    return torch.stack(found)


def _peaks(fixed: View, moving: View, scales: list[float], grid: Grid) -> tuple[Tensor, Tensor]:
    """Returns log-likelihood ratios ``(N,)`` and transforms, moving to fixed pixel, of peaks."""
    seen = fixed.features(grid.longest, SIGMA)
    mask = inner_mask(seen)
    reduce = geometry.resize_transform(fixed.size, size_of(seen))
    down, right = moving.size[0] * float(reduce[1, 1]), moving.size[1] * float(reduce[0, 0])
    shapes = [(aspect**0.5, aspect**-0.5) for aspect in grid.aspects]
    wide, tall = (max(sides) for sides in zip(*shapes, strict=True))
    sizes = [
        (max(SMALLEST, round(down * scale * tall)), max(SMALLEST, round(right * scale * wide)))
        for scale in scales
    ]
    correlate = _Correlation(seen * mask, mask, sizes)
    middle = ((moving.size[1] - 1) / 2, (moving.size[0] - 1) / 2)
    ratios: list[Tensor] = []
    transforms: list[Tensor] = []
    for scale, size in zip(scales, sizes, strict=True):
        centre = ((size[1] - 1) / 2, (size[0] - 1) / 2)
        sides = [
            (float(reduce[0, 0]) * scale * x, float(reduce[1, 1]) * scale * y) for x, y in shapes
        ]
        placed = torch.stack(
            [
                geometry.similarity_transform(middle, centre, side, degrees)
                for side in sides
                for degrees in grid.rotations
            ]
        )
        ratio, shifts = correlate(*moving.laid(placed, size, SIGMA))
        shift = torch.eye(3, dtype=torch.float64).repeat(*ratio.shape, 1, 1)
        shift[..., :2, 2] = shifts.double()
        ratios.append(ratio.flatten())
        transforms.append((reduce.inverse() @ shift @ placed[:, None]).flatten(0, 1))
    return torch.cat(ratios), torch.cat(transforms)


class _Correlation:
    """The likeliest shifts of one image over another.

    Args:
        fixed: ``(1, 2, H, W)`` features.
        mask: ``(1, 1, H, W)``, 0 where `fixed` is unknown (and zero).
        sizes: Heights and widths of the images that are moved.
    """

    POOL = 4  # overlaps are smooth: a quarter of the resolution does; and peaks this far apart

    def __init__(self, fixed: Tensor, mask: Tensor, sizes: list[tuple[int, int]]) -> None:
        self.shape = height, width = size_of(fixed)
        h, w = max(h for h, _ in sizes), max(w for _, w in sizes)
        # Entry i of a correlation is the shift i - origin: those looked at lie in one piece.
        self.origin = self._half(h), self._half(w)
        above, left = self.origin
        self.size = (
            _fast(max(height + above + self.POOL, h)),
            _fast(max(width + left + self.POOL, w)),
        )
        self.low = (self.size[0] // self.POOL, self.size[1] // self.POOL)
        around = (left, self.size[1] - width - left, above, self.size[0] - height - above)
        fixed, mask = F.pad(fixed, around), F.pad(mask, around)
        self.fixed = _spectrum(fixed, self.size)
        power = fixed.square().sum(1, keepdim=True)
        self.sums = _spectrum(self._pool(torch.cat((power, mask, mask), 1)), self.low)

    def __call__(self, moving: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the log-likelihood ratios of the best shifts, and these, on the CPU.

        Args:
            moving: ``(B, 2, h, w)`` features.
            inside: ``(B, 1, h, w)``, 0 where `moving` is unknown (and zero).

        Returns:
            ``(B, PEAKS)`` and ``(B, PEAKS, 2)``, (x, y) that its first pixel comes to.
            They keep its centre inside.
        """
        first = [
            whole - self._half(side)
            for whole, side in zip(self.origin, size_of(moving), strict=True)
        ]
        (top, left), (height, width) = first, self.shape
        spectrum = (self.fixed * _spectrum(moving, self.size).conj()).sum(1)
        product = cast("Tensor", torch.fft.irfft2(spectrum, s=self.size))
        product = product[:, top : top + height, left : left + width]
        moved = moving.square().sum(1, keepdim=True)
        other = _spectrum(self._pool(torch.cat((inside, moved, inside), 1)), self.low)
        sums = cast("Tensor", torch.fft.irfft2(self.sums * other.conj(), s=self.low))
        low = (-(-height // self.POOL) + 1, -(-width // self.POOL) + 1)
        rows, columns = top // self.POOL, left // self.POOL
        sums = sums[..., rows : rows + low[0], columns : columns + low[1]] * self.POOL**2
        powers, others, pixels = sums.clamp_min(1e-3).unbind(1)
        weight = (pixels / (powers * others + 1e-3))[:, None]
        big = ((low[0] - 1) * self.POOL + 1, (low[1] - 1) * self.POOL + 1)
        weight = F.interpolate(weight, big, mode="bilinear", align_corners=True)
        # As likely as a shift is: its squared correlation times the pixels that it is of.
        maps = product.clamp_min(0).square() * weight[:, 0, :height, :width]
        cells, places = F.max_pool2d(maps, self.POOL, ceil_mode=True, return_indices=True)
        peaks = F.max_pool2d(cells, 3, 1, 1) == cells
        best, cell = torch.where(peaks, cells, 0.0).flatten(1).topk(PEAKS, 1)
        place = places.flatten(1).gather(1, cell)
        y, x = place // width, place % width
        # Of the overlap at the peak.
        near = (y + self.POOL // 2) // self.POOL * low[1] + (x + self.POOL // 2) // self.POOL
        pixels = pixels.flatten(1).gather(1, near)
        ratios = log_likelihood_ratio((best / pixels).sqrt(), pixels)
        shifts = torch.stack((x - (self.origin[1] - left), y - (self.origin[0] - top)), -1)
        return ratios.cpu(), shifts.cpu()

    def _half(self, side: int) -> int:
        """Returns about the half of a side, a multiple of `POOL`."""
        return side // (2 * self.POOL) * self.POOL

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

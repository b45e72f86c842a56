"""How well a pair is registered: by what the images share, and by the distance to a known truth.

Images are compared in one modality: the registered infrared image with the one that was not moved.
Warps that fill with black, as the authors' do, leave a dark frame that these figures count as
misalignment, about 40 % of the published MSE before registration; ``border=8`` measures the
interior.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse.metrics import checks, histograms, numeric


def mse(registered: Tensor, reference: Tensor, *, border: int = 0) -> Tensor:
    """Returns the mean squared difference ``mean (a - b)²`` on [0, 1], 0 is best.

    UMF-CMGR and IMF print it over the whole frame.

    Args:
        registered: ``(B, 1, H, W)`` in [0, 1].
        reference: ``(B, 1, H, W)`` in [0, 1].
        border: Pixels that are left out on each side.

    Raises:
        ValueError: See `umfuse.metrics`; or if the border leaves nothing.
    """
    a, b = _interiors("mse", border, registered, reference)
    return (a - b).square().flatten(1).mean(1)


def ncc(registered: Tensor, reference: Tensor, *, border: int = 0) -> Tensor:
    """Returns the normalised cross-correlation: Pearson's r over all pixels, in [-1, 1].

    1 is best; a constant image has r = 0 with every other. UMF-CMGR and IMF print it over the whole
    frame. (A correlation in local windows has the same name elsewhere and is far lower: about 0.46
    where this is 0.88.)

    Args:
        registered: ``(B, 1, H, W)`` in [0, 1].
        reference: ``(B, 1, H, W)`` in [0, 1].
        border: Pixels that are left out on each side.

    Raises:
        ValueError: See `umfuse.metrics`; or if the border leaves nothing.
    """
    return numeric.pearson(*_interiors("ncc", border, registered, reference))[:, 0]


def mutual_information(
    registered: Tensor, reference: Tensor, *, bits: bool = False, border: int = 0
) -> Tensor:
    """Returns the mutual information of the two images: ``H(a) + H(b) - H(a, b)``.

    Maes et al., doi:10.1109/42.563664: a joint histogram of 256x256 8-bit values. From 0, higher is
    better; at most the entropy of either image, and 0 if one is constant. UMF-CMGR and IMF print it
    over the whole frame, in nats. It is biased upwards in small images: see
    `umfuse.metrics.histograms`.

    Args:
        registered: ``(B, 1, H, W)`` in [0, 1].
        reference: ``(B, 1, H, W)`` in [0, 1].
        bits: Returns bits (1 nat is 1.443 bits) instead of nats.
        border: Pixels that are left out on each side.

    Raises:
        ValueError: See `umfuse.metrics`; or if the border leaves nothing.
    """
    a, b = _interiors("mutual_information", border, registered, reference)
    nats = histograms.information(a, b)[:, 0]
    return nats * histograms.BITS if bits else nats


def end_point_error(
    displacement: Tensor, truth: Tensor, valid: Tensor | None = None, *, border: int = 0
) -> Tensor:
    """Returns the mean distance between two fields, in pixels: ``mean |d - t|``, 0 is best.

    Args:
        displacement: ``(B, 2, H, W)`` pixels.
        truth: ``(B, 2, H, W)`` pixels.
        valid: ``(B, 1, H, W)`` bool, the pixels that count; None means all.
        border: Pixels that are left out on each side.

    Raises:
        ValueError: If shapes differ, a value is not finite, or no valid pixel is left in an image.
    """
    if displacement.dim() != 4 or displacement.shape[1] != 2 or displacement.shape != truth.shape:
        raise ValueError(
            "end_point_error expects two fields (B, 2, H, W) of the same shape, got "
            f"{tuple(displacement.shape)} and {tuple(truth.shape)}; see geometry.resize_field"
        )
    checks.finite("end_point_error", displacement=displacement, truth=truth)
    gap = displacement.double() - truth.double()
    distance = numeric.root(gap.square().sum(1, keepdim=True))
    rows, columns = checks.interior("end_point_error", border, (gap.shape[-2], gap.shape[-1]))
    if valid is None:
        return distance[..., rows, columns].flatten(1).mean(1)
    if valid.shape != distance.shape or valid.dtype != torch.bool:
        raise ValueError(
            f"valid must be bool {tuple(distance.shape)}, got {valid.dtype} {tuple(valid.shape)}"
        )
    distance, valid = distance[..., rows, columns], valid[..., rows, columns]
    count = valid.flatten(1).sum(1)
    if not bool(count.all()):
        raise ValueError("end_point_error: an image has no valid pixel, so no error is defined")
    return (distance * valid).flatten(1).sum(1) / count


def grid_error(
    found: Tensor, truth: Tensor, size: tuple[int, int], points: int = 9, *, border: int = 0
) -> Tensor:
    """Returns the mean distance between two maps on a grid over the visible image, 0 is best.

    Args:
        found: Where visible pixels are sent: a transform ``(3, 3)`` or ``(B, 3, 3)``, or the
            coordinates ``(B, 2, *size)`` that a registration gives.
        truth: The same in either form.
        size: Height and width of the visible image.
        points: Points along each side; the outermost lie on the corner pixels.
        border: Pixels that are left out on each side: the grid spans the interior.

    Returns:
        ``(B,)`` in pixels of the infrared image. Coordinates are read bilinearly.

    Raises:
        ValueError: If a map has neither form, is not finite, or sends a point of the grid to
            infinity or behind the camera; or if the border leaves nothing.
    """
    if min(size) < 1 or points < 2:
        raise ValueError(f"grid_error needs a size and at least 2 points, got {size} and {points}")
    rows, columns = checks.interior("grid_error", border, size)
    step = torch.linspace(0, 1, points, dtype=torch.float64, device=found.device)
    y, x = torch.meshgrid(
        *(side.start + step * (side.stop - side.start - 1) for side in (rows, columns)),
        indexing="ij",
    )
    gap = _at(found, size, x, y) - _at(truth, size, x, y)
    return numeric.root(gap.square().sum(1)).flatten(1).mean(1)


def _interiors(
    metric: str, border: int, registered: Tensor, reference: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns both images in float64 without their border."""
    a, b = checks.images(metric, registered=registered, reference=reference)
    rows, columns = checks.interior(metric, border, (a.shape[-2], a.shape[-1]))
    return a[..., rows, columns], b[..., rows, columns]


def _at(map_: Tensor, size: tuple[int, int], x: Tensor, y: Tensor) -> Tensor:
    """Returns where a map sends the visible pixels (x, y): float64 (B, 2, *x.shape)."""
    checks.finite("grid_error", map=map_)
    if map_.shape[-2:] == (3, 3) and map_.dim() in (2, 3):
        rows = map_.double().view(-1, 3, 3, 1, 1).unbind(1)
        u, v, w = (row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in rows)
        if not bool((w > 1e-9).all()):
            raise ValueError("grid_error: the transform sends a part of the image to infinity")
        return torch.stack((u / w, v / w), 1)
    if map_.dim() == 4 and map_.shape[1] == 2 and map_.shape[-2:] == size:
        grid = torch.stack((x / max(size[1] - 1, 1), y / max(size[0] - 1, 1)), -1) * 2 - 1
        grid = grid.expand(len(map_), -1, -1, -1)
        return F.grid_sample(map_.double(), grid, padding_mode="border", align_corners=True)
    raise ValueError(
        f"grid_error expects a transform (3, 3) or (B, 3, 3) or coordinates (B, 2, {size[0]}, "
        f"{size[1]}), got {tuple(map_.shape)}"
    )

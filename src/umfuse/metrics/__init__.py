"""Measures of registration and of fusion, each with its definition.

Figures of one name differ between papers by definition alone (data range, windows, sum or mean
over the two sources), so compare only what one definition gave. Images are float tensors
``(B, 1, H, W)`` in [0, 1], results ``(B,)`` float64; all sums run in float64. Nothing here is meant
as a loss.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_NOISE = 2.0 / 255**2  # of the visual channel: variance 2 on images of 0..255
_TINY = 1e-10 / 255**2


def end_point_error(displacement: Tensor, truth: Tensor, valid: Tensor | None = None) -> Tensor:
    """Returns the mean distance between two fields, in pixels: ``mean |d - t|``, 0 is best.

    Args:
        displacement: ``(B, 2, H, W)`` pixels.
        truth: ``(B, 2, H, W)`` pixels.
        valid: ``(B, 1, H, W)`` bool, the pixels that count; None means all.

    Raises:
        ValueError: If shapes differ, a value is not finite or an image has no valid pixel.
    """
    if displacement.dim() != 4 or displacement.shape[1] != 2 or displacement.shape != truth.shape:
        raise ValueError(
            "end_point_error expects two fields (B, 2, H, W) of the same shape, got "
            f"{tuple(displacement.shape)} and {tuple(truth.shape)}; see umfuse.warp.resize"
        )
    _finite(displacement=displacement, truth=truth)
    distance = (displacement.double() - truth.double()).square().sum(1, keepdim=True).sqrt()
    if valid is None:
        return distance.flatten(1).mean(1)
    if valid.shape != distance.shape or valid.dtype != torch.bool:
        raise ValueError(
            f"valid must be bool {tuple(distance.shape)}, got {valid.dtype} {tuple(valid.shape)}"
        )
    count = valid.flatten(1).sum(1)
    if not bool(count.all()):
        raise ValueError("end_point_error: an image has no valid pixel, so no error is defined")
    return (distance * valid).flatten(1).sum(1) / count


def grid_error(found: Tensor, truth: Tensor, size: tuple[int, int], points: int = 9) -> Tensor:
    """Returns the mean distance between two maps on a grid over the visible image, 0 is best.

    Args:
        found: Where visible pixels are sent: a transform ``(3, 3)`` or ``(B, 3, 3)``, or the
            coordinates ``(B, 2, *size)`` that a registration gives.
        truth: The same in either form.
        size: Height and width of the visible image.
        points: Points along each side; the outermost lie on the corner pixels.

    Returns:
        ``(B,)`` in pixels of the infrared image. Coordinates are read bilinearly.

    Raises:
        ValueError: If a map has neither form, is not finite, or sends a point of the grid to
            infinity or behind the camera.
    """
    if min(size) < 1 or points < 2:
        raise ValueError(f"grid_error needs a size and at least 2 points, got {size} and {points}")
    distance = (_on_grid(found, size, points) - _on_grid(truth, size, points)).square().sum(1)
    return distance.sqrt().flatten(1).mean(1)


def cc(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the correlation of the fused image with its sources: ``(r(F, A) + r(F, B)) / 2``.

    Pearson's r over all pixels, in [-1, 1], higher is better. A plain average reaches the highest
    values, so read it beside one that sees detail. A constant image has r = 0 with every other.

    Raises:
        ValueError: See `ssim`.
    """
    fused, infrared, visible = _images("cc", 1, fused, infrared, visible)
    return (_pearson(fused, infrared) + _pearson(fused, visible)) / 2


def ssim(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the mean structural similarity with the two sources.

    Wang et al., doi:10.1109/TIP.2003.819861: 11x11 Gaussian window of sigma 1.5 without padding,
    data range 1, K = (0.01, 0.03), in [-1, 1], higher is better. Constant images compare by their
    luminance alone. (Papers of this field also print the sum of the two, and values from a data
    range of 2 on images of 0..255; neither can be compared with this.)

    Raises:
        ValueError: If images differ in size, have not one channel, hold NaN or Inf or values
            outside [0, 1], or have a side below 11 pixels.
    """
    fused, infrared, visible = _images("ssim", 11, fused, infrared, visible)
    return (_ssim(fused, infrared) + _ssim(fused, visible)) / 2


def vif(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the visual information of both sources that the fused image keeps, summed.

    Pixel-domain VIF of Sheikh and Bovik, doi:10.1109/TIP.2005.859378: four scales, Gaussian windows
    of 17, 9, 5 and 3 pixels with sigma a fifth of that, noise variance 2 on 0..255::

        vif(F | A) = sum log(1 + g² var(A) / (var(F - g A) + 2)) / sum log(1 + var(A) / 2)

    ``vif(F | A) + vif(F | B)`` is 0 if nothing is kept; each term is 1 for a perfect copy and may
    be more where contrast is raised. A constant source has nothing to lose: its term is 1.

    Raises:
        ValueError: See `ssim`; sides must be 41 pixels or more.
    """
    fused, infrared, visible = _images("vif", 41, fused, infrared, visible)
    return _vif(fused, infrared) + _vif(fused, visible)


def qabf(fused: Tensor, infrared: Tensor, visible: Tensor, *, legacy: bool = False) -> Tensor:
    """Returns how much of the edges of both sources the fused image keeps.

    Xydeas and Petrovic, doi:10.1049/el:20000267: per pixel and source the product of two sigmoids,
    of the ratio of edge strengths (0.9994, -15, 0.5) and of the agreement of edge directions
    (0.9879, -22, 0.8); the mean over both sources weighs each pixel by the source's edge strength.
    Sobel edges with replicated borders; directions modulo 180 degrees. In [0, 0.975], higher is
    better; 1 if neither source has an edge, so that there was nothing to keep.

    Args:
        fused: ``(B, 1, H, W)`` in [0, 1].
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: ``(B, 1, H, W)`` in [0, 1].
        legacy: Computes what most papers of this field print: the image ends in black, so that its
            frame counts as an edge that every image keeps (about +0.06 at 256x256), and directions
            just left and right of vertical count as opposite (about -0.02).

    Raises:
        ValueError: See `ssim`; sides must be 3 pixels or more.
    """
    fused, infrared, visible = _images("qabf", 3, fused, infrared, visible)
    strength, direction = _edges(fused, legacy)
    kept = weight = torch.zeros_like(strength[:, 0, 0, 0])
    for source in (infrared, visible):
        strength_, direction_ = _edges(source, legacy)
        weak, strong = torch.minimum(strength, strength_), torch.maximum(strength, strength_)
        ratio = weak / strong.clamp_min(1e-12)
        turn = (direction - direction_).abs()
        turn = turn if legacy else torch.minimum(turn, math.pi - turn)
        agreement = 1 - turn / (math.pi / 2)
        quality = (0.9994 / (1 + (-15 * (ratio - 0.5)).exp())) * (
            0.9879 / (1 + (-22 * (agreement - 0.8)).exp())
        )
        kept = kept + (quality * strength_).flatten(1).sum(1)
        weight = weight + strength_.flatten(1).sum(1)
    return torch.where(weight > 1e-9, kept / weight.clamp_min(1e-9), 1.0)


def _finite(**values: Tensor) -> None:
    for name, value in values.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} holds NaN or Inf; mask or repair it first")


def _images(metric: str, smallest: int, *images: Tensor) -> tuple[Tensor, ...]:
    """Returns the images in float64, or raises what is wrong with them."""
    shape = images[0].shape
    for name, image in zip(("fused", "infrared", "visible"), images, strict=True):
        if not image.is_floating_point() or image.dim() != 4 or image.shape[1] != 1:
            raise ValueError(
                f"{metric}: {name} must be a float tensor (B, 1, H, W), got {image.dtype} "
                f"{tuple(image.shape)}; pass the luma of a colour image"
            )
        if image.shape != shape:
            raise ValueError(
                f"{metric}: images must have one size, got {tuple(shape)} and {name} "
                f"{tuple(image.shape)}; register the infrared image on the visible grid"
            )
        _finite(**{f"{metric}: {name}": image})
        low, high = float(image.min()), float(image.max())
        if low < -1e-4 or high > 1 + 1e-4:
            raise ValueError(
                f"{metric}: {name} must lie in [0, 1], got [{low:.4g}, {high:.4g}]; "
                "divide by the largest value of its type"
            )
    if min(shape[-2:]) < smallest:
        raise ValueError(
            f"{metric} needs sides of {smallest} pixels or more, got {shape[-2]}x{shape[-1]}"
        )
    return tuple(image.double() for image in images)


def _on_grid(map_: Tensor, size: tuple[int, int], points: int) -> Tensor:
    """Returns where a map sends the points of the grid: (B, 2, points, points) float64."""
    _finite(map=map_)
    step = torch.linspace(0, 1, points, dtype=torch.float64, device=map_.device)
    y, x = torch.meshgrid(step, step, indexing="ij")
    if map_.shape[-2:] == (3, 3) and map_.dim() in (2, 3):
        rows = map_.double().view(-1, 3, 3, 1, 1).unbind(1)
        x, y = x * (size[1] - 1), y * (size[0] - 1)
        u, v, w = (row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in rows)
        if not bool((w > 1e-9).all()):
            raise ValueError("grid_error: the transform sends a part of the image to infinity")
        return torch.stack((u / w, v / w), 1)
    if map_.dim() == 4 and map_.shape[1] == 2 and map_.shape[-2:] == size:
        grid = (2 * torch.stack((x, y), -1) - 1).expand(len(map_), -1, -1, -1)
        return F.grid_sample(map_.double(), grid, align_corners=True)
    raise ValueError(
        f"grid_error expects a transform (3, 3) or (B, 3, 3) or coordinates (B, 2, {size[0]}, "
        f"{size[1]}), got {tuple(map_.shape)}"
    )


def _pearson(a: Tensor, b: Tensor) -> Tensor:
    a, b = (one.flatten(1) - one.flatten(1).mean(1, keepdim=True) for one in (a, b))
    norm = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(norm > 1e-12, (a * b).sum(1) / norm.clamp_min(1e-12), 0.0)


def _window(size: int, sigma: float, like: Tensor) -> Tensor:
    x = torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2
    weights = (-(x / sigma).square() / 2).exp()
    return weights / weights.sum()


def _blur(image: Tensor, window: Tensor) -> Tensor:
    """Filters (B, C, H, W) with a separable window, without padding."""
    batch, channels, height, width = image.shape
    flat = image.reshape(batch * channels, 1, height, width)
    flat = F.conv2d(F.conv2d(flat, window[None, None, :, None]), window[None, None, None])
    return flat.view(batch, channels, *flat.shape[-2:])


def _moments(a: Tensor, b: Tensor, window: Tensor) -> tuple[Tensor, ...]:
    """Returns local means, variances and covariance: mean a, mean b, var a, var b, cov."""
    blurred = _blur(torch.cat((a, b, a * a, b * b, a * b), 1), window)
    mean_a, mean_b, aa, bb, ab = blurred.unbind(1)
    return (
        mean_a,
        mean_b,
        (aa - mean_a.square()).clamp_min(0),
        (bb - mean_b.square()).clamp_min(0),
        ab - mean_a * mean_b,
    )


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    mean_a, mean_b, var_a, var_b, cov = _moments(a, b, _window(11, 1.5, a))
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return (luminance * (2 * cov + c2) / (var_a + var_b + c2)).flatten(1).mean(1)


def _vif(fused: Tensor, source: Tensor) -> Tensor:
    kept = total = torch.zeros_like(source[:, 0, 0, 0])
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        window = _window(size, size / 5, source)
        if scale:
            fused, source = (_blur(one, window)[..., ::2, ::2] for one in (fused, source))
        _, _, var_source, var_fused, cov = _moments(source, fused, window)
        # Where the source is flat, or the fused image flat or inverted, nothing is kept.
        keeps = (var_source >= _TINY) & (var_fused >= _TINY) & (cov > 0)
        gain = torch.where(keeps, cov / var_source.clamp_min(_TINY), 0.0)
        rest = (var_fused - gain * cov).clamp_min(_TINY)
        kept = kept + (1 + gain.square() * var_source / (rest + _NOISE)).log().flatten(1).sum(1)
        total = total + (1 + var_source / _NOISE).log().flatten(1).sum(1)
    return torch.where(total > 1e-6, kept / total.clamp_min(1e-6), 1.0)


def _edges(image: Tensor, black: bool) -> tuple[Tensor, Tensor]:
    """Returns strength and direction, in (-pi/2, pi/2], of Sobel edges, (B, 1, H, W) each."""
    smooth, slope = image.new_tensor([1.0, 2.0, 1.0]), image.new_tensor([-1.0, 0.0, 1.0])
    kernels = torch.stack((torch.outer(smooth, slope), torch.outer(slope, smooth)))[:, None]
    framed = F.pad(image, (1, 1, 1, 1), mode="constant" if black else "replicate")
    both = F.conv2d(framed, kernels)
    x, y = both[:, :1], both[:, 1:]
    flat = x.abs() < 1e-12
    direction = torch.where(flat, math.pi / 2, (y / torch.where(flat, 1.0, x)).atan())
    return (x.square() + y.square()).sqrt(), direction

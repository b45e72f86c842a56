"""The losses of the paper, one function an equation, and the few that measure better.

Numbers of equations are those of Wang et al., IJCAI 2022, doi:10.24963/ijcai.2022/487. Images are
float tensors ``(B, C, H, W)`` in [0, 1]; every function returns a scalar unless it says otherwise.
Fields are pixels. Losses are computed in float32 (or float64 if given so) under every autocast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import filters, metrics
from umfuse.filters import precise
from umfuse.metrics.fidelity import vif_of_each
from umfuse.metrics.similarity import scales

Maps = Sequence[Tensor]


def charbonnier(difference: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Returns the mean of ``sqrt(difference^2 + epsilon^2)``, a smooth L1."""
    return (precise(difference).square() + epsilon**2).sqrt().mean()


def ms_ssim(a: Tensor, b: Tensor, data_range: float = 1.0) -> Tensor:
    """Returns the multi-scale structural similarity of two batches, in [0, 1].

    11x11 Gaussian windows of sigma 1.5 without padding, up to five scales: as many as the smaller
    side has room for, their weights normalised to one. The range matters: with 255 for images in
    [0, 1] the constants swamp the images and black scores almost 1.

    Args:
        a: ``(B, C, H, W)``.
        b: Of the same shape.
        data_range: Largest minus smallest possible value.

    Raises:
        ValueError: If the shapes differ or a side is below 11 pixels.
    """
    if a.shape != b.shape or min(a.shape[-2:]) < 11:
        raise ValueError(
            "ms_ssim needs two batches of one shape with sides of 11 pixels or more, "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    terms, weights = scales(precise(a), precise(b), data_range)
    # Negative contrast has no real power: clamped, but not to 0, where no other scale had a slope.
    return ((terms.clamp_min(0) + 1e-12) ** weights).prod(0).mean()


def structure(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns Eq. 16: how far the fused image is from both sources in MS-SSIM, in [0, 2]."""
    return 2 - ms_ssim(fused, infrared) - ms_ssim(fused, visible)


def joint_gradient(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns Eq. 17: the mean L1 distance to the stronger of the two gradients.

    The gradient is Sobel's, a vector: per pixel the source with the longer one is the target, sign
    and direction with it. (The authors' code compares absolute Laplacians divided by 16, which
    weighs next to nothing and lets edges turn over.)

    Args:
        fused: ``(B, 1, H, W)``.
        infrared: ``(B, 1, H, W)``.
        visible: ``(B, 1, H, W)``.
    """
    images = (fused, infrared, visible)
    ours, ir, vis = (torch.cat(filters.sobel(image), 1) / 8 for image in images)
    stronger = ir.square().sum(1, keepdim=True) > vis.square().sum(1, keepdim=True)
    return (ours - torch.where(stronger, ir, vis)).abs().mean()


def saliency(image: Tensor) -> Tensor:
    """Returns the histogram contrast of every pixel: its mean distance to all others, in [0, 1].

    ``S[i] = sum_j |i - j| histogram[j]`` over 256 grey levels, divided by the largest value of the
    picture. It has no gradient.

    Args:
        image: ``(B, 1, H, W)``.
    """
    levels = (image.detach().float().clamp(0, 1) * 255).round().long().flatten(1)
    counts = torch.zeros(len(levels), 256, device=image.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=counts.dtype))
    value = torch.arange(256, device=image.device, dtype=counts.dtype)
    with torch.autocast(image.device.type, enabled=False):
        contrast = counts @ (value[:, None] - value).abs()
    map_ = contrast.gather(1, levels)
    return (map_ / map_.amax(1, keepdim=True).clamp_min(1e-12)).view_as(image)


def saliency_weight(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the weight ``(B, 1, H, W)`` of the infrared image, that of the visible is the rest.

    Eq. 18 as the authors' code has it, ``0.5 + 0.5 (S_ir - S_vis)``; as printed it divides by
    ``S_ir - S_vis`` and runs to infinity.
    """
    return 0.5 + 0.5 * (saliency(infrared) - saliency(visible))


def self_visual_saliency(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the second line of Eq. 18: L1 to the mean of the sources, weighed by saliency."""
    weight = saliency_weight(infrared, visible)
    target = weight * precise(infrared) + (1 - weight) * precise(visible)
    return (precise(fused) - target).abs().mean()


def differences(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns how little the fused image has of each source beyond the other, in [0, 4].

    Two less `umfuse.metrics.scd` (doi:10.1016/j.aeue.2015.09.004). It is 0 where the contrasts of
    both sources add up, whatever the level, and so holds against an average that halves them.

    Args:
        fused: ``(B, 1, H, W)``; what lies outside [0, 1] counts as clipped, like below.
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: ``(B, 1, H, W)`` in [0, 1].
    """
    return 2 - metrics.scd(*_clipped(fused, infrared, visible)).mean().to(precise(fused).dtype)


def fidelity(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns how little of the visual information of each source is kept, 2 to about 0.

    Two less the square root of what `umfuse.metrics.vif` (doi:10.1109/TIP.2005.859378) has of each
    source. Its plain sum is the largest for a copy of one of them; the roots want some of both.

    Args:
        fused: As in `differences`, like the two after it.
        infrared: See there.
        visible: See there.
    """
    kept = vif_of_each(*_clipped(fused, infrared, visible))
    # Not from 0: the root has no slope there.
    return 2 - (kept + 1e-3).sqrt().mean(0).sum().to(precise(fused).dtype)


def edges(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns how much of the edges of both sources is lost, in [0, 1].

    One less `umfuse.metrics.qabf` (doi:10.1049/el:20000267), where an edge weighs by its strength.

    Args:
        fused: As in `differences`, like the two after it.
        infrared: See there.
        visible: See there.
    """
    return 1 - metrics.qabf(*_clipped(fused, infrared, visible)).mean().to(precise(fused).dtype)


def daylight(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns how much darker bright and empty places get, a day's sky above all: 0 to 1.

    Args:
        fused: As in `differences`, like the two after it.
        infrared: See there.
        visible: See there.
    """
    darker = (precise(visible) - precise(fused)).relu()
    return (bright_and_empty(infrared, visible) * darker).mean()


def bright_and_empty(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns where a pair shows a day's sky or what looks like it: ``(B, 1, H, W)`` in [0, 1].

    Such a place is brighter than 0.5 in the visible image, brighter there than in the infrared one,
    and of little contrast in both over 15 pixels. A part of one is one within 0.2 of that
    brightness, or of a standard deviation of up to 0.06.

    Args:
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: ``(B, 1, H, W)`` in [0, 1].
    """
    means, deviations = zip(*(_local(precise(one)) for one in (infrared, visible)), strict=True)
    empty = (1 - torch.maximum(*deviations) / 0.06).clamp_min(0)
    return empty * ((means[1] - 0.5) / 0.2).clamp(0, 1) * (means[1] > means[0])


def _clipped(*images: Tensor) -> tuple[Tensor, ...]:
    """Returns images as they may be measured."""
    return tuple(precise(image).clamp(0, 1) for image in images)


def _local(image: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of the 15x15 pixels around each."""
    around = F.pad(torch.cat((image, image.square()), 1), (7,) * 4, mode="replicate")
    pooled = F.avg_pool2d(around, 15, 1)
    mean = pooled[:, :1]
    return mean, (pooled[:, 1:] - mean.square()).clamp_min(1e-12).sqrt()


def content(image: Tensor, other: Tensor) -> Tensor:
    """Returns one term of L_con, Eq. 11: the mean absolute difference."""
    return (precise(image) - precise(other)).abs().mean()


def edge(image: Tensor, other: Tensor) -> Tensor:
    """Returns one term of L_edge, Eq. 11: the Charbonnier distance of the Laplacians."""
    return charbonnier(filters.laplacian(image) - filters.laplacian(other))


def perceptual(ours: Maps, theirs: Maps, layer_weights: Sequence[float]) -> Tensor:
    """Returns one term of L_pcp, Eq. 8: the mean squared difference of feature maps.

    Args:
        ours: ``(B, C_j, h_j, w_j)`` of each layer, as `umfuse.train.perceptual` makes them.
        theirs: The same of the other image.
        layer_weights: ω_j of each layer, over which the means are summed.
    """
    terms = (
        weight * (precise(one) - precise(other)).square().mean()
        for weight, one, other in zip(layer_weights, ours, theirs, strict=True)
    )
    return torch.stack(tuple(terms)).sum()


def style(ours: Maps, theirs: Maps, layer_weights: Sequence[float]) -> Tensor:
    """Returns one term of L_sty, Eq. 9: the mean squared difference of the Gram matrices.

    Args:
        ours: As in `perceptual`, like the others.
        theirs: See there.
        layer_weights: See there.
    """
    return perceptual([gram(one) for one in ours], [gram(one) for one in theirs], layer_weights)


def gram(maps: Tensor) -> Tensor:
    """Returns the Gram matrix ``(B, C, C)`` of feature maps, each image by itself.

    Inner products of channels over ``C h w`` (Gatys et al., doi:10.1109/CVPR.2016.265).

    Args:
        maps: ``(B, C, h, w)``.
    """
    channels = precise(maps).flatten(2)
    with torch.autocast(maps.device.type, enabled=False):
        return channels @ channels.mT / (channels.shape[1] * channels.shape[2])


def similarity(
    ours: Maps, theirs: Maps, layer_weights: Sequence[float], valid: Tensor | None = None
) -> Tensor:
    """Returns one term of Eq. 13: the mean absolute difference of feature maps.

    Args:
        ours: As in `perceptual`, like the two after it.
        theirs: See there.
        layer_weights: See there.
        valid: ``(B, 1, H, W)`` bool, which pixels of the images count; None for all.
    """
    total = ours[0].new_zeros((), dtype=torch.float32)
    for weight, one, other in zip(layer_weights, ours, theirs, strict=True):
        difference = (precise(one) - precise(other)).abs().mean(1, keepdim=True)
        if valid is None:
            total = total + weight * difference.mean()
            continue
        counts = F.interpolate(valid.to(difference.dtype), difference.shape[-2:], mode="area")
        total = total + weight * (difference * counts).sum() / counts.sum().clamp_min(1)
    return total


def smoothness(displacement: Tensor) -> Tensor:
    """Returns Eq. 14: the mean absolute difference of neighbours, pixels per pixel."""
    field = precise(displacement)
    return field.diff(dim=3).abs().mean() + field.diff(dim=2).abs().mean()


def end_point(displacement: Tensor, truth: Tensor, valid: Tensor, epsilon: float = 0.1) -> Tensor:
    """Returns the mean distance between two fields where they hold, smooth near zero.

    Args:
        displacement: ``(B, 2, H, W)`` pixels.
        truth: ``(B, 2, H, W)`` pixels.
        valid: ``(B, 1, H, W)``, the weight of each pixel; bool or float.
        epsilon: Pixels below which the distance counts as its square.
    """
    gap = (precise(displacement) - precise(truth)).square().sum(1, keepdim=True)
    weight = valid.to(gap.dtype)
    distance = (gap + epsilon**2).sqrt() - epsilon
    return (distance * weight).sum() / weight.sum().clamp_min(1)


def matching(logits: Tensor, offset: Tensor, valid: Tensor) -> Tensor:
    """Returns how surprising the true offset is to a window of logits, in nats (cross-entropy).

    The chance of a place between pixels is shared among its four neighbours bilinearly. Pixels
    whose offset lies outside the window do not count.

    Args:
        logits: ``(B, (2 r + 1)², H, W)``, rows of the window first, as in `umfuse.networks.Match`.
        offset: ``(B, 2, H, W)``, the truth, pixels.
        valid: ``(B, 1, H, W)``, the weight of each pixel; bool or float.
    """
    side = math.isqrt(logits.shape[1])
    radius = (side - 1) // 2
    weight = valid.to(offset.dtype) * (offset.abs().amax(1, keepdim=True) < radius)
    place = (offset + radius).clamp(0, side - 1 - 1e-3)
    corner, part = place.long(), place.frac()
    chance = precise(logits).log_softmax(1)
    expected = torch.zeros_like(weight)
    for down in (0, 1):
        for right in (0, 1):
            index = (corner[:, 1:] + down) * side + corner[:, :1] + right
            share_x = part[:, :1] if right else 1 - part[:, :1]
            share_y = part[:, 1:] if down else 1 - part[:, 1:]
            expected = expected + share_x * share_y * chance.gather(1, index)
    return -(expected * weight).sum() / weight.sum().clamp_min(1)


def lsgan(scores: Tensor, *, real: bool) -> Tensor:
    """Returns the mean squared distance of a critic's scores to 1 (real) or 0 (LSGAN).

    Mao et al., ICCV 2017, doi:10.1109/ICCV.2017.304.
    """
    return (precise(scores) - float(real)).square().mean()

"""Structural similarity: SSIM and MS-SSIM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from umfuse import filters
from umfuse.metrics import checks, windows

_GAUSSIAN = filters.gaussian(11, 1.5)
_UNIFORM = windows.uniform(7)
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(fused: Tensor, infrared: Tensor, visible: Tensor, *, legacy: bool = False) -> Tensor:
    """Returns the mean structural similarity with the two sources: ``(s(F, A) + s(F, B)) / 2``.

    Wang et al., doi:10.1109/TIP.2003.819861, in [-1, 1], higher is better: an 11x11 Gaussian window
    of sigma 1.5 without padding, data range 1, K = (0.01, 0.03). Constant images compare by their
    luminance alone.

    Most tables of this field hold other values. Those of UMF-CMGR and IMF are as small as
    ``legacy`` makes them (a plain average of RoadScene pairs has 0.49, and 0.72 by the standard);
    CDDFuse prints the sum of the two instead of the mean, twice that; those of SuperFusion are as
    large as the standard's.

    Args:
        fused: ``(B, 1, H, W)`` in [0, 1].
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: ``(B, 1, H, W)`` in [0, 1].
        legacy: The default of scikit-image up to 0.19 for float images of 0..255: a uniform 7x7
            window, variances with n - 1, and a data range of 2, so that contrasts far below what
            the eye sees count in full. (Those figures came from float32, whose rounding shows in
            flat areas; this is exact.)

    Raises:
        ValueError: See `umfuse.metrics`; sides must have 11 pixels or more, or 7 for ``legacy``.
    """
    fused, sources = checks.sources("ssim", 7 if legacy else 11, fused, infrared, visible)
    if legacy:
        # A data range of 2 on 0..255.
        luminance, contrast = factors(fused, sources, _UNIFORM, 2 / 255, sample=True)
    else:
        luminance, contrast = factors(fused, sources, _GAUSSIAN)
    return (luminance * contrast).flatten(1).mean(1)


def ms_ssim(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the mean multi-scale structural similarity with the two sources, in [0, 1].

    Wang et al., doi:10.1109/ACSSC.2003.1292216, higher is better: per source the product over five
    scales of the mean contrast and structure, and at the coarsest scale of luminance, each to the
    power of its weight; windows as in `ssim`, scales halved by 2x2 means. A scale whose mean is
    negative makes the product 0.

    Five scales need sides of 161 pixels. Smaller images have as many as fit, their weights
    normalised to one, so compare images of one size; below 21 pixels it is `ssim`.

    Raises:
        ValueError: See `umfuse.metrics`; sides must have 11 pixels or more.
    """
    fused, sources = checks.sources("ms_ssim", 11, fused, infrared, visible)
    terms, weights = scales(fused, sources)
    positive = terms > 0
    product = (torch.where(positive, terms, 1.0) ** weights).prod(0)
    return torch.where(positive.all(0), product, 0.0).mean(1)


def scales(a: Tensor, b: Tensor, data_range: float = 1.0) -> tuple[Tensor, Tensor]:
    """Returns what MS-SSIM multiplies and to which powers, finest scale first.

    Args:
        a: ``(B, C, H, W)`` with sides of 11 pixels or more.
        b: The same, or of more channels if ``a`` has one.
        data_range: Largest minus smallest possible value.

    Returns:
        The mean of each scale ``(S, B, C)``, in [-1, 1], and its weight ``(S, 1, 1)``.
    """
    side = min(a.shape[-2:])
    count = next((n for n in range(1, len(_WEIGHTS)) if side <= 10 * 2**n), len(_WEIGHTS))
    terms: list[Tensor] = []
    for scale in range(count):
        if scale:
            odd = (a.shape[-2] % 2, a.shape[-1] % 2)
            a, b = F.avg_pool2d(a, 2, padding=odd), F.avg_pool2d(b, 2, padding=odd)
        luminance, contrast = factors(a, b, _GAUSSIAN, data_range)
        map_ = luminance * contrast if scale == count - 1 else contrast
        terms.append(map_.mean((2, 3)))
    share = sum(_WEIGHTS[:count]) if count < len(_WEIGHTS) else 1  # all five add up to 1.0001
    weights = [weight / share for weight in _WEIGHTS[:count]]
    return torch.stack(terms), torch.tensor(weights, dtype=a.dtype, device=a.device).view(-1, 1, 1)


def factors(
    a: Tensor,
    b: Tensor,
    window: windows.Window,
    data_range: float = 1.0,
    *,
    sample: bool = False,
) -> tuple[Tensor, Tensor]:
    """Returns the two factors of SSIM, luminance and contrast with structure, where windows fit.

    Args:
        a: ``(B, C, H, W)``.
        b: The same, or of more channels if ``a`` has one.
        window: Of both sides.
        data_range: Largest minus smallest possible value.
        sample: Whether variances are those of a sample, with n - 1 instead of n.
    """
    mean_a, mean_b, var_a, var_b, covariance = windows.moments(a, b, window)
    if sample:
        pixels = len(window) ** 2
        var_a, var_b, covariance = (
            value * (pixels / (pixels - 1)) for value in (var_a, var_b, covariance)
        )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return luminance, (2 * covariance + c2) / (var_a + var_b + c2)

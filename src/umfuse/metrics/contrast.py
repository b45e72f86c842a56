"""Contrast and sharpness of the fused image alone, in grey levels of 0..255: SD, SF and AG.

More is taken for better, but noise, ringing and false edges raise all three as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from umfuse.metrics import checks, numeric


def sd(fused: Tensor) -> Tensor:
    """Returns the standard deviation of the pixels, in [0, 127.5] grey levels of 0..255.

    Of all pixels, so with n, not n - 1 (Ma et al., doi:10.1016/j.inffus.2018.02.004); CDDFuse and
    VIFB print the same. 0 for a constant image.

    Raises:
        ValueError: See `umfuse.metrics`.
    """
    (fused,) = checks.images("sd", fused=fused)
    return 255 * numeric.root(fused.flatten(1).var(1, correction=0))


def sf(fused: Tensor) -> Tensor:
    """Returns the spatial frequency: the RMS difference of neighbours, in grey levels of 0..255.

    Eskicioglu and Fisher, doi:10.1109/26.477498: ``sqrt(RF² + CF²)`` with the mean squares of the
    differences along rows and along columns. From 0, for a constant image. CDDFuse prints the same;
    VIFB divides the sums by the number of pixels instead of differences, 0.1 % less at 512x512.

    Raises:
        ValueError: See `umfuse.metrics`; sides must have 2 pixels or more.
    """
    (fused,) = checks.images("sf", 2, fused=fused)
    rows, columns = (fused.diff(dim=dim).square().flatten(1).mean(1) for dim in (3, 2))
    return 255 * numeric.root(rows + columns)


def ag(fused: Tensor) -> Tensor:
    """Returns the average gradient ``mean sqrt((gx² + gy²) / 2)``, in grey levels of 0..255.

    Cui et al., doi:10.1016/j.optcom.2014.12.032, with central differences, one-sided at the border,
    over all pixels. From 0, for a constant image. CDDFuse prints the same; VIFB divides the sum by
    (H - 1)(W - 1), 0.4 % more at 512x512.

    Raises:
        ValueError: See `umfuse.metrics`; sides must have 2 pixels or more.
    """
    (fused,) = checks.images("ag", 2, fused=fused)
    y, x = torch.gradient(fused, dim=(2, 3))
    return 255 * numeric.root((x.square() + y.square()) / 2).flatten(1).mean(1)

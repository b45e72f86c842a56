"""Measures of registration and of fusion, each with its definition.

Figures of one name differ between papers by definition alone (data range, windows, sum or mean
over the two sources), so compare only what one definition gave; each docstring says whose tables
hold which variant.

Images are float tensors ``(B, 1, H, W)`` in [0, 1], 8-bit values divided by 255; fields are
``(B, 2, H, W)`` in pixels. Results are ``(B,)`` in float64 on the device of the images, and every
sum runs in float64. In formulas F is the fused, A the infrared and B the visible image.

========================  ================================  ===============  ======  ==============
Function                  What it measures                  Range            Best    Module
========================  ================================  ===============  ======  ==============
`mse`                     squared difference                [0, 1]           low     `registration`
`ncc`                     correlation                       [-1, 1]          high    `registration`
`mutual_information`      shared information, nats or bits  [0, H(B)]        high    `registration`
`end_point_error`         distance of fields, pixels        from 0           low     `registration`
`grid_error`              distance of maps, pixels          from 0           low     `registration`
`cc`                      correlation, mean of two          [-1, 1]          high    `correlation`
`scd`                     correlation of differences, sum   [-2, 2]          high    `correlation`
`ssim`                    structural similarity, mean       [-1, 1]          high    `similarity`
`ms_ssim`                 the same over scales, mean        [0, 1]           high    `similarity`
`vif`                     visual information kept, sum      from 0           high    `fidelity`
`viff`                    the same, per window of one       from 0           high    `fidelity`
`mi`                      shared information, sum           [0, H(A)+H(B)]   high    `information`
`nmi`                     the same, normalised, sum         [0, 2]           high    `information`
`qabf`                    edges kept                        [0, 0.975], 1    high    `edges`
`nabf`                    edges added                       [0, 1]           low     `edges`
`en`                      entropy, bits                     [0, 8]           high    `information`
`sd`                      deviation, grey levels of 0..255  [0, 127.5]       high    `contrast`
`sf`                      RMS difference, grey levels       from 0           high    `contrast`
`ag`                      mean gradient, grey levels        from 0           high    `contrast`
========================  ================================  ===============  ======  ==============

All have gradients by every image or field, finite also where an image is constant, but for those
that count values: `mutual_information`, `mi`, `nmi` and `en`. Losses for training are in
`umfuse.train.losses`.

What cannot be measured raises `ValueError`: images that are not float tensors ``(B, 1, H, W)``,
differ in size, hold NaN, Inf or values outside [0, 1], or are smaller than a measure needs. What a
constant image gives is in each docstring; it is never NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from torch import Tensor

from umfuse.metrics.contrast import ag, sd, sf
from umfuse.metrics.correlation import cc, scd
from umfuse.metrics.edges import nabf, qabf
from umfuse.metrics.fidelity import vif, viff
from umfuse.metrics.information import en, mi, nmi
from umfuse.metrics.registration import (
    end_point_error,
    grid_error,
    mse,
    mutual_information,
    ncc,
)
from umfuse.metrics.similarity import ms_ssim, ssim

__all__ = [
    "FUSION",
    "LOWER_IS_BETTER",
    "REGISTRATION",
    "ag",
    "cc",
    "en",
    "end_point_error",
    "grid_error",
    "mi",
    "ms_ssim",
    "mse",
    "mutual_information",
    "nabf",
    "ncc",
    "nmi",
    "qabf",
    "scd",
    "sd",
    "sf",
    "ssim",
    "vif",
    "viff",
]


def _alone(metric: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Returns a measure of the fused image alone as one that is given the sources too."""

    @functools.wraps(metric)
    def measure(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
        return metric(fused)

    return measure


FUSION: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "CC": cc,
    "SSIM": ssim,
    "MS-SSIM": ms_ssim,
    "VIF": vif,
    "VIFF": viff,
    "MI": mi,
    "NMI": nmi,
    "Qabf": qabf,
    "SCD": scd,
    "EN": _alone(en),
    "SD": _alone(sd),
    "SF": _alone(sf),
    "AG": _alone(ag),
    "Nabf": nabf,
}
"""Column head to measure of fused, infrared and visible image, in the order of tables."""

REGISTRATION: Mapping[str, Callable[..., Tensor]] = {
    "MSE": mse,
    "NCC": ncc,
    "MI": mutual_information,
}
"""Column head to measure of registered image, reference and ``border``, in the order of tables."""

LOWER_IS_BETTER = frozenset({"MSE", "Nabf"})
"""The heads whose smallest value is the best."""

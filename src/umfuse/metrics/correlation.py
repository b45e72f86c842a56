"""Linear correlation of the fused image with its sources: CC and SCD."""

from __future__ import annotations

from torch import Tensor

from umfuse.metrics import checks, numeric


def cc(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the correlation of the fused image with its sources: ``(r(F, A) + r(F, B)) / 2``.

    Pearson's r over all pixels (Ma et al., doi:10.1016/j.inffus.2018.02.004), in [-1, 1], higher is
    better. A plain average reaches the highest values, so read it beside one that sees detail. A
    constant image has r = 0 with every other.

    Raises:
        ValueError: See `umfuse.metrics`.
    """
    return numeric.pearson(*checks.sources("cc", 1, fused, infrared, visible)).mean(1)


def scd(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the sum of the correlations of differences: ``r(F - B, A) + r(F - A, B)``.

    Aslantas and Bendes, doi:10.1016/j.aeue.2015.09.004: what the fused image has beyond one source
    should be the other source. In [-2, 2], higher is better. A difference or a source that is
    constant has r = 0, so a copy of one source gets the other term alone.

    Raises:
        ValueError: See `umfuse.metrics`.
    """
    fused, sources = checks.sources("scd", 1, fused, infrared, visible)
    return numeric.pearson(fused - sources.flip(1), sources).sum(1)

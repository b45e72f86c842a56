"""Information that the fused image holds, and shares with its sources."""

from __future__ import annotations

from torch import Tensor

from umfuse.metrics import checks, histograms, numeric


def mi(fused: Tensor, infrared: Tensor, visible: Tensor, *, bits: bool = False) -> Tensor:
    """Returns the mutual information with both sources, summed: ``I(F, A) + I(F, B)``.

    Qu et al., doi:10.1049/el:20020212: joint histograms of 256x256 8-bit values. From 0, higher is
    better; at most ``H(A) + H(B)``. A per-pixel maximum, which copies values unchanged, scores far
    above every method that mixes them. IMF and CDDFuse print nats, SuperFusion prints bits; VIFB
    stretches each image to the full range before it counts, which this does not.

    Args:
        fused: ``(B, 1, H, W)`` in [0, 1].
        infrared: ``(B, 1, H, W)`` in [0, 1].
        visible: ``(B, 1, H, W)`` in [0, 1].
        bits: Returns bits (1 nat is 1.443 bits) instead of nats.

    Raises:
        ValueError: See `umfuse.metrics`.
    """
    nats = histograms.information(*checks.sources("mi", 1, fused, infrared, visible)).sum(1)
    return nats * histograms.BITS if bits else nats


def nmi(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the mutual information with both sources, each normalised by the mean entropy.

    Hossny et al., doi:10.1049/el:20081754, which others call Q_MI: with entropies H of 256 8-bit
    values ``2 I(F, A) / (H(F) + H(A)) + 2 I(F, B) / (H(F) + H(B))``, in [0, 2], higher is better.
    Two constant images share all there is: their term is 1. (Z. Liu's toolbox and MEFB stretch each
    image to the full range before they count, which this does not.)

    Raises:
        ValueError: See `umfuse.metrics`.
    """
    fused, sources = checks.sources("nmi", 1, fused, infrared, visible)
    of_fused, of_sources, joint = histograms.entropies(fused, sources)
    both = of_fused + of_sources
    shared = 2 * (both - joint).clamp_min(0)
    return numeric.quotient(shared, both, otherwise=1.0).sum(1)


def en(fused: Tensor) -> Tensor:
    """Returns the entropy of the image in bits: ``-sum p log2 p`` over 256 8-bit values.

    Roberts et al., doi:10.1117/1.2945910, in [0, 8], 0 for a constant image. More is taken for
    better, but noise raises it too.

    Raises:
        ValueError: See `umfuse.metrics`.
    """
    (fused,) = checks.images("en", fused=fused)
    return histograms.entropy(fused)[:, 0] * histograms.BITS

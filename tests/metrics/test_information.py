import numpy as np
import pytest
import torch
from pictures import array, image
from skimage.measure import shannon_entropy

from umfuse import metrics


def entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def entropies(a: torch.Tensor, b: torch.Tensor) -> tuple[float, float, float]:
    """Of a, of b and of both in nats, by NumPy's histograms."""
    edges = np.arange(257) - 0.5
    joint, _, _ = np.histogram2d(
        *((255 * array(one)).round().ravel() for one in (a, b)), bins=(edges, edges)
    )
    return entropy(joint.sum(1)), entropy(joint.sum(0)), entropy(joint)


def test_mi_is_that_of_numpys_histograms(triple):
    fused, *sources = triple
    expected = sum(a + b - both for a, b, both in (entropies(fused, one) for one in sources))
    assert metrics.mi(*triple).item() == pytest.approx(expected, rel=1e-9)
    bits = metrics.mi(*triple, bits=True).item()
    assert bits == pytest.approx(expected / np.log(2), rel=1e-9)


def test_nmi_is_that_of_numpys_histograms(triple):
    fused, *sources = triple
    parts = [entropies(fused, one) for one in sources]
    expected = sum(2 * (a + b - both) / (a + b) for a, b, both in parts)
    assert metrics.nmi(*triple).item() == pytest.approx(expected, rel=1e-9)


def test_entropy_is_that_of_scikit_image(triple):
    expected = shannon_entropy((255 * array(triple[0])).round())
    assert metrics.en(triple[0]).item() == pytest.approx(expected, rel=1e-9)


def test_entropy_by_hand():
    levels = torch.arange(256.0).view(1, 1, 16, 16) / 255
    halves = (levels > 0.5).float()
    quarter = torch.zeros(1, 1, 16, 16)
    quarter[..., :4] = 1
    found = metrics.en(torch.cat((levels, halves, quarter, torch.full_like(levels, 0.3))))
    mixed = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    assert found.tolist() == pytest.approx([8, 1, mixed, 0])


def test_a_copy_shares_all_and_constants_share_nothing():
    one, flat = image(1), torch.full_like(image(1), 0.3)
    whole = metrics.en(one).item()
    assert metrics.mi(one, one, one, bits=True).item() == pytest.approx(2 * whole)
    assert metrics.nmi(one, one, one).item() == pytest.approx(2)
    assert metrics.mi(flat, one, one).item() == pytest.approx(0, abs=1e-9)
    assert metrics.nmi(flat, one, one).item() == pytest.approx(0, abs=1e-9)
    assert metrics.mi(flat, flat, flat).item() == 0
    assert metrics.nmi(flat, flat, flat).item() == 2
    # A constant source shares all with a constant fused image, and nothing with another.
    assert metrics.nmi(flat, flat, one).item() == pytest.approx(1)


def test_levels_outside_the_range_by_rounding_are_black_and_white():
    picture = torch.tensor([-5e-5, 0.0, 1.0, 1 + 5e-5]).view(1, 1, 2, 2)
    assert metrics.en(picture).item() == pytest.approx(1)

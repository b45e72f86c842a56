import numpy as np
import pytest
import torch
from pictures import array, image

from umfuse import metrics


def test_cc_is_numpys(triple):
    expected = np.corrcoef([array(one).ravel() for one in triple])
    found = metrics.cc(*triple).item()
    assert found == pytest.approx((expected[0, 1] + expected[0, 2]) / 2, rel=1e-9)


def test_scd_is_numpys(triple):
    fused, infrared, visible = (array(one).ravel() for one in triple)
    expected = (
        np.corrcoef(fused - visible, infrared)[0, 1] + np.corrcoef(fused - infrared, visible)[0, 1]
    )
    assert metrics.scd(*triple).item() == pytest.approx(expected, rel=1e-9)


def test_what_is_added_is_the_other_source():
    infrared, visible = image(1), image(2)
    total = (infrared + visible) / 2
    # F - B = (A - B) / 2, which has less of A than the sum has.
    assert metrics.scd(total, infrared, visible) < metrics.scd(total, infrared / 2, visible / 2)
    assert metrics.scd(total, infrared / 2, visible / 2).item() == pytest.approx(2)


def test_scd_of_copies_and_constants():
    infrared, visible = image(1), image(2)
    term = np.corrcoef(*((array(visible - infrared)).ravel(), array(visible).ravel()))[0, 1]
    assert metrics.scd(visible, infrared, visible).item() == pytest.approx(term)
    flat = torch.full_like(infrared, 0.3)
    assert metrics.scd(flat, flat, flat).item() == 0
    # r(-B, A) + r(-A, B)
    expected = -2 * np.corrcoef(array(infrared).flat, array(visible).flat)[0, 1]
    assert metrics.scd(flat, infrared, visible).item() == pytest.approx(expected)

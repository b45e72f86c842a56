import numpy as np
import pytest
import torch
from pictures import array, image

from umfuse import metrics


def test_deviation_frequency_and_gradient_are_numpys(triple):
    grey = 255 * array(triple[0])
    assert metrics.sd(triple[0]).item() == pytest.approx(grey.std(), rel=1e-9)
    rows, columns = (np.diff(grey, axis=axis) for axis in (1, 0))
    expected = np.sqrt((rows**2).mean() + (columns**2).mean())
    assert metrics.sf(triple[0]).item() == pytest.approx(expected, rel=1e-9)
    y, x = np.gradient(grey)
    expected = np.sqrt((x**2 + y**2) / 2).mean()
    assert metrics.ag(triple[0]).item() == pytest.approx(expected, rel=1e-9)


def test_a_ramp_and_stripes_by_hand():
    ramp = (3 * torch.arange(9.0) + 4 * torch.arange(7.0)[:, None])[None, None] / 255
    assert metrics.sf(ramp).item() == pytest.approx(5, rel=1e-6)
    assert metrics.ag(ramp).item() == pytest.approx(5 / 2**0.5, rel=1e-6)
    stripes = (torch.arange(8.0) % 2).expand(1, 1, 6, 8)
    assert metrics.sd(stripes).item() == pytest.approx(127.5)
    assert metrics.sf(stripes).item() == pytest.approx(255)
    # Central differences do not see the inner stripes; the outer columns are one-sided.
    assert metrics.ag(stripes).item() == pytest.approx(255 / 2**0.5 * 2 / 8)


@pytest.mark.parametrize("metric", [metrics.sd, metrics.sf, metrics.ag])
def test_constant_images_have_none(metric):
    assert metric(torch.full((1, 1, 9, 9), 0.3)).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("metric", [metrics.sf, metrics.ag])
def test_smallest_size(metric):
    assert metric(image(1)[..., :2, :2]).isfinite().all()
    with pytest.raises(ValueError, match="2 pixels"):
        metric(image(1)[..., :1, :])

import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from umfuse import filters
from umfuse.metrics import windows


@pytest.mark.parametrize("size", [3, 11])
def test_windows_are_scipys(size):
    expected = signal.windows.gaussian(size, size / 5)
    np.testing.assert_allclose(filters.gaussian(size, size / 5), expected / expected.sum())
    assert sum(windows.uniform(size)) == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_smooth_is_a_convolution_of_each_channel(dtype):
    picture = torch.rand(2, 3, 20, 31, generator=torch.Generator().manual_seed(0), dtype=dtype)
    window = filters.gaussian(7, 1.2)
    found = windows.smooth(picture, window)
    axis = np.array(window)
    whole = ndimage.convolve(picture.double().numpy(), np.outer(axis, axis)[None, None])
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(found.numpy(), whole[..., 3:-3, 3:-3], rtol=tolerance)
    assert found.dtype == dtype


def test_moments_of_one_channel_against_many_are_numpys():
    generator = torch.Generator().manual_seed(0)
    one, many = (torch.rand(1, n, 5, 5, generator=generator).double() for n in (1, 2))
    found = windows.moments(one, many, windows.uniform(5))
    a, b = one.flatten(2).numpy()[0], many.flatten(2).numpy()[0]
    for channel in range(2):
        cov = np.cov(a[0], b[channel], bias=True)
        expected = (a.mean(), b[channel].mean(), cov[0, 0], cov[1, 1], cov[0, 1])
        values = [float(map_[0, min(channel, map_.shape[1] - 1)]) for map_ in found]
        assert values == pytest.approx(expected)


def test_slopes_of_smooth_are_right():
    picture = torch.rand(1, 2, 7, 8, dtype=torch.float64, requires_grad=True)
    window = filters.gaussian(5, 1.0)
    assert torch.autograd.gradcheck(lambda x: windows.smooth(x, window), picture)
    assert torch.autograd.gradgradcheck(lambda x: windows.smooth(x, window).square(), picture)


def test_autocast_changes_nothing():
    picture = torch.rand(1, 2, 20, 20, generator=torch.Generator().manual_seed(0))
    expected = windows.moments(picture, picture, windows.uniform(7))
    with torch.autocast("cpu", torch.bfloat16):
        found = windows.moments(picture, picture, windows.uniform(7))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from umfuse import filters


def picture(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_luma_is_that_of_pillow():
    colours = (255 * picture(7, 9, 3)).to(torch.uint8).numpy()
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    luma = filters.luma(torch.from_numpy(colours).movedim(2, 0)[None].float())
    assert np.abs(luma[0, 0].numpy() - expected).max() <= 0.51
    grey = picture(1, 1, 4, 5)
    assert filters.luma(grey) is grey


@pytest.mark.parametrize("sigma", [0.6, 1.5, 3.0])
def test_blur_is_that_of_scipy(sigma):
    image = picture(1, 2, 40, 50)
    expected = [
        ndimage.gaussian_filter(
            one.numpy(), sigma, mode="nearest", truncate=np.ceil(3 * sigma) / sigma
        )
        for one in image[0]
    ]
    np.testing.assert_allclose(filters.blur(image, sigma)[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("radius", [1, 4, 30])
def test_box_is_that_of_scipy(radius):
    image = picture(1, 1, 40, 50)
    expected = ndimage.uniform_filter(image[0, 0].double().numpy(), 2 * radius + 1, mode="nearest")
    np.testing.assert_allclose(filters.box(image, radius)[0, 0].numpy(), expected, atol=1e-5)


def test_sobel_is_that_of_scipy():
    image = picture(1, 1, 20, 30)
    for axis, ours in ((1, filters.sobel(image)[0]), (0, filters.sobel(image)[1])):
        expected = ndimage.sobel(image[0, 0].numpy(), axis, mode="nearest")
        np.testing.assert_allclose(ours[0, 0].numpy(), expected, atol=1e-5)


def test_laplacian_is_that_of_scipy():
    image = picture(1, 1, 20, 30)
    kernel = np.ones((3, 3))
    kernel[1, 1] = -8
    expected = ndimage.convolve(image[0, 0].numpy(), kernel, mode="nearest")
    np.testing.assert_allclose(filters.laplacian(image)[0, 0].numpy(), expected, atol=1e-5)


def test_gradients_of_a_ramp_are_its_slopes():
    ramp = (0.01 * torch.arange(30.0) + 0.02 * torch.arange(20.0)[:, None])[None, None]
    for right, down in (filters.gradient(ramp), [s / 8 for s in filters.sobel(ramp)]):
        inner = (..., slice(1, -1), slice(1, -1))
        torch.testing.assert_close(
            right[inner], torch.full((1, 1, 18, 28), 0.01), atol=1e-6, rtol=0
        )
        torch.testing.assert_close(down[inner], torch.full((1, 1, 18, 28), 0.02), atol=1e-6, rtol=0)
    assert filters.laplacian(ramp)[..., 1:-1, 1:-1].abs().max() < 1e-5


FILTERS = {
    "blur": lambda image: filters.blur(image, 1.2),
    "box": lambda image: filters.box(image, 3),
    "gradient": lambda image: torch.cat(filters.gradient(image), 1),
    "sobel": lambda image: torch.cat(filters.sobel(image), 1),
    "laplacian": filters.laplacian,
}


@pytest.mark.parametrize("name", FILTERS)
def test_channels_are_filtered_apart(name):
    both = picture(1, 2, 12, 14)
    for channel in range(2):
        alone = FILTERS[name](both[:, channel : channel + 1])
        torch.testing.assert_close(FILTERS[name](both)[:, channel::2], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", FILTERS)
def test_autocast_does_not_make_filters_coarse(name):
    """A faint gradient drowns in the rounding of bfloat16."""
    image = 0.5 + 1e-3 * picture(1, 1, 20, 20)
    expected = FILTERS[name](image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(FILTERS[name](image), expected)

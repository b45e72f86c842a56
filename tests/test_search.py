import pytest
import torch
import torch.nn.functional as F

from umfuse.search import orientation, search, similarity


def scene(seed, size=(240, 320)):
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 1, *size)
    for _ in range(60):
        y = int(torch.randint(0, size[0] - 12, (1,), generator=generator))
        x = int(torch.randint(0, size[1] - 12, (1,), generator=generator))
        h, w = torch.randint(8, 60, (2,), generator=generator).tolist()
        image[..., y : y + h, x : x + w] = float(torch.rand(1, generator=generator))
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)


def thermal(image):
    return (1 - image).square()


def test_aligned_contrast_reversed_pair_stays():
    image = scene(0)
    found = search(image, thermal(image))
    assert (found.transform - torch.eye(3).double()).abs()[:2, 2].max() < 0.3
    assert found.confidence > 0.9


def test_crop_at_another_resolution_is_found():
    image = scene(1)
    visible = F.interpolate(image[..., 40:200, 60:270], scale_factor=2, mode="bilinear")
    found = search(visible, thermal(image))
    point = found.transform @ torch.tensor([209.5, 159.5, 1.0], dtype=torch.float64)
    want = torch.tensor([60 + 104.5, 40 + 79.5], dtype=torch.float64)
    assert (point[:2] / point[2] - want).norm() < 1.0
    assert found.confidence > 0.9


@pytest.mark.parametrize("size", [(16, 16), (9, 300), (120, 160)])
def test_constant_images_stay(size):
    found = search(torch.zeros(size), torch.rand(40, 50, generator=torch.Generator()))
    assert found.confidence < 0.1
    assert found.transform[0, 0] == 50 / size[1]


def test_wrong_pair_is_less_certain_than_right_pair():
    right = search(scene(2), thermal(scene(2)))
    false = search(scene(2), thermal(scene(3)))
    assert right.confidence > false.confidence + 0.2


def test_search_is_deterministic():
    a, b = (search(scene(4), thermal(scene(4))) for _ in range(2))
    assert torch.equal(a.transform, b.transform)
    assert a.confidence == b.confidence


def test_orientation_is_finite_on_tiny_and_constant_images():
    image = torch.rand(1, 1, 8, 9, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(orientation(torch.zeros(2, 1, 8, 8), 1.5)).all()
    assert orientation(image, 1.0).shape == (1, 2, 8, 9)


def test_similarity_is_higher_where_aligned():
    image = scene(5)
    valid = torch.ones_like(image, dtype=torch.bool)
    aligned = similarity(image, thermal(image), valid)
    moved = similarity(image, thermal(image).roll(9, 3), valid)
    assert aligned > moved + 0.2


def test_bad_input_says_what_was_expected():
    with pytest.raises(ValueError, match="one luma image"):
        search(torch.rand(3, 20, 20), torch.rand(20, 20))
    with pytest.raises(TypeError, match="floating tensor"):
        search(torch.zeros(20, 20, dtype=torch.uint8), torch.rand(20, 20))

import pytest
import torch
import torch.nn.functional as F

from umfuse import geometry, resampling


def picture(height, width, seed=0):
    noise = torch.rand(1, 1, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)


def plain(size, target):
    return geometry.project_grid(geometry.resize_transform(size, target), size)


def test_fine_infrared_is_reduced_before_it_is_sampled():
    stripes = (torch.arange(800) % 2).float().expand(1, 1, 600, 800)
    values, _ = resampling.resample(stripes, plain((60, 80), (600, 800)))
    assert (values - 0.5).abs().max() < 0.02


def test_coarse_infrared_is_sampled_from_its_own_pixels():
    infrared, coordinates = picture(48, 64), plain((96, 128), (48, 64))
    values, _ = resampling.resample(infrared, coordinates)
    assert torch.equal(values, geometry.interpolate(infrared, coordinates))


def test_a_batch_is_what_its_images_are_alone():
    """Each is reduced as its own grid asks for."""
    infrared = torch.cat((picture(240, 320), picture(240, 320, seed=1)))
    zoomed = geometry.similarity_transform((0, 0), (80, 60), (2.0, 2.0))
    coordinates = torch.cat((plain((60, 80), (240, 320)), geometry.project_grid(zoomed, (60, 80))))
    both, valid = resampling.resample(infrared, coordinates)
    for number in range(2):
        one = slice(number, number + 1)
        alone, mask = resampling.resample(infrared[one], coordinates[one])
        torch.testing.assert_close(both[one], alone)
        assert torch.equal(valid[one], mask)


def test_coverage_is_whole_where_the_image_covers_the_grid():
    assert (resampling.coverage(plain((60, 80), (240, 320)), (240, 320)) == 1).all()


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_coverage_falls_softly_on_the_side_where_the_grid_goes_on(side):
    coordinates = geometry.identity_grid(256, 256)
    axis, sign = ("left", "right").count(side), 1 if side in ("right", "bottom") else -1
    axis = 0 if axis else 1
    coordinates[:, axis] += 100 * sign
    weight = resampling.coverage(coordinates, (256, 256))
    line = weight[0, 0, 128] if axis == 0 else weight[0, 0, :, 128]
    line = line.flip(0) if sign > 0 else line
    assert (line[:100] == 0).all()
    assert (line[106:] == 1).all()
    assert (line.diff() >= 0).all()
    assert 0.1 < line[101:104].mean() < 0.9

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from umfuse import geometry


def picture(height=40, width=56, channels=1, batch=1, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, height, width, generator=generator, dtype=dtype)


def smooth_field(height, width, amplitude, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    coarse = 2 * torch.rand(batch, 2, 4, 5, generator=generator) - 1
    field = torch.nn.functional.interpolate(
        coarse, (height, width), mode="bicubic", align_corners=True
    )
    return amplitude * field / field.abs().max()


def rotation(degrees=7.0, scale=1.1, shift=(4.0, -3.0), perspective=(1e-4, -2e-4)):
    a = np.deg2rad(degrees)
    return torch.tensor(
        [
            [scale * np.cos(a), -scale * np.sin(a), shift[0]],
            [scale * np.sin(a), scale * np.cos(a), shift[1]],
            [*perspective, 1.0],
        ],
        dtype=torch.float64,
    )


def test_identity_grid_holds_x_then_y():
    grid = geometry.identity_grid(3, 5)
    assert grid.shape == (1, 2, 3, 5)
    assert grid[0, :, 2, 4].tolist() == [4.0, 2.0]
    assert grid.dtype == torch.float32


def test_identity_warp_changes_nothing():
    image = picture(channels=3, batch=2)
    values, valid = geometry.warp(image, torch.zeros(2, 2, 40, 56))
    torch.testing.assert_close(values, image, atol=1e-5, rtol=0)
    assert valid.all()


def test_integer_shift_moves_pixels_and_masks_what_is_missing():
    image = picture()
    displacement = torch.zeros(1, 2, 40, 56)
    displacement[:, 0], displacement[:, 1] = 3, -2
    values, valid = geometry.warp(image, displacement)
    torch.testing.assert_close(values[..., 2:, :-3], image[..., :-2, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(values[..., 2:, -1], image[..., :-2, -1], atol=1e-5, rtol=0)
    expected = torch.zeros(1, 1, 40, 56, dtype=torch.bool)
    expected[..., 2:, :-3] = True
    assert torch.equal(valid, expected)


@pytest.mark.parametrize("size", [(40, 56), (17, 90)])
def test_sample_equals_map_coordinates_in_float64(size):
    image = picture(dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    coordinates = torch.rand(1, 2, *size, generator=generator, dtype=torch.float64)
    coordinates = coordinates * torch.tensor([70.0, 55.0])[:, None, None] - 8
    values, _ = geometry.sample(image, coordinates)
    x, y = coordinates[0].numpy()
    expected = map_coordinates(image[0, 0].numpy(), [y, x], order=1, mode="nearest")
    np.testing.assert_allclose(values[0, 0].numpy(), expected, atol=1e-12)


def test_sample_is_differentiable_in_image_and_coordinates():
    image = picture(6, 7, dtype=torch.float64).requires_grad_()
    offset = torch.full((1, 2, 6, 7), 0.3, dtype=torch.float64)
    offset = (offset + 0.1 * picture(6, 7, channels=2, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda i, d: geometry.warp(i, d)[0], (image, offset))


def test_one_set_of_coordinates_serves_a_batch():
    image = picture(batch=3)
    coordinates = geometry.project_grid(rotation(), (20, 30))
    values, valid = geometry.sample(image, coordinates)
    assert values.shape == (3, 1, 20, 30)
    assert valid.shape == (3, 1, 20, 30)


def test_fields_stay_float32_under_autocast():
    image = torch.linspace(0, 1, 2048).expand(1, 1, 8, 2048)
    displacement = torch.full((1, 2, 8, 2048), 0.25)
    transform = rotation(shift=(0.125, 0.0)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, _ = geometry.warp(image, displacement)
        coordinates = geometry.project(transform, geometry.identity_grid(8, 2048))
        composed = geometry.compose(displacement, displacement)
    assert values.dtype == coordinates.dtype == composed.dtype == torch.float32
    torch.testing.assert_close(values[0, 0, 0, 1000], image[0, 0, 0, 1000] + 0.25 / 2047)
    expected = geometry.project(
        transform.double(), geometry.identity_grid(8, 2048, dtype=torch.float64)
    )
    torch.testing.assert_close(coordinates.double(), expected, atol=1e-3, rtol=0)


def test_compose_equals_two_warps_in_turn():
    ramp = geometry.identity_grid(64, 80)  # bilinear sampling of a ramp is exact
    first, second = smooth_field(64, 80, 3.0, seed=1), smooth_field(64, 80, 4.0, seed=2)
    twice = geometry.warp(geometry.warp(ramp, first)[0], second)[0]
    once = geometry.warp(ramp, geometry.compose(first, second))[0]
    inner = (..., slice(10, -10), slice(10, -10))
    torch.testing.assert_close(once[inner], twice[inner], atol=0.05, rtol=0)


def test_inverse_of_forward_is_below_a_tenth_of_a_pixel():
    field = smooth_field(96, 128, 8.0)
    inverse, error = geometry.invert(field)
    assert error.max() < 0.1
    inner = (..., slice(12, -12), slice(12, -12))
    assert geometry.compose(inverse, field)[inner].abs().max() < 0.1


def test_invert_reports_a_field_that_tears():
    field = torch.zeros(1, 2, 32, 64)
    field[:, 0, :, 32:] = 20  # no place points to the columns 32 to 51
    _, error = geometry.invert(field)
    assert error.max() > 1


def test_resize_keeps_the_relative_place():
    field = torch.zeros(1, 2, 20, 30)
    field[:, 0], field[:, 1] = 2, -1
    resized = geometry.resize_field(field, (60, 60))
    assert resized.shape == (1, 2, 60, 60)
    torch.testing.assert_close(resized[0, :, 30, 30], torch.tensor([4.0, -3.0]))


def test_resize_agrees_with_the_transform_of_plain_resizing():
    transform = rotation()
    small, large = (48, 64), (96, 192)
    up = geometry.resize_transform(small, large)
    moved = up @ transform @ torch.linalg.inv(up)
    field = geometry.project_grid(transform, small) - geometry.identity_grid(*small)
    expected = geometry.project_grid(moved, large) - geometry.identity_grid(*large)
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(
        geometry.resize_field(field, large)[inner], expected[inner], atol=0.02, rtol=0
    )


def test_resize_transform_maps_pixel_centres():
    transform = geometry.resize_transform((10, 20), (30, 10))
    corner = transform @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert corner.tolist() == [-0.25, 1.0, 1.0]


def test_project_sends_points_behind_the_horizon_far_away():
    transform = torch.eye(3, dtype=torch.float64)
    transform[2, 0] = -0.1  # the horizon is at x = 10
    coordinates = geometry.project_grid(transform, (4, 20))
    assert coordinates[0, 0, 0, 5] == 10
    assert (coordinates[..., 10:] == -1e6).all()
    assert not geometry.sample(picture(), coordinates)[1][..., 10:].any()


def test_transform_survives_the_way_to_coordinates_and_back():
    transforms = torch.stack((rotation(), rotation(-4.0, 0.7, (20.0, 11.0))))
    fitted = geometry.fit_homography(
        geometry.identity_grid(48, 64), geometry.project_grid(transforms, (48, 64))
    )
    expected = transforms / transforms[:, 2:, 2:]
    torch.testing.assert_close(fitted, expected, atol=1e-4, rtol=1e-4)


def test_fit_ignores_pixels_without_weight():
    transform = rotation()
    coordinates = geometry.project_grid(transform, (48, 64))
    weight = torch.ones(1, 1, 48, 64)
    coordinates[..., 10:20, 10:30] += 25
    weight[..., 10:20, 10:30] = 0
    fitted = geometry.fit_homography(geometry.identity_grid(48, 64), coordinates, weight)[0]
    torch.testing.assert_close(fitted, transform, atol=1e-4, rtol=1e-4)


def test_fit_needs_four_points():
    with pytest.raises(ValueError, match="at least 4 points, got 3"):
        geometry.fit_homography(geometry.identity_grid(1, 3), geometry.identity_grid(1, 3))


CORNERS = torch.tensor([[3.0, 4.0], [90.0, 10.0], [20.0, 70.0]])


def test_fit_affine_goes_through_three_points():
    true = torch.tensor([[0.8, -0.3, 12], [0.2, 1.1, -5], [0, 0, 1]], dtype=torch.float64)
    fitted = geometry.fit_affine(CORNERS, geometry.project_points(true, CORNERS.double()))
    torch.testing.assert_close(fitted, true, rtol=0, atol=1e-12)


def test_fit_affine_needs_three_points_that_are_a_triangle():
    with pytest.raises(ValueError, match="on a line"):
        geometry.fit_affine(torch.tensor([[0.0, 0], [1, 2], [2, 4]]), CORNERS)
    with pytest.raises(ValueError, match=r"needs 3 points \(x, y\), got \(2, 2\)"):
        geometry.fit_affine(CORNERS[:2], CORNERS)


def test_export_keeps_the_size_dynamic():
    class Warp(torch.nn.Module):
        def forward(self, image, displacement):
            return geometry.warp(image, geometry.compose(displacement, displacement))

    height, width = torch.export.Dim("height", min=4), torch.export.Dim("width", min=4)
    sizes = {2: height, 3: width}
    program = torch.export.export(
        Warp(), (picture(16, 24), torch.zeros(1, 2, 16, 24)), dynamic_shapes=(sizes, sizes)
    )
    image = picture(21, 33)
    values, _ = program.module()(image, torch.zeros(1, 2, 21, 33))
    torch.testing.assert_close(values, image, atol=1e-5, rtol=0)


def test_points_and_grids_are_projected_alike():
    transform = torch.tensor([[1.1, 0.1, 3.0], [-0.2, 0.9, 1.0], [1e-3, -2e-2, 1.0]]).double()
    grid = geometry.project_grid(transform, (60, 40))
    points = geometry.identity_grid(60, 40)[0].flatten(1).T
    projected = geometry.project_points(torch.stack((transform, transform)), points)
    assert projected.shape == (2, 2400, 2)
    torch.testing.assert_close(projected[1], grid[0].flatten(1).T, atol=1e-2, rtol=1e-5)
    assert (projected == -1e6).any()  # behind the horizon


def test_a_grid_is_where_its_transform_is():
    """The search ran on no GPU: its grids were on the CPU."""
    there = torch.eye(3, device="meta")
    assert geometry.project_grid(there, (4, 6)).device == torch.device("meta")
    assert geometry.project_grid(torch.eye(3), (4, 6), "meta").device == torch.device("meta")


def test_corners_of_plain_resizing():
    transform = geometry.resize_transform((10, 20), (20, 20))
    expected = torch.tensor([[0, 0.5], [19, 0.5], [0, 18.5], [19, 18.5], [9.5, 9.5]])
    torch.testing.assert_close(geometry.corners(transform, (10, 20)), expected.double())


def test_similarity_transform_turns_and_scales_about_a_point():
    transform = geometry.similarity_transform((3.0, 4.0), (10.0, 20.0), (2.0, 0.5), 90)
    points = torch.tensor([[3.0, 4.0], [4.0, 4.0], [3.0, 5.0]])
    expected = torch.tensor([[10.0, 20.0], [10.0, 22.0], [9.5, 20.0]])
    torch.testing.assert_close(geometry.project_points(transform, points), expected)


def test_normalised_points_have_their_origin_in_the_middle():
    points = torch.tensor([[9.5, 4.5], [19.5, 4.5]])
    normalised = geometry.project_points(geometry.normalising((10, 20)), points)
    torch.testing.assert_close(normalised, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))


def test_inside_keeps_a_border_where_asked():
    coordinates = torch.tensor([-0.5, 1.9, 2.0, 7.0, 7.1]).expand(1, 2, 1, -1)
    assert geometry.inside(coordinates, (10, 10)).all()
    assert geometry.inside(coordinates, (10, 10), 2).flatten().tolist() == [
        *(False, False, True, True, False)
    ]


def test_nearest_pixels_of_each_image_and_channel():
    image = picture(5, 9, channels=3, batch=2)
    generator = torch.Generator().manual_seed(1)
    coordinates = torch.rand(2, 2, 4, 7, generator=generator) * 16 - 3  # beyond every border too
    found = geometry.nearest(image, coordinates)
    assert found.shape == (2, 3, 4, 7)
    for one, two, places in zip(found, image, coordinates, strict=True):
        x, y = places.numpy()
        column, row = np.rint(x).clip(0, 8).astype(int), np.rint(y).clip(0, 4).astype(int)
        np.testing.assert_array_equal(one.numpy(), two.numpy()[:, row, column])


@pytest.mark.parametrize("border", [-0.5, 0.0, 2.0])
def test_inside_counts_from_the_outermost_pixels(border):
    height, width = 7, 12
    x = torch.tensor([border, width - 1 - border, border - 0.01, width - 1 - border + 0.01, 6])
    y = torch.tensor([border, height - 1 - border, border - 0.01, height - 1 - border + 0.01, 3])
    coordinates = torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]
    right = torch.tensor([True, True, False, False, True])
    expected = right[:, None] & right[None]
    assert torch.equal(geometry.inside(coordinates, (height, width), border)[0, 0], expected)

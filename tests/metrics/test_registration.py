from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pictures import array, image
from scipy import stats
from skimage.metrics import mean_squared_error, normalized_mutual_information

from umfuse import geometry, images, metrics
from umfuse.train import protocols


def entropy(*values: np.ndarray) -> float:
    """Of 8-bit values in nats, jointly, with a dictionary for a histogram."""
    counts: dict[tuple[float, ...], int] = {}
    for key in zip(*((255 * one).round().flat for one in values), strict=True):
        counts[key] = counts.get(key, 0) + 1
    shares = np.array(list(counts.values())) / values[0].size
    return float(-(shares * np.log(shares)).sum())


# Images


def test_mse_and_ncc_are_those_of_others(triple):
    registered, reference, _ = triple
    a, b = array(registered), array(reference)
    assert metrics.mse(registered, reference).item() == pytest.approx(mean_squared_error(a, b))
    expected = stats.pearsonr(a.flat, b.flat).statistic
    assert metrics.ncc(registered, reference).item() == pytest.approx(expected)


def test_mutual_information_is_that_of_others(triple):
    registered, reference, _ = triple
    a, b = array(registered), array(reference)
    expected = entropy(a) + entropy(b) - entropy(a, b)
    found = metrics.mutual_information(registered, reference).item()
    assert found == pytest.approx(expected, rel=1e-9)
    bits = metrics.mutual_information(registered, reference, bits=True).item()
    assert bits == pytest.approx(expected / np.log(2), rel=1e-9)


def test_mutual_information_is_that_of_scikit_image():
    # With 0 and 255 in both, its bins over the range of values are the 256 levels.
    a, b = (image(seed).double() for seed in (1, 2))
    for one in (a, b):
        one[..., 0, :2] = torch.tensor([0.0, 1.0])
    of_a, of_b = (metrics.mutual_information(one, one).item() for one in (a, b))
    joint = of_a + of_b - metrics.mutual_information(a, b).item()
    levels = [(255 * array(one)).round() for one in (a, b)]
    expected = normalized_mutual_information(*levels, bins=256)
    assert (of_a + of_b) / joint == pytest.approx(expected, rel=1e-9)


def test_mutual_information_by_hand():
    a = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).view(1, 1, 2, 2)
    b = torch.tensor([[0.0, 1.0, 0.0, 1.0]]).view(1, 1, 2, 2)
    both = torch.cat((a, a)), torch.cat((a, b))
    assert metrics.mutual_information(*both, bits=True).tolist() == pytest.approx([1, 0])
    # Levels are rounded: a fifth of one more changes nothing.
    assert metrics.mutual_information(a, (a + 0.2 / 255).clamp_max(1), bits=True).item() == 1


@pytest.mark.parametrize("metric", metrics.REGISTRATION.values())
def test_a_border_is_not_measured(metric):
    reference = image(1)
    registered = 0.8 * reference + 0.1
    framed = F.pad(registered[..., 8:-8, 8:-8], (8, 8, 8, 8))
    inner = metric(registered[..., 8:-8, 8:-8], reference[..., 8:-8, 8:-8])
    assert torch.equal(metric(framed, reference, border=8), inner)
    assert not torch.isclose(metric(framed, reference), inner, rtol=1e-2)
    assert torch.equal(metric(framed, reference, border=0), metric(framed, reference))


@pytest.mark.parametrize("metric", metrics.REGISTRATION.values())
def test_a_border_must_leave_something(metric):
    odd = image(1, 61, 72)
    assert metric(odd, odd, border=30).isfinite().all()
    for border in (31, -1):
        with pytest.raises(ValueError, match=f"a border of {border} pixels .* of 61x72"):
            metric(odd, odd, border=border)


@pytest.mark.parametrize(
    ("metric", "both", "one"),
    [(metrics.mse, 0, None), (metrics.ncc, 0, 0), (metrics.mutual_information, 0, 0)],
)
def test_constant_images_have_the_value_that_is_documented(metric, both, one):
    flat = torch.full((1, 1, 20, 20), 0.3)
    assert metric(flat, flat).item() == both
    if one is not None:
        assert metric(flat, image(1, 20, 20)).item() == pytest.approx(one, abs=1e-9)


@pytest.mark.parametrize("metric", metrics.REGISTRATION.values())
def test_refuses_bad_images(metric):
    good = image(5)
    with pytest.raises(ValueError, match="reference holds NaN"):
        metric(good, torch.where(good > 0.5, torch.nan, good))
    with pytest.raises(ValueError, match=r"one size, got .* and reference"):
        metric(good, image(5, 60, 70))
    with pytest.raises(ValueError, match="sides of 1 pixels or more"):
        metric(good[:0], good[:0])


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("UMFUSE_DATA"), reason="needs UMFUSE_DATA")
def test_misaligned_pairs_measure_what_the_paper_prints():
    """The misaligned row of Table 1 of doi:10.24963/ijcai.2022/487: 0.0104, 0.894, 1.602.

    There, 121 images of RoadScene at 256x256, moved by the same kind of field and filled with
    black; here, the 41 of the test split.
    """
    found = []
    for seed, path in enumerate(
        sorted((Path(os.environ["UMFUSE_DATA"]) / "test/roadscene/ir").iterdir())
    ):
        reference = F.interpolate(images.read(path, name=path.stem).luma, (256, 256), mode="area")
        field = protocols.protocol("paper", (256, 256), seed).deform
        moved, _ = geometry.warp(reference, field)
        inside = geometry.inside(geometry.to_coordinates(field), (256, 256))
        black = torch.where(inside, moved, 0.0)
        found.append([metric(black, reference) for metric in metrics.REGISTRATION.values()])
        # The largest displacement is below 8 px: the frame is all that black pixels change.
        for metric in metrics.REGISTRATION.values():
            assert torch.equal(
                metric(black, reference, border=8), metric(moved, reference, border=8)
            )
    assert len(found) == 41
    assert np.mean(found, 0).ravel().tolist() == pytest.approx([0.0104, 0.894, 1.602], rel=0.05)


# Fields and maps


def test_end_point_error_is_the_mean_length_in_pixels():
    truth = torch.zeros(2, 2, 4, 5)
    found = truth.clone()
    found[0, 0], found[0, 1] = 3, -4
    found[1, 0, :2] = 2
    assert metrics.end_point_error(found, truth).tolist() == pytest.approx([5.0, 1.0])


def test_end_point_error_counts_valid_pixels_only():
    found, truth = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    found[..., :2, :] = 100
    found[..., 2:, :] = 1
    valid = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    valid[..., 2:, :] = True
    assert metrics.end_point_error(found, truth, valid).item() == pytest.approx(2**0.5)
    with pytest.raises(ValueError, match="no valid pixel"):
        metrics.end_point_error(found, truth, ~(valid | True))
    with pytest.raises(ValueError, match="bool"):
        metrics.end_point_error(found, truth, valid.float())


def test_end_point_error_of_the_interior():
    found, truth = torch.full((1, 2, 7, 9), 50.0), torch.zeros(1, 2, 7, 9)
    found[..., 2:5, 2:7] = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert metrics.end_point_error(found, truth, border=2).item() == pytest.approx(5)
    valid = torch.ones(1, 1, 7, 9, dtype=torch.bool)
    valid[..., 3, 4] = False
    found[..., 3, 4] = 1000
    assert metrics.end_point_error(found, truth, valid, border=2).item() == pytest.approx(5)
    valid[..., 2:5, 2:7] = False
    with pytest.raises(ValueError, match="no valid pixel"):
        metrics.end_point_error(found, truth, valid, border=2)
    with pytest.raises(ValueError, match="a border of 4 pixels"):
        metrics.end_point_error(found, truth, border=4)


def test_end_point_error_refuses_other_sizes_and_nan():
    field = torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match="same shape"):
        metrics.end_point_error(field, torch.zeros(1, 2, 4, 5))
    with pytest.raises(ValueError, match="truth holds NaN"):
        metrics.end_point_error(field, field * float("nan"))


def test_grid_error_of_transforms_is_by_hand():
    shift = torch.eye(3)
    shift[0, 2], shift[1, 2] = 3, 4
    scale = torch.diag(torch.tensor([2.0, 1.0, 1.0]))
    found = torch.stack((torch.eye(3), shift, scale))
    # Doubling x moves pixels 0, 5 and 10 of a row by just as much.
    errors = metrics.grid_error(found, torch.eye(3), (7, 11), points=3)
    assert errors.tolist() == pytest.approx([0, 5, 5])
    assert metrics.grid_error(2.5 * shift, shift, (7, 11)).item() == pytest.approx(0, abs=1e-6)


def test_grid_error_reads_coordinates_like_the_transform_that_made_them():
    transform = torch.tensor([[1.1, 0.1, 3.0], [-0.05, 0.9, 2.0], [1e-3, 2e-3, 1.0]]).double()
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    points = transform @ torch.stack((x, y, torch.ones_like(x))).double().flatten(1)
    coordinates = (points[:2] / points[2]).view(1, 2, 40, 50)
    # The corners are exact, points between pixels as good as bilinear reading is.
    assert metrics.grid_error(coordinates, transform, (40, 50), points=2).item() < 1e-9
    assert metrics.grid_error(coordinates, transform, (40, 50)).item() < 0.01
    shifted = coordinates + torch.tensor([3.0, 4.0])[None, :, None, None]
    assert metrics.grid_error(shifted, transform, (40, 50)).item() == pytest.approx(5, abs=0.01)


def test_grid_error_refuses_what_is_no_map():
    eye = torch.eye(3)
    with pytest.raises(ValueError, match=r"\(B, 2, 5, 6\)"):
        metrics.grid_error(torch.zeros(1, 2, 5, 7), eye, (5, 6))
    with pytest.raises(ValueError, match="infinity"):
        metrics.grid_error(torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 1]]), eye, (5, 6))
    with pytest.raises(ValueError, match="NaN"):
        metrics.grid_error(eye * float("nan"), eye, (5, 6))


def test_grid_error_of_the_interior():
    # x is doubled: columns 3, 6 and 9 move by as much, whichever form the map has.
    scale = torch.diag(torch.tensor([2.0, 1.0, 1.0]))
    size = (11, 13)
    coordinates = geometry.project_grid(scale, size)
    for found in (scale, coordinates):
        error = metrics.grid_error(found, torch.eye(3), size, points=3, border=3)
        assert error.item() == pytest.approx(6)
    # Rows 5 alone are left: all points lie in one row.
    assert metrics.grid_error(coordinates, scale, size, border=5).item() == pytest.approx(
        0, abs=1e-5
    )
    with pytest.raises(ValueError, match="a border of 6 pixels"):
        metrics.grid_error(scale, scale, size, border=6)


def test_gradients_of_errors_are_finite_where_there_is_none():
    field = torch.zeros(1, 2, 5, 6, requires_grad=True)
    metrics.end_point_error(field, torch.zeros(1, 2, 5, 6)).sum().backward()
    assert field.grad.isfinite().all()
    transform = torch.eye(3, requires_grad=True)
    metrics.grid_error(transform, torch.eye(3), (5, 6)).sum().backward()
    assert transform.grad.isfinite().all()
    with torch.no_grad():
        field[:, 0] = 3
        field[:, 1] = -4
    (slope,) = torch.autograd.grad(metrics.end_point_error(field, torch.zeros(1, 2, 5, 6)), field)
    expected = torch.tensor([0.6, -0.8]).view(1, 2, 1, 1).expand_as(slope) / 30
    torch.testing.assert_close(slope, expected)

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage, signal
from skimage.metrics import structural_similarity

from umfuse import metrics

FUSION = pytest.mark.parametrize(
    "metric", [metrics.cc, metrics.ssim, metrics.vif, metrics.qabf], ids=lambda m: m.__name__
)


def image(seed: int, height: int = 60, width: int = 72) -> torch.Tensor:
    """A smooth random picture with an edge."""
    random = np.random.default_rng(seed)
    picture = ndimage.gaussian_filter(random.random((height, width)), 2)
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    picture[:, width // 3 :] *= 0.5
    picture += 0.02 * random.random((height, width))
    return torch.from_numpy(picture / picture.max())[None, None].float()


def images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    infrared, visible = image(1), image(2)
    return 0.3 * infrared + 0.6 * visible, infrared, visible


# Registration


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


# Fusion: against other implementations


def test_cc_is_numpys():
    fused, infrared, visible = images()
    expected = np.corrcoef([one.flatten().double().numpy() for one in (fused, infrared, visible)])
    assert metrics.cc(fused, infrared, visible).item() == pytest.approx(
        (expected[0, 1] + expected[0, 2]) / 2, abs=1e-9
    )


def test_ssim_is_that_of_scikit_image():
    fused, infrared, visible = images()
    expected = [
        structural_similarity(
            fused[0, 0].double().numpy(),
            source[0, 0].double().numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for source in (infrared, visible)
    ]
    assert metrics.ssim(fused, infrared, visible).item() == pytest.approx(np.mean(expected))


def reference_vif(source: np.ndarray, fused: np.ndarray) -> float:
    """The definition on 0..255, with 2-D windows of scipy."""
    kept = total = 0.0
    for size in (17, 9, 5, 3):
        axis = signal.windows.gaussian(size, size / 5)
        window = np.outer(axis, axis) / axis.sum() ** 2

        def blur(values, window=window):
            return signal.convolve2d(values, window, mode="valid")

        if size < 17:
            source, fused = blur(source)[::2, ::2], blur(fused)[::2, ::2]
        mean_source, mean_fused = blur(source), blur(fused)
        var_source = np.maximum(blur(source**2) - mean_source**2, 0)
        var_fused = np.maximum(blur(fused**2) - mean_fused**2, 0)
        cov = blur(source * fused) - mean_source * mean_fused
        for s, f, c in zip(var_source.flat, var_fused.flat, cov.flat, strict=True):
            gain, rest = (c / s, f - c * c / s) if s > 1e-10 and c > 0 else (0.0, f)
            kept += np.log10(1 + gain**2 * s / (max(rest, 1e-10) + 2))
            total += np.log10(1 + s / 2)
    return kept / total


def test_vif_is_its_definition():
    fused, infrared, visible = images()
    f, a, b = (255 * one[0, 0].double().numpy() for one in (fused, infrared, visible))
    expected = reference_vif(a, f) + reference_vif(b, f)
    assert metrics.vif(fused, infrared, visible).item() == pytest.approx(expected, rel=1e-6)
    assert reference_vif(a, b) < 0.5 < reference_vif(a, 0.9 * a)  # the oracle can tell


def reference_qabf(fused: np.ndarray, *sources: np.ndarray, legacy: bool) -> float:
    kept = total = 0.0
    mode = "constant" if legacy else "nearest"
    fx, fy = ndimage.sobel(fused, 1, mode=mode), ndimage.sobel(fused, 0, mode=mode)
    for source in sources:
        sx, sy = ndimage.sobel(source, 1, mode=mode), ndimage.sobel(source, 0, mode=mode)
        for u, v, x, y in zip(fx.flat, fy.flat, sx.flat, sy.flat, strict=True):
            ours, theirs = np.hypot(u, v), np.hypot(x, y)
            ratio = min(ours, theirs) / max(ours, theirs)
            turn = abs(np.arctan(v / u) - np.arctan(y / x))
            agreement = 1 - (turn if legacy else min(turn, np.pi - turn)) / (np.pi / 2)
            strength = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5)))
            direction = 0.9879 / (1 + np.exp(-22 * (agreement - 0.8)))
            kept += strength * direction * theirs
            total += theirs
    return kept / total


@pytest.mark.parametrize("legacy", [False, True])
def test_qabf_is_its_definition(legacy):
    fused, infrared, visible = images()
    arrays = [one[0, 0].double().numpy() for one in (fused, infrared, visible)]
    expected = reference_qabf(*arrays, legacy=legacy)
    result = metrics.qabf(fused, infrared, visible, legacy=legacy).item()
    assert result == pytest.approx(expected, rel=1e-9)


# Fusion: what must hold


def test_a_copy_of_both_sources_is_perfect():
    one = image(3)
    assert metrics.cc(one, one, one).item() == pytest.approx(1)
    assert metrics.ssim(one, one, one).item() == pytest.approx(1)
    assert metrics.vif(one, one, one).item() == pytest.approx(2)
    best = 0.9994 / (1 + np.exp(-7.5)) * 0.9879 / (1 + np.exp(-4.4))
    assert metrics.qabf(one, one, one).item() == pytest.approx(best)


@FUSION
def test_sources_may_change_places_and_batches_are_independent(metric):
    fused, infrared, visible = images()
    assert torch.equal(metric(fused, infrared, visible), metric(fused, visible, infrared))
    batch = metric(
        *(torch.cat((one, one.flip(3).roll(7, 2))) for one in (fused, infrared, visible))
    )
    alone = metric(*(one.flip(3).roll(7, 2) for one in (fused, infrared, visible)))
    assert batch.shape == (2,)
    assert batch[0].item() == pytest.approx(metric(fused, infrared, visible).item())
    assert batch[1].item() == pytest.approx(alone.item())


@FUSION
def test_a_blurred_or_shifted_average_is_worse(metric):
    _, infrared, visible = images()
    average = (infrared + visible) / 2
    blurred = torch.from_numpy(ndimage.gaussian_filter(average.numpy(), (0, 0, 2, 2)))
    good = metric(average, infrared, visible)
    assert metric(blurred, infrared, visible) < good
    assert metric(average.roll(5, 3), infrared, visible) < good


@pytest.mark.parametrize(
    ("metric", "flat_sources", "flat_result"),
    [(metrics.cc, 0, 0), (metrics.ssim, 1, None), (metrics.vif, 2, 0), (metrics.qabf, 1, 0)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_constant_images_have_the_value_that_is_documented(metric, flat_sources, flat_result):
    flat = torch.full((1, 1, 48, 48), 0.3)
    assert metric(flat, flat, flat).item() == pytest.approx(flat_sources)
    picture = image(4, 48, 48)
    result = metric(flat, picture, picture).item()
    if flat_result is None:
        assert -1 < result < 0.5
    else:
        assert result == pytest.approx(flat_result, abs=1e-3)


@FUSION
def test_refuses_bad_images(metric):
    good = image(5)
    bad = good.clone()
    bad[0, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="visible holds NaN"):
        metric(good, good, bad)
    with pytest.raises(ValueError, match="one size"):
        metric(good, image(5, 60, 70), good)
    with pytest.raises(ValueError, match="pass the luma"):
        metric(*(good.expand(-1, 3, -1, -1),) * 3)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        metric(255 * good, good, good)
    with pytest.raises(ValueError, match="float tensor"):
        metric((255 * good).to(torch.uint8), good, good)


@pytest.mark.parametrize(("metric", "side"), [(metrics.ssim, 11), (metrics.vif, 41)])
def test_smallest_size(metric, side):
    enough, little = image(6, side, 50), image(6, side - 1, 50)
    assert metric(enough, enough, enough).isfinite().all()
    with pytest.raises(ValueError, match=f"{side} pixels"):
        metric(little, little, little)

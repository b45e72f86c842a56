import sys

import numpy as np
import pytest
import scipy.io
import scipy.ndimage
import torch
import torch.nn.functional as F

from umfuse import geometry
from umfuse.train.deform import DeformConfig, deformation
from umfuse.train.grids import read_absolute_grid
from umfuse.train.protocols import PROTOCOLS, protocol

KINDS = ("affine", "perspective", "elastic", "parallax")


def draw(seed=0, batch=4, size=(120, 160), **changes):
    generator = torch.Generator().manual_seed(seed)
    return deformation(batch, size, DeformConfig(**changes), generator)


def only(kind):
    return {name: float(name == kind) for name in KINDS}


@pytest.mark.parametrize("mean", [1.0, 4.0, 8.0, 16.0])
def test_the_truth_restores_the_image_to_interpolation_error(mean):
    field = draw(size=(192, 256), mean=(mean, mean))
    coarse = torch.rand(4, 1, 16, 20, generator=torch.Generator().manual_seed(1))
    image = F.interpolate(coarse, (192, 256), mode="bicubic", align_corners=False)
    deformed, _ = geometry.warp(image, field.deform)
    restored, _ = geometry.warp(deformed, field.restore)
    changed = ((deformed - image).abs() * field.valid).sum() / field.valid.sum()
    left = ((restored - image).abs() * field.valid).sum() / field.valid.sum()
    assert changed > 0.01
    assert left < 0.004
    assert left < 0.15 * changed
    assert field.valid.float().mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_deform_and_restore_are_inverse(kind):
    field = draw(mean=(6, 6), **only(kind))
    gap = geometry.compose(field.deform, field.restore).square().sum(1, keepdim=True).sqrt()
    inside = F.pad(torch.ones(4, 1, 116, 156), (2, 2, 2, 2))  # outside the border value goes on
    inside = (geometry.warp(inside, field.restore)[0] == 1) & field.valid
    assert gap[inside].max() < 0.1
    assert gap[inside].mean() < 0.01


@pytest.mark.parametrize("mean", [0.5, 4.0, 16.0])
def test_the_mean_magnitude_is_what_was_asked_for(mean):
    field = draw(batch=16, mean=(mean, mean))
    magnitude = field.restore.square().sum(1).sqrt().mean()
    # The mean holds on a larger frame than the picture, where a linear field is longer.
    assert 0.6 * mean < magnitude < 1.1 * mean


def test_no_field_folds():
    field = draw(batch=16, mean=(16, 16), cell=(0.1, 0.2))
    across, down = field.restore.diff(dim=3), field.restore.diff(dim=2)
    across, down = across[:, :, :-1], down[..., :-1]
    determinant = (1 + across[:, 0]) * (1 + down[:, 1]) - across[:, 1] * down[:, 0]
    assert determinant.min() > 0.1


def test_seeds_decide():
    first, again, other = draw(seed=1), draw(seed=1), draw(seed=2)
    assert torch.equal(first.restore, again.restore)
    assert torch.equal(first.deform, again.deform)
    assert not torch.allclose(first.restore, other.restore)


def test_an_affine_field_is_linear():
    field = draw(mean=(3, 3), **only("affine")).restore
    bend = field.diff(n=2, dim=3).abs().max(), field.diff(n=2, dim=2).abs().max()
    assert max(bend) < 1e-4


def test_parallax_moves_along_one_direction():
    field = draw(mean=(3, 3), **only("parallax")).restore.flatten(2)
    values = torch.linalg.svdvals(field)
    assert (values[:, 1] < 1e-3 * values[:, 0]).all()


def test_valid_is_where_the_restored_pixel_was_seen():
    field = draw(mean=(8, 8))
    coordinates = geometry.to_coordinates(field.restore)
    inside = (
        (coordinates[:, :1] >= -0.5)
        & (coordinates[:, :1] <= 159.5)
        & (coordinates[:, 1:] >= -0.5)
        & (coordinates[:, 1:] <= 119.5)
    )
    assert not (field.valid & ~inside).any()
    assert not field.valid.all()
    assert (field.valid == inside).float().mean() > 0.99


def test_zero_fields_are_drawn():
    assert draw(mean=(4, 4), zero=1.0).restore.abs().max() == 0


@pytest.mark.parametrize(
    "changes",
    [{"mean": (3, 1)}, {"mean": (-1, 1)}, {"affine": -1.0}, dict.fromkeys(KINDS, 0.0)],
)
def test_impossible_configs_are_refused(changes):
    with pytest.raises(ValueError, match="must"):
        DeformConfig(**changes)


# ---- protocols ---------------------------------------------------------------------


def lengths(name, size, seeds):
    drawn = torch.cat([protocol(name, size, seed).restore for seed in range(seeds)])
    return drawn.square().sum(1).sqrt().flatten(1)


def test_the_paper_protocol_is_as_long_as_the_authors():
    seeds, size = 20, (256, 256)
    fields = torch.cat([protocol("paper", size, seed).restore for seed in range(seeds)])
    moved = fields.mean((2, 3), keepdim=True)
    # Measured from the authors' generator: 1.22 px of noise an axis, translation within 2.56 px.
    assert 1.15 < (fields - moved).square().mean().sqrt() < 1.32
    assert 2.2 < lengths("paper", size, seeds).mean() < 2.7
    assert moved.abs().max() < 2.56 + 0.5
    assert 1.7 < moved.square().sum(1).sqrt().mean() < 2.2


def test_the_large_protocol_is_as_long_as_superfusion_and_follows_the_size():
    # SuperFusion's test pairs at 296 x 525: mean 16.2 px, 30.5 px where they are longest.
    half = lengths("large", (148, 262), 60)
    assert 14.5 < 2 * half.mean() < 18
    assert 29 < 2 * half.amax(1).mean() < 36
    full = lengths("large", (296, 524), 4)
    assert (full.mean(1) / half[:4].mean(1)).tolist() == pytest.approx([2] * 4, rel=0.01)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("size", [(256, 256), (90, 211)])
def test_a_protocol_comes_with_its_inverse_and_does_not_fold(name, size):
    height, width = size
    for seed in range(8):
        field = protocol(name, size, seed)
        there = geometry.to_coordinates(field.restore)
        gap = geometry.compose(field.deform, field.restore).square().sum(1, keepdim=True).sqrt()
        x, y = there[:, :1], there[:, 1:]
        between = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)  # of pixel centres
        assert gap[between].max() < 0.03  # of interpolating the inverse
        assert torch.equal(field.valid, geometry.inside(there, size))
        across, down = field.restore.diff(dim=3)[:, :, :-1], field.restore.diff(dim=2)[..., :-1]
        determinant = (1 + across[:, 0]) * (1 + down[:, 1]) - across[:, 1] * down[:, 0]
        assert determinant.min() > 0.3


def test_a_protocol_restores_the_image():
    size = (192, 256)
    coarse = torch.rand(1, 1, 16, 20, generator=torch.Generator().manual_seed(1))
    image = F.interpolate(coarse, size, mode="bicubic", align_corners=False)
    for name in PROTOCOLS:
        field = protocol(name, size, 3)
        deformed, _ = geometry.warp(image, field.deform)
        restored, _ = geometry.warp(deformed, field.restore)
        changed = (deformed - image).abs()[field.valid].mean()
        left = (restored - image).abs()[field.valid].mean()
        assert left < 0.1 * changed


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_the_noise_after_the_similarity(name):
    kind, (height, width), seed = PROTOCOLS[name], (128, 192), 5
    generator = torch.Generator().manual_seed(seed)
    draws = (2 * torch.rand(4, generator=generator, dtype=torch.float64) - 1).numpy()
    noise = (2 * torch.rand(2, 256, 256, generator=generator) - 1).double().numpy()
    right, down = draws[:2] * kind.translation * [width, height]
    angle, scale = np.radians(draws[2] * kind.rotation), 1 + draws[3] * kind.scale
    y, x = np.mgrid[:height, :width].astype(float)
    dx, dy = x - (width - 1) / 2, y - (height - 1) / 2
    u = x + right + scale * (np.cos(angle) * dx - np.sin(angle) * dy) - dx
    v = y + down + scale * (np.sin(angle) * dx + np.cos(angle) * dy) - dy
    framed = np.pad(noise, ((0, 0), (50, 50), (50, 50)))
    places = [(v + 0.5) * 256 / height + 49.5, (u + 0.5) * 256 / width + 49.5]
    smooth = [scipy.ndimage.gaussian_filter(n, 16, mode="constant", radius=50) for n in framed]
    ex, ey = (scipy.ndimage.map_coordinates(n, places, order=1, mode="nearest") for n in smooth)
    expected = np.stack((u + ex * width / 2 - x, v + ey * height / 2 - y))
    found = protocol(name, (height, width), seed).restore[0].numpy()
    assert np.abs(found - expected).max() < 1e-3


def test_seeds_and_names_decide_on_a_protocol():
    first, again = protocol("paper", (64, 80), 1), protocol("paper", (64, 80), 1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (protocol("paper", (64, 80), 2), protocol("large", (64, 80), 1)):
        assert not torch.allclose(first.restore, other.restore, atol=0.1)
    # Another size shows the same field, stretched.
    large = geometry.resize_field(protocol("paper", (256, 320), 1).restore, (64, 80))
    assert (large - first.restore).abs().max() < 0.05


def test_unknown_protocols_are_refused():
    with pytest.raises(ValueError, match="'huge': expected one of paper, large"):
        protocol("huge", (64, 64), 0)


# ---- absolute grids ----------------------------------------------------------------


SIZE = (30, 40)


def absolute(field, align_corners):
    """Returns the sampling grid (H, W, 2) of a displacement, by its definition."""
    height, width = field.shape[-2:]
    x, y = geometry.to_coordinates(field.double())[0]
    if align_corners:
        planes = 2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1
    else:
        planes = (2 * x + 1) / width - 1, (2 * y + 1) / height - 1
    return torch.stack(planes, -1).numpy()


@pytest.fixture
def field():
    return protocol("large", SIZE, 0).restore


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_absolute_grids_are_read(tmp_path, field, suffix, axes, align_corners):
    path = tmp_path / f"flow{suffix}"
    grid = absolute(field, align_corners).transpose(axes)[None]
    if suffix == ".npy":
        np.save(path, grid)
    elif suffix == ".npz":
        np.savez(path, flow=grid, name=np.array("a")[()])
    else:
        scipy.io.savemat(path, {"flow": grid, "version": 2.0})
    found = read_absolute_grid(path, align_corners=align_corners)
    assert found.shape == (1, 2, *SIZE)
    assert (found - field).abs().max() < 1e-4


def test_an_absolute_grid_samples_as_grid_sample_does(tmp_path, field):
    grid = absolute(field, align_corners=True)
    np.save(tmp_path / "flow.npy", grid)
    image = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    expected = F.grid_sample(
        image, torch.from_numpy(grid)[None].float(), padding_mode="border", align_corners=True
    )
    found, _ = geometry.warp(image, read_absolute_grid(tmp_path / "flow.npy"))
    assert (found - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda grid: np.where(grid > 0.9, np.nan, grid), "NaN, Inf or beyond"),
        (lambda grid: np.where(grid > 0.9, 1e300, grid), "NaN, Inf or beyond"),
        (lambda grid: grid * 20 + 20, "expected .x, y. over .-1, 1."),  # pixels
        (lambda grid: grid * 0.01, "expected .x, y. over .-1, 1."),  # a displacement
        (lambda grid: grid[..., ::-1], "expected .x, y. over .-1, 1."),  # (y, x)
        (lambda grid: grid[..., 0], "expected one array"),
        (lambda grid: grid.astype(str), "expected one array"),
    ],
)
def test_what_is_no_absolute_grid_is_refused(tmp_path, field, change, message):
    np.save(tmp_path / "flow.npy", change(absolute(field, align_corners=True)))
    with pytest.raises(ValueError, match=message):
        read_absolute_grid(tmp_path / "flow.npy")


@pytest.mark.parametrize("name", ["flow.npy", "flow.npz", "flow.mat", "flow.flo"])
@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 is no archive", b"text, and more of it" * 20]
)
def test_other_files_are_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"flow\.\w+"):
        read_absolute_grid(path)


def test_two_grids_in_one_file_are_named(tmp_path, field):
    grid = absolute(field, align_corners=True)
    np.savez(tmp_path / "flow.npz", there=grid, back=grid)
    with pytest.raises(ValueError, match="got back, there"):
        read_absolute_grid(tmp_path / "flow.npz")


def test_without_scipy_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "flow.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match=r"pip install 'umfuse\[matlab\]'"):
        read_absolute_grid(tmp_path / "flow.mat")


def test_a_missing_grid_is_no_value_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_absolute_grid(tmp_path / "flow.npy")

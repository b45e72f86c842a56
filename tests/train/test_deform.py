import pytest
import torch
import torch.nn.functional as F

from umfuse import warp
from umfuse.train import DeformConfig, deformation

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
    deformed, _ = warp.warp(image, field.deform)
    restored, _ = warp.warp(deformed, field.restore)
    changed = ((deformed - image).abs() * field.valid).sum() / field.valid.sum()
    left = ((restored - image).abs() * field.valid).sum() / field.valid.sum()
    assert changed > 0.01
    assert left < 0.004
    assert left < 0.15 * changed
    assert field.valid.float().mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_deform_and_restore_are_inverse(kind):
    field = draw(mean=(6, 6), **only(kind))
    gap = warp.compose(field.deform, field.restore).square().sum(1, keepdim=True).sqrt()
    inside = F.pad(torch.ones(4, 1, 116, 156), (2, 2, 2, 2))  # outside the border value goes on
    inside = (warp.warp(inside, field.restore)[0] == 1) & field.valid
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
    coordinates = warp.to_coordinates(field.restore)
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

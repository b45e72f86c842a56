import importlib

import pytest
import pytorch_msssim
import torch
import torch.nn.functional as F

from umfuse import metrics
from umfuse.train import losses
from umfuse.train.critic import ImagePool


def image(seed, height=176, width=200, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 1, height // 8, width // 8, generator=generator, dtype=dtype)
    fine = torch.rand(2, 1, height, width, generator=generator, dtype=dtype)
    return 0.8 * F.interpolate(coarse, (height, width), mode="bilinear") + 0.2 * fine


def test_ms_ssim_is_that_of_pytorch_msssim():
    a, b = image(1), 0.7 * image(1) + 0.3 * image(2)
    expected = pytorch_msssim.ms_ssim(a, b, data_range=1.0)
    torch.testing.assert_close(losses.ms_ssim(a, b), expected, atol=2e-5, rtol=1e-4)
    scaled = losses.ms_ssim(255 * a, 255 * b, data_range=255.0)
    torch.testing.assert_close(scaled, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("side", "levels"), [(160, 4), (161, 5), (81, 4), (41, 3), (11, 1)])
def test_ms_ssim_has_as_many_scales_as_fit(side, levels):
    a, b = image(1)[..., :side, :side], image(2)[..., :side, :side]
    weights = torch.tensor([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])[:levels]
    expected = _reference(a, b, weights / weights.sum())
    torch.testing.assert_close(losses.ms_ssim(a, b), expected, atol=1e-4, rtol=1e-3)


def _reference(a, b, weights):
    """MS-SSIM of fewer scales from the parts that pytorch_msssim gives."""
    oracle = importlib.import_module("pytorch_msssim.ssim")
    window = oracle._fspecial_gauss_1d(11, 1.5)[None]
    result = torch.ones(())
    for level, weight in enumerate(weights):
        whole, contrast = oracle._ssim(a, b, 1.0, window, size_average=False)
        last = level == len(weights) - 1
        result = result * (whole if last else contrast).relu() ** weight
        pad = [side % 2 for side in a.shape[2:]]
        a, b = F.avg_pool2d(a, 2, padding=pad), F.avg_pool2d(b, 2, padding=pad)
    return result.mean()


def test_ms_ssim_of_an_image_with_itself_is_one():
    assert losses.ms_ssim(image(1), image(1)) == pytest.approx(1, abs=1e-5)


def test_the_range_counts():
    black = torch.zeros(2, 1, 176, 200)
    assert losses.ms_ssim(black, image(1)) < 0.3
    assert losses.ms_ssim(black, image(1), data_range=255) > 0.99


def test_ms_ssim_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="one shape with sides of 11"):
        losses.ms_ssim(image(1), image(1)[..., 1:])
    with pytest.raises(ValueError, match="one shape with sides of 11"):
        losses.ms_ssim(image(1)[..., :10], image(1)[..., :10])


def test_structure_lies_between_both_sources():
    a, b = image(1), image(2)
    assert losses.structure(a, a, a) == pytest.approx(0, abs=1e-4)
    expected = 1 - losses.ms_ssim(a, b)
    torch.testing.assert_close(losses.structure(a, a, b), expected, atol=1e-5, rtol=1e-5)


def test_joint_gradient_wants_the_stronger_with_its_sign():
    edge = torch.zeros(1, 1, 16, 16)
    edge[..., 8:] = 0.8
    faint = 0.3 + 0.1 * edge.flip(3)
    assert losses.joint_gradient(edge, edge, faint) < 1e-6
    assert losses.joint_gradient(edge, faint, edge) < 1e-6
    assert losses.joint_gradient(1 - edge, edge, faint) > 0.05
    assert losses.joint_gradient(edge + 0.1, edge, faint) < 1e-6


def test_saliency_is_the_mean_distance_of_levels():
    picture = image(4, 40, 48)
    levels = (picture * 255).round()
    for one, found in zip(levels, losses.saliency(picture), strict=True):
        distance = (one.flatten()[:, None] - one.flatten()).abs().mean(1)
        expected = (distance / distance.max()).view_as(found)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_flat_picture_has_no_saliency():
    assert losses.saliency(torch.full((1, 1, 8, 8), 0.4)).abs().max() == 0


def test_the_saliency_mean_costs_nothing():
    infrared, visible = image(1), image(2)
    weight = losses.saliency_weight(infrared, visible)
    assert weight.min() >= 0
    assert weight.max() <= 1
    mean = weight * infrared + (1 - weight) * visible
    assert losses.self_visual_saliency(mean, infrared, visible) < 1e-6
    assert losses.self_visual_saliency(visible, infrared, visible) > 0.01
    torch.testing.assert_close(losses.saliency_weight(visible, infrared), 1 - weight)


def test_differences_want_the_contrast_of_both_sources_at_any_level():
    infrared, visible = 0.2 + 0.2 * image(1), 0.2 + 0.2 * image(2)
    both = infrared + visible
    for level in (-0.3, 0.0, 0.1):
        assert losses.differences(both + level, infrared, visible) < 1e-5
    average = losses.differences(both / 2, infrared, visible)
    assert 0.1 < average < losses.differences(visible, infrared, visible)


def test_fidelity_wants_the_contrast_of_the_sources():
    picture = 0.3 + 0.4 * image(1, 48, 48)
    values = [
        float(losses.fidelity(picture.mean() + gain * (picture - picture.mean()), picture, picture))
        for gain in (0.25, 0.5, 1.0)
    ]
    assert values[0] > values[1] > values[2]


def test_fidelity_prefers_some_of_both_sources_to_a_copy_of_one():
    infrared, visible = 0.1 * image(1, 64, 64) + 0.45, 0.1 * image(2, 64, 64) + 0.45
    infrared[..., :32] = visible[..., 32:] = 0.5  # each has its texture on a side of its own
    both = 0.5 + 0.5 * (infrared - 0.5 + visible - 0.5)
    copy, some = (metrics.vif(x, infrared, visible).mean() for x in (infrared, both))
    assert copy > some
    assert losses.fidelity(both, infrared, visible) < losses.fidelity(infrared, infrared, visible)


def test_edges_want_those_of_both_sources():
    infrared, visible = torch.full((2, 1, 1, 64, 64), 0.3).unbind()
    infrared[..., 10:30, 10:30] = visible[..., 40:60, 40:60] = 0.6
    both = torch.maximum(infrared, visible)
    lost = [float(losses.edges(x, infrared, visible)) for x in (both, (infrared + visible) / 2)]
    assert lost[0] < 0.05 < lost[1]
    assert losses.edges(infrared, infrared, visible) > 0.4


def test_daylight_wants_a_bright_sky_as_it_is_and_says_nothing_of_walls():
    texture = 0.3 * image(1, 64, 64) - 0.15
    visible, infrared = torch.full((2, 1, 1, 64, 64), 0.9).unbind()
    visible[..., 32:, :] = 0.5 + texture[:1, :, 32:]
    infrared.fill_(0.1)
    assert losses.daylight(visible, infrared, visible) == 0
    darker = visible.clone()
    darker[..., 32:, :] -= 0.3  # the wall
    assert losses.daylight(darker, infrared, visible) < 0.01
    darker = visible.clone()
    darker[..., :32, :] -= 0.3  # the sky
    assert losses.daylight(darker, infrared, visible) > 0.05
    infrared[..., :32, :] += 0.3 * torch.rand(1, 1, 32, 64)  # which has something in it
    assert losses.daylight(darker, infrared, visible) < 0.02


def test_smoothness_of_a_linear_field_is_its_slopes():
    field = torch.zeros(1, 2, 10, 12)
    field[:, 0] = 0.3 * torch.arange(12.0)
    field[:, 1] = -0.2 * torch.arange(10.0)[:, None]
    assert losses.smoothness(field) == pytest.approx((0.3 + 0.2) / 2, abs=1e-5)


def test_end_point_looks_at_valid_pixels_only():
    truth = torch.zeros(1, 2, 8, 8)
    found = truth.clone()
    found[:, 0, :, :4], found[:, 1, :, :4] = 3, 4
    valid = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    assert losses.end_point(found, truth, valid) == 0
    valid[..., 4:] = True
    assert losses.end_point(found, truth, valid) == 0
    assert losses.end_point(found, truth, ~valid) == pytest.approx(4.9, abs=0.01)


def test_matching_is_the_cross_entropy_of_the_true_offset():
    logits = torch.randn(2, 25, 4, 5, generator=torch.Generator().manual_seed(0))
    offset = torch.zeros(2, 2, 4, 5)
    offset[:, 0], offset[:, 1] = 1, -2  # one to the right, two up
    valid = torch.ones(2, 1, 4, 5)
    target = torch.full((2, 4, 5), 0 * 5 + 3)
    expected = F.cross_entropy(logits, target)
    offset[:, 1] += 1e-6  # the rim itself does not count
    torch.testing.assert_close(losses.matching(logits, offset, valid), expected)
    # Between pixels the surprise is shared.
    offset[:, 0], offset[:, 1] = 0.25, 1.5
    shares = {(0, 1): 0.375, (1, 1): 0.125, (0, 2): 0.375, (1, 2): 0.125}
    expected = sum(
        share * F.cross_entropy(logits, torch.full_like(target, (down + 2) * 5 + right + 2))
        for (right, down), share in shares.items()
    )
    torch.testing.assert_close(losses.matching(logits, offset, valid), expected)


def test_matching_leaves_out_what_the_window_cannot_see():
    logits = torch.randn(1, 9, 4, 4, generator=torch.Generator().manual_seed(0))
    offset, valid = torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 4, 4)
    offset[..., :2] = 7.0
    half = losses.matching(logits[..., 2:], offset[..., 2:], valid[..., 2:])
    torch.testing.assert_close(losses.matching(logits, offset, valid), half)
    assert losses.matching(logits, offset + 9, valid) == 0


def test_charbonnier_is_a_smooth_l1():
    assert losses.charbonnier(torch.zeros(5)) == pytest.approx(1e-3)
    assert losses.charbonnier(torch.tensor([-2.0, 4.0])) == pytest.approx(3, abs=1e-5)
    a, b = image(1), image(2)
    assert losses.edge(a, a) == pytest.approx(1e-3)
    assert losses.edge(a, b) > 0.1
    assert losses.content(a, b) == (a - b).abs().mean()


def test_lsgan():
    assert losses.lsgan(torch.ones(3), real=True) == 0
    assert losses.lsgan(torch.ones(3), real=False) == 1


def test_the_pool_returns_former_fakes_and_travels_with_the_state():
    pool = ImagePool(4)
    generator = torch.Generator().manual_seed(0)
    seen = [pool(torch.full((2, 1, 3, 3), float(k)), generator) for k in range(40)]
    assert torch.equal(seen[0], torch.zeros(2, 1, 3, 3))
    old = sum(float((out < k).sum()) for k, out in enumerate(seen)) / (40 * 2 * 9)
    assert 0.2 < old < 0.8
    other = ImagePool(4)
    other.load_state_dict(pool.state_dict())
    state = generator.get_state()
    expected = pool(torch.full((2, 1, 3, 3), 99.0), generator)
    generator.set_state(state)
    assert torch.equal(other(torch.full((2, 1, 3, 3), 99.0), generator), expected)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, a, b: losses.structure(x, a, b),
        lambda x, a, b: losses.joint_gradient(x, a, b),
        lambda x, a, b: losses.self_visual_saliency(x, a, b),
        lambda x, a, b: losses.differences(x, a, b),
        lambda x, a, b: losses.edges(x, a, b),
        lambda x, a, b: losses.daylight(x, a / 4, (b + 3) / 4),
        lambda x, a, b: losses.edge(x, a),
        lambda x, a, b: losses.charbonnier(x - a),
        lambda x, a, b: losses.smoothness(torch.cat((x, x), 1)),
        lambda x, a, b: losses.end_point(torch.cat((x, a), 1), torch.cat((b, b), 1), a),
        lambda x, a, b: losses.lsgan(x, real=True),
    ],
)
def test_gradients_are_right(loss):
    x, a, b = (image(seed, 24, 24, torch.float64)[:1] for seed in (1, 2, 3))
    x.requires_grad_()
    # A random direction: all 576 of them would take minutes.
    direction = image(4, 24, 24, torch.float64)[:1] - 0.5
    (slope,) = torch.autograd.grad(loss(x, a, b), x)
    step = 1e-7
    with torch.no_grad():
        ahead, behind = loss(x + step * direction, a, b), loss(x - step * direction, a, b)
    expected = (ahead - behind) / (2 * step)
    torch.testing.assert_close((slope * direction).sum(), expected, rtol=1e-4, atol=1e-7)


def test_losses_are_exact_under_autocast():
    a, b = image(1), image(2)
    checked = (losses.structure, losses.joint_gradient, losses.self_visual_saliency)
    with torch.autocast("cpu", torch.bfloat16):
        values = [loss(a, a, b) for loss in checked]
        weight = losses.saliency_weight(a, b)
    torch.testing.assert_close(values, [loss(a, a, b) for loss in checked])
    torch.testing.assert_close(weight, losses.saliency_weight(a, b))


def maps(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 4, 12, 16), (2, 6, 6, 8))
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_perceptual_losses_are_summed_over_layers_by_weight():
    ours, theirs, weights = maps(1), maps(2), (0.5, 2.0)
    pairs = list(zip(weights, ours, theirs, strict=True))
    squares = sum(w * F.mse_loss(a, b) for w, a, b in pairs)
    torch.testing.assert_close(losses.perceptual(ours, theirs, weights), squares)
    absolute = sum(w * F.l1_loss(a, b) for w, a, b in pairs)
    torch.testing.assert_close(losses.similarity(ours, theirs, weights), absolute)
    with pytest.raises(ValueError, match="zip"):
        losses.perceptual(ours, theirs, (1.0,))


def test_a_gram_matrix_is_of_one_image():
    one = maps(1)[0]
    expected = torch.stack([x.flatten(1) @ x.flatten(1).T / x.numel() for x in one])
    torch.testing.assert_close(losses.gram(one), expected)
    assert torch.equal(losses.gram(one)[:1], losses.gram(one[:1]))


def test_style_is_blind_to_place():
    ours = maps(1)
    moved = [one.flip(3).roll(2, 2) for one in ours]
    assert losses.style(ours, moved, (1.0, 1.0)) < 1e-10
    assert losses.perceptual(ours, moved, (1.0, 1.0)) > 1
    theirs = maps(2)
    expected = sum(
        F.mse_loss(losses.gram(a), losses.gram(b)) for a, b in zip(ours, theirs, strict=True)
    )
    torch.testing.assert_close(losses.style(ours, theirs, (1.0, 1.0)), expected)


def test_similarity_looks_at_valid_pixels_only():
    ours, theirs = maps(1), maps(1)
    valid = torch.ones(2, 1, 24, 32, dtype=torch.bool)
    valid[..., :16] = False
    theirs[0][..., :8] += 5
    theirs[1][..., :4] -= 7
    assert losses.similarity(ours, theirs, (1.0, 1.0), valid) == 0
    assert losses.similarity(ours, theirs, (1.0, 1.0), ~valid) == pytest.approx(12, rel=1e-5)
    assert losses.similarity(ours, theirs, (1.0, 1.0), torch.zeros_like(valid)) == 0

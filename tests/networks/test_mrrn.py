from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
import torch
import torch.nn.functional as F

from umfuse import warp
from umfuse.networks import Mrrn, MrrnConfig

SMALL = MrrnConfig(channels=(4, 6), decoder=(8, 6), refine=(6, 4))
WIDE = MrrnConfig(
    in_channels=3,
    channels=(8, 8, 12, 16),
    finest=4,
    decoder=(8, 6),
    refine=(6, 4),
    search_radius=2,
    soft_argmax=True,
    aggregate=1,
    smoothing=1,
    norm="group",
    upsampling="centres",
)
CONFIGS = pytest.mark.parametrize("config", [SMALL, WIDE], ids=["paper", "wide"])


def shaken(config: MrrnConfig) -> Mrrn:
    """A network without the zeros that training starts from."""
    torch.manual_seed(0)
    network = Mrrn(config)
    for name, parameter in network.named_parameters():
        if "temperature" not in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def pair(config: MrrnConfig, height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, batch, config.in_channels, height, width, generator=generator)
    return images.unbind()


def test_paper_has_the_published_number_of_parameters():
    assert sum(parameter.numel() for parameter in Mrrn().parameters()) == 170_904


@CONFIGS
@pytest.mark.parametrize("size", [(16, 16), (17, 50), (33, 31)])
def test_any_size_gives_a_float32_field_and_its_pyramid(config, size):
    result = shaken(config)(*pair(config, *size, batch=2))
    coarsest = 2**config.levels
    padded = [-(-side // coarsest) * coarsest for side in size]
    strides = [2**i for i in range(config.levels, 0, -1) if 2**i >= config.finest]
    assert result.displacement.shape == (2, 2, *size)
    assert [f.shape for f in result.pyramid] == [(2, 2, *(p // s for p in padded)) for s in strides]
    matched = len(strides) if config.soft_argmax else 0
    assert len(result.matches) == len(result.confidences) == matched
    assert all(f.dtype == torch.float32 for f in (result.displacement, *result.pyramid))
    assert all(0 <= c.min() <= c.max() <= 1 for c in result.confidences)


def test_the_field_is_the_finest_level_enlarged():
    result = shaken(WIDE)(*pair(WIDE, 32, 48))
    enlarged = F.interpolate(result.pyramid[-1], (32, 48), mode="bilinear")
    # Away from the border two doublings and one enlargement by four are the same but for the bend
    # between knots.
    assert (4 * enlarged - result.displacement).abs().mean() < 0.1 * result.displacement.std()


def test_untrained_wide_network_stays():
    for seed in range(3):
        torch.manual_seed(seed)
        result = Mrrn(WIDE)(*pair(WIDE, 64, 64))
        assert result.displacement.abs().max() < 0.5
        assert result.displacement.abs().max() > 0  # the matches are in it, so they get gradients


def test_ideal_features_find_an_integer_shift():
    """With features that tell places apart, the soft-argmax alone reads off the shift."""
    config = dataclasses.replace(WIDE, aggregate=0, smoothing=0, norm="none")
    level = Mrrn(config).levels[0]
    features = torch.randn(1, 16, 20, 24, generator=torch.Generator().manual_seed(0))
    moving = features.roll((1, -2), (2, 3))  # moving[y + 1, x - 2] = fixed[y, x]
    torch.nn.init.constant_(level.matcher.log_temperature, 4.0)
    torch.nn.init.constant_(level.matcher.gate[2].bias, 6.0)  # trust the match
    found = level(features, moving, None)
    inner = (..., slice(3, -3), slice(3, -3))
    wanted = torch.tensor([-2.0, 1.0])[None, :, None, None]
    assert (found.match - wanted)[inner].abs().max() < 0.02
    assert (found.field - wanted)[inner].abs().max() < 0.03
    assert found.confidence[inner].min() > 0.99
    back = warp.warp(moving, found.field)[0]
    assert torch.allclose(back[inner], features[inner], atol=0.2)


def test_without_trust_a_level_stays_whatever_it_sees():
    level = Mrrn(WIDE).levels[0]
    features = torch.randn(1, 16, 20, 24, generator=torch.Generator().manual_seed(0))
    torch.nn.init.constant_(level.matcher.gate[2].bias, -10.0)
    found = level(features, features.roll(2, 3), None)
    assert found.field.abs().max() < 1e-3
    assert found.match.abs().max() > 0.05


def test_next_level_starts_where_the_last_one_ended():
    """A finer level adds its own match to twice the field before it."""
    torch.manual_seed(0)
    network = Mrrn(WIDE)
    for level in network.levels:
        torch.nn.init.constant_(level.matcher.gate[2].bias, -10.0)
    torch.nn.init.constant_(network.levels[0].head.bias, 0.5)
    result = network(*pair(WIDE, 32, 32))
    assert result.displacement.mean().item() == pytest.approx(0.5 * 16, rel=1e-2)
    assert [f.mean().item() for f in result.pyramid] == pytest.approx([0.5, 1.0, 2.0], rel=1e-2)


@CONFIGS
def test_gradients_reach_every_parameter(config):
    network = shaken(config)
    network(*pair(config, 32, 48)).displacement.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_untrained_wide_network_learns_a_shift():
    """From "stay", a few steps on one pair must find where it moved."""
    torch.manual_seed(0)
    config = dataclasses.replace(WIDE, in_channels=1, smoothing=2)
    network = Mrrn(config)
    image = F.interpolate(torch.rand(2, 1, 24, 24), (96, 96), mode="bicubic")
    fixed, moving = image[..., 8:72, 8:72], image[..., 6:70, 4:68]
    truth = torch.tensor([4.0, 2.0])[None, :, None, None]
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    errors = []
    for _ in range(20):
        loss = (network(fixed, moving).displacement - truth).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item())
    assert errors[0] == pytest.approx(3.0, rel=0.1)
    assert errors[-1] < 0.5 * errors[0]


@CONFIGS
def test_fields_stay_float32_under_autocast(config):
    network = shaken(config).eval()
    for parameter in network.parameters():
        parameter.data *= 0.5
    images = pair(config, 32, 32)
    with torch.no_grad():
        exact = network(*images).displacement
        with torch.autocast("cpu", torch.bfloat16):
            result = network(*images)
    fields = (result.displacement, *result.pyramid, *result.matches, *result.confidences)
    assert all(field.dtype == torch.float32 for field in fields)
    assert (result.displacement - exact).abs().max() < 0.1 * exact.abs().max() + 0.05


@CONFIGS
def test_exports_with_any_batch_and_size_and_compiles(config):
    if config.soft_argmax:  # two levels with a small window show the same and trace faster
        config = dataclasses.replace(config, channels=(8, 8, 12), search_radius=1)
    network = shaken(config).eval()
    shape = {0: torch.export.Dim("batch")}
    # Below, a level of one pixel would be a special case to torch.export.
    smallest = 2**config.levels + 1
    shape |= {i: torch.export.Dim(name, min=smallest) for i, name in ((2, "height"), (3, "width"))}
    exported = torch.export.export(
        network, pair(config, 35, 42, batch=2), dynamic_shapes=(shape, shape)
    ).module()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    other = pair(config, 64, 55, batch=3)
    expected = network(*other).displacement
    assert torch.allclose(exported(*other).displacement, expected, atol=1e-4)
    assert torch.allclose(compiled(*other).displacement, expected, atol=1e-4)


def test_config_survives_json():
    assert MrrnConfig(**json.loads(json.dumps(dataclasses.asdict(WIDE)))) == WIDE


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": ()},
        {"decoder": (8, 0)},
        {"finest": 3},
        {"finest": 8},
        {"in_channels": 0},
        {"search_radius": -1},
        {"soft_argmax": True},
        {"norm": "batch"},
        {"upsampling": "nearest"},
    ],
)
def test_config_refuses_what_cannot_be_built(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MrrnConfig(**wrong)


def test_refuses_other_channels_and_sizes():
    network = Mrrn(SMALL)
    with pytest.raises(ValueError, match=r"\(B, 1, H, W\)"):
        network(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="same shape"):
        network(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 20))


@pytest.mark.parametrize(
    ("config", "digest"),
    [(MrrnConfig(), "55f2a6a7443a7549"), (WIDE, "1075a0e9a54ea59a")],
    ids=["paper", "wide"],
)
def test_state_dict_keys_are_frozen(config, digest):
    """Published weights depend on these names and shapes: change them only with a migration."""
    state = Mrrn(config).state_dict()
    text = "\n".join(f"{name} {tuple(value.shape)}" for name, value in sorted(state.items()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest, text

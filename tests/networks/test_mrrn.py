from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
import torch
import torch.nn.functional as F

from umfuse.networks import Mrrn, MrrnConfig

SMALL = MrrnConfig(channels=(4, 6), decoder=(8, 6), refine=(6, 4))
DEEP = MrrnConfig(in_channels=3, channels=(8, 8, 12), decoder=(8, 6), refine=(6, 4))
CONFIGS = pytest.mark.parametrize("config", [SMALL, DEEP], ids=["paper", "deep"])


def shaken(config: MrrnConfig) -> Mrrn:
    """A network with larger weights than those it starts from."""
    torch.manual_seed(0)
    network = Mrrn(config)
    for parameter in network.parameters():
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
    strides = [2**i for i in range(config.levels, 0, -1)]
    assert result.displacement.shape == (2, 2, *size)
    assert [f.shape for f in result.pyramid] == [(2, 2, *(p // s for p in padded)) for s in strides]
    assert result.matches == ()
    assert all(f.dtype == torch.float32 for f in (result.displacement, *result.pyramid))


def test_the_field_is_the_finest_level_enlarged():
    result = shaken(SMALL)(*pair(SMALL, 32, 48))
    enlarged = F.interpolate(result.pyramid[-1], (32, 48), mode="bilinear", align_corners=True)
    torch.testing.assert_close(2 * enlarged, result.displacement)


def test_next_level_starts_where_the_last_one_ended():
    network = Mrrn(DEEP)
    for level in network.levels:
        for module in (level.head, level.refine[-1]):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    torch.nn.init.constant_(network.levels[0].head.bias, 0.5)
    result = network(*pair(DEEP, 32, 32))
    assert result.displacement.mean().item() == pytest.approx(0.5 * 8, rel=1e-5)
    assert [f.mean().item() for f in result.pyramid] == pytest.approx([0.5, 1.0, 2.0], rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_new_network_sees_the_images(seed):
    """With features that hardly depend on them it never learned to move anything."""
    torch.manual_seed(seed)
    network = Mrrn()
    images = (F.avg_pool2d(image, 5, 1, 2) for image in pair(MrrnConfig(), 64, 64))
    with torch.no_grad():
        for one, other in zip(*map(network._features, images), strict=True):
            assert (one - other).norm() > 0.05 * one.norm()


@CONFIGS
def test_gradients_reach_every_parameter(config):
    network = shaken(config)
    network(*pair(config, 32, 48)).displacement.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


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
    fields = (result.displacement, *result.pyramid)
    assert all(field.dtype == torch.float32 for field in fields)
    assert (result.displacement - exact).abs().max() < 0.1 * exact.abs().max() + 0.05


@CONFIGS
def test_exports_with_any_batch_and_size_and_compiles(config):
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
    assert MrrnConfig(**json.loads(json.dumps(dataclasses.asdict(DEEP)))) == DEEP


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": ()},
        {"decoder": (8, 0)},
        {"in_channels": 0},
        {"kind": "matcher"},
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
    [(MrrnConfig(), "55f2a6a7443a7549"), (DEEP, "662f0751fd3a9015")],
    ids=["paper", "deep"],
)
def test_state_dict_keys_are_frozen(config, digest):
    """Published weights depend on these names and shapes: change them only with a migration."""
    state = Mrrn(config).state_dict()
    text = "\n".join(f"{name} {tuple(value.shape)}" for name, value in sorted(state.items()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest, text

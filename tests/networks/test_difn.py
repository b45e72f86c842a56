from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from umfuse.networks import Difn, DifnConfig

SMALL = DifnConfig(features=8, dense_layers=2, growth=4, output="blend")
WIDE = dataclasses.replace(SMALL, global_means=True, shuffle=2, view=4)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def shaken(config: DifnConfig) -> Difn:
    """A network without the zeros that training starts from."""
    torch.manual_seed(0)
    network = Difn(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


@pytest.mark.parametrize(("interaction", "count"), [("gated", 629_253), ("equation", 485_889)])
def test_paper_has_the_published_number_of_parameters(interaction, count):
    assert parameters(Difn(DifnConfig(interaction=interaction))) == count


CONFIGS = {
    "tanh": DifnConfig(features=4),
    "blend": SMALL,
    "shuffled": dataclasses.replace(SMALL, shuffle=2),
    "view": dataclasses.replace(SMALL, view=4),
    "wide": WIDE,
}
of_each_kind = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@of_each_kind
@pytest.mark.parametrize("size", [(16, 16), (17, 31), (1, 5)])
def test_shape_and_range(config, size):
    fused = shaken(config)(torch.rand(2, 1, *size), torch.rand(2, 1, *size))
    assert fused.shape == (2, 1, *size)
    low = -1 if config.output == "tanh" else 0
    assert low <= fused.min() < fused.max() <= 1


def test_untrained_blend_is_the_average():
    infrared, visible = torch.rand(2, 1, 1, 20, 20).unbind()
    assert torch.allclose(Difn(SMALL)(infrared, visible), (infrared + visible) / 2)


def test_global_means_tell_one_picture_from_another():
    network = shaken(dataclasses.replace(SMALL, global_means=True))
    images = torch.rand(2, 1, 1, 64, 64)
    brighter = images.clone()
    brighter[..., 40:] = 1.0
    with torch.no_grad():
        before, after = network(*images.unbind()), network(*brighter.unbind())
    assert not torch.allclose(before[..., :20], after[..., :20])


def test_blend_reaches_beyond_both_inputs_but_not_beyond_the_range():
    infrared, visible = torch.rand(2, 1, 1, 20, 20).unbind()
    network = Difn(SMALL)
    for bias, wanted in ((50.0, 1.0), (-50.0, 0.0)):
        torch.nn.init.constant_(network.tail[1].bias, bias)
        assert torch.equal(network(infrared, visible), torch.full_like(visible, wanted))


@pytest.mark.parametrize(
    ("config", "radius"),
    [
        (DifnConfig(), 8),
        (DifnConfig(interaction="equation"), 5),
        (dataclasses.replace(SMALL, dense_layers=1), 6),
    ],
)
def test_a_pixel_changes_the_output_within_the_radius_and_not_beyond(config, radius):
    network = shaken(dataclasses.replace(config, features=4)).double()
    images = torch.rand(2, 1, 1, 31, 31, dtype=torch.float64)
    changed = images.clone()
    changed[:, :, :, 15, 15] += 0.5
    with torch.no_grad():
        difference = network(*images.unbind()) != network(*changed.unbind())
    rows = difference[0, 0].any(1).nonzero()[:, 0]
    assert network.radius == radius
    assert (rows.min(), rows.max()) == (15 - radius, 15 + radius)


@of_each_kind
def test_tiles_with_a_margin_are_exact(config):
    network = shaken(config).double()
    images = torch.rand(2, 1, 1, 90, 101, dtype=torch.float64)
    margin, window = network.radius, (slice(32, 61), slice(40, 72))
    part = tuple(slice(w.start - margin, w.stop + margin) for w in window)
    with torch.no_grad():
        whole = network(*images.unbind())
        seen = network.look(*images.unbind()).around(window, margin)
        tile = network(*images[(..., *part)].unbind(), seen)
    cut = tile[..., margin:-margin, margin:-margin]
    assert torch.allclose(cut, whole[(..., *window)], atol=1e-12)


def test_a_view_looks_further_than_the_paths():
    network, images = shaken(WIDE), torch.rand(2, 1, 1, 128, 128)
    changed = images.clone()
    changed[..., 100:] = 1.0
    with torch.no_grad():
        means = network.look(*images.unbind()).means
        seen = [network.look(*pair.unbind())._replace(means=means) for pair in (images, changed)]
        cells = (slice(0, 128), slice(0, 128))
        before, after = (network(*images.unbind(), one.around(cells, 0)) for one in seen)
    assert network.radius == 16
    assert (before - after)[..., 60:76].abs().max() > 1e-6


@of_each_kind
@pytest.mark.parametrize("interaction", ["gated", "equation"])
def test_gradients_reach_every_parameter(config, interaction):
    network = shaken(dataclasses.replace(config, interaction=interaction))
    network(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ["blend", "tanh"])
def test_the_image_is_float32_under_autocast(kind):
    network, images = shaken(CONFIGS[kind]), torch.rand(2, 1, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        fused = network(*images.unbind())
    assert fused.dtype == torch.float32
    assert (fused - network(*images.unbind())).abs().max() < 0.02


@pytest.mark.parametrize("interaction", ["gated", "equation"])
@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["blend", "wide"])
def test_exports_with_any_batch_and_size_and_compiles(config, interaction):
    network = shaken(dataclasses.replace(config, interaction=interaction)).eval()
    batch, *sides = (
        torch.export.Dim(name, min=low) for name, low in (("b", 1), ("h", 9), ("w", 9))
    )
    shape = {0: batch, 2: sides[0], 3: sides[1]}
    example = torch.rand(2, 1, 20, 24)
    exported = torch.export.export(
        network, (example, example), dynamic_shapes=(shape, shape)
    ).module()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    other = torch.rand(3, 1, 33, 47)
    expected = network(other, other)
    assert torch.allclose(exported(other, other), expected, atol=1e-6)
    assert torch.allclose(compiled(other, other), expected, atol=1e-6)


def test_config_survives_json():
    assert DifnConfig(**json.loads(json.dumps(dataclasses.asdict(SMALL)))) == SMALL


@pytest.mark.parametrize(
    "wrong",
    [
        *({"features": 0}, {"growth": 0}, {"interaction": "add"}, {"output": "relu"}),
        *({"shuffle": 3}, {"view": -1}),
    ],
)
def test_config_refuses_what_cannot_be_built(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DifnConfig(**wrong)


def test_refuses_colour_and_different_sizes():
    network = Difn(SMALL)
    with pytest.raises(ValueError, match="luma"):
        network(torch.rand(1, 1, 16, 16), torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="same shape"):
        network(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 18))


def test_state_dict_keys_are_frozen():
    """Published weights depend on these names: change them only with a migration."""
    paths = [
        f"{path}.{name}"
        for path in ("infrared", "visible")
        for name in (
            "head.weight",
            "head.bias",
            "dense.0.weight",
            "dense.1.weight",
            "dense.2.weight",
            "merge.weight",
        )
    ]
    gated = [
        f"interaction.{name}.{kind}"
        for name in ("query", "key", "infrared_gates", "visible_gates")
        for kind in ("weight", "bias")
    ]
    tail = ["tail.0.weight", "tail.0.bias", "tail.1.weight", "tail.1.bias"]
    assert sorted(Difn().state_dict()) == sorted(paths + gated + tail)
    equation = [f"interaction.{n}.{k}" for n in ("query", "key") for k in ("weight", "bias")]
    expected = sorted([*paths, *equation, "tail.weight", "tail.bias"])
    assert sorted(Difn(DifnConfig(interaction="equation")).state_dict()) == expected

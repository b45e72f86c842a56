from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from umfuse.networks import Cpstn, CpstnConfig

SMALL = CpstnConfig(filters=4, blocks=2)


@pytest.fixture
def network() -> Cpstn:
    torch.manual_seed(0)
    return Cpstn(SMALL)


def test_paper_has_the_published_number_of_parameters():
    with torch.device("meta"):
        paper = Cpstn()
    assert sum(parameter.numel() for parameter in paper.parameters()) == 11_371_905


@pytest.mark.parametrize("size", [(8, 8), (9, 10), (11, 37), (32, 20)])
def test_shape_and_range(network, size):
    rendered = network(torch.rand(2, 3, *size))
    assert rendered.shape == (2, 1, *size)
    assert 0 <= rendered.min() < rendered.max() <= 1


def test_starts_from_normal_weights_and_no_bias():
    parameters = list(Cpstn(CpstnConfig(16, 1)).parameters())
    weights = torch.cat([p.flatten() for p in parameters if p.dim() > 1])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert all(not p.any() for p in parameters if p.dim() == 1)


def test_does_not_see_the_contrast_of_the_input(network):
    """Instance norm makes the network blind to gain and offset, but for rounding and epsilon."""
    image = torch.rand(1, 3, 24, 24)
    assert torch.allclose(network(image), network(0.3 * image + 0.4), atol=1e-2)
    assert not torch.allclose(network(image), network(image.flip(2)), atol=5e-2)


def test_every_image_of_a_batch_is_rendered_as_if_alone(network):
    images = torch.rand(3, 3, 17, 18)
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(network(images), alone, atol=1e-5)


def test_training_and_evaluation_agree(network):
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(network.train()(image), network.eval()(image))


def test_gradients_reach_every_weight(network):
    network(torch.rand(1, 3, 24, 24)).square().sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:  # a bias before an instance norm has no effect, as in the paper
            assert parameter.grad.abs().sum() > 0, name


def test_exports_with_any_batch_and_size_and_compiles(network):
    shape = {0: torch.export.Dim("batch")}
    shape |= {i: torch.export.Dim(n, min=8) for i, n in ((2, "height"), (3, "width"))}
    network.eval()
    exported = torch.export.export(
        network, (torch.rand(2, 3, 21, 26),), dynamic_shapes=(shape,)
    ).module()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    other = torch.rand(3, 3, 35, 48)
    expected = network(other)
    assert torch.allclose(exported(other), expected, atol=1e-5)
    assert torch.allclose(compiled(other), expected, atol=1e-5)


def test_config_survives_json():
    assert CpstnConfig(**json.loads(json.dumps(dataclasses.asdict(SMALL)))) == SMALL


@pytest.mark.parametrize("wrong", [{"filters": 0}, {"blocks": -1}, {"in_channels": 0}])
def test_config_refuses_what_cannot_be_built(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CpstnConfig(**wrong)


def test_refuses_grey_and_tiny_images(network):
    with pytest.raises(ValueError, match="repeat a grey image"):
        network(torch.rand(1, 1, 16, 16))
    with pytest.raises(ValueError, match="8x8"):
        network(torch.rand(1, 3, 16, 7))


def test_state_dict_keys_are_frozen():
    """Published weights depend on these names: change them only with a migration."""
    with torch.device("meta"):
        keys = sorted(Cpstn().state_dict())
    layers = [f"encoder.{i}" for i in (0, 3, 6)] + [f"decoder.{i}" for i in (0, 3, 6)]
    layers += [f"blocks.{i}.layers.{j}" for i in range(9) for j in (0, 3)]
    assert keys == sorted(f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias"))

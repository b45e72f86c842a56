from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest
import torch
import torch.nn.functional as F

from umfuse.networks import Matcher, MatcherConfig
from umfuse.networks.matcher import correlate

SMALL = MatcherConfig(channels=(4, 6, 8), descriptor=6, context=4, width=6, radius=(2, 1))


def shaken(config: MatcherConfig) -> Matcher:
    """A network without the zeros that training starts from."""
    torch.manual_seed(0)
    network = Matcher(config)
    for level in (network.coarse, network.fine):
        torch.nn.init.normal_(level.read.head.weight, std=0.1)
    return network


def pair(height: int, width: int, batch: int = 1) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, batch, 3, height, width, generator=generator).unbind()


def test_correlation_is_that_of_a_loop():
    fixed, moving = torch.randn(2, 2, 5, 6, 9, generator=torch.Generator().manual_seed(0))
    found = correlate(fixed, moving, 2)
    assert found.shape == (2, 25, 6, 9)
    for y in range(6):
        for x in range(9):
            for k in range(25):
                row = min(max(y + k // 5 - 2, 0), 5)
                column = min(max(x + k % 5 - 2, 0), 8)
                expected = (fixed[:, :, y, x] * moving[:, :, row, column]).sum(1)
                torch.testing.assert_close(found[:, k, y, x], expected)


@pytest.mark.parametrize("size", [(32, 32), (17, 50), (65, 31)])
def test_any_size_gives_a_float32_field_its_pyramid_and_its_matches(size):
    result = shaken(SMALL)(*pair(*size, batch=2))
    padded = [-(-side // 32) * 32 for side in size]
    at = [tuple(side // stride for side in padded) for stride in (8, 4, 4)]
    assert result.displacement.shape == (2, 2, *size)
    assert [tuple(f.shape) for f in result.pyramid] == [(2, 2, *s) for s in at]
    assert [tuple(m.start.shape) for m in result.matches] == [(2, 2, *s) for s in at]
    windows = [(2 * SMALL.radius[level] + 1) ** 2 for level in (0, 1, 1)]
    shapes = [(2, n, *s) for n, s in zip(windows, at, strict=True)]
    assert [tuple(m.logits.shape) for m in result.matches] == shapes
    fields = (result.displacement, *result.pyramid, *(t for m in result.matches for t in m))
    assert all(field.dtype == torch.float32 for field in fields)


def test_untrained_it_stays():
    for seed in range(3):
        torch.manual_seed(seed)
        assert torch.equal(Matcher(SMALL)(*pair(64, 64)).displacement, torch.zeros(1, 2, 64, 64))


def test_levels_start_where_the_last_one_ended():
    network = Matcher(SMALL)
    for level, bias in ((network.coarse, 0.5), (network.fine, 0.25)):
        torch.nn.init.constant_(level.read.head.bias, bias)
    result = network(*pair(32, 64))
    starts = [match.start.mean().item() for match in result.matches]
    assert starts == pytest.approx([0, 1, 1.25])
    assert [f.mean().item() for f in result.pyramid] == pytest.approx([0.5, 1.25, 1.5])
    torch.testing.assert_close(result.displacement, torch.full((1, 2, 32, 64), 6.0))


def test_windows_are_centred_on_the_field_so_far():
    """Two equal images match best at the offset that takes the field back."""
    network = Matcher(dataclasses.replace(SMALL, radius=(2, 2), passes=1))
    image = F.interpolate(torch.rand(1, 3, 24, 24), (96, 96), mode="bicubic")
    torch.nn.init.constant_(network.coarse.read.head.bias, 0.5)  # one pixel of the next level
    coarse, fine = network(image, image).matches
    assert (coarse.logits.argmax(1) == 12).float().mean() > 0.95
    back = 1 * 5 + 1  # the offset (-1, -1)
    assert (fine.logits.argmax(1)[:, 3:-3, 3:-3] == back).float().mean() > 0.95


def test_gradients_reach_every_parameter():
    network = shaken(SMALL)
    network(*pair(64, 96)).displacement.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_fields_stay_float32_under_autocast():
    network = shaken(SMALL).eval()
    images = pair(64, 64)
    with torch.no_grad():
        exact = network(*images).displacement
        with torch.autocast("cpu", torch.bfloat16):
            result = network(*images)
    assert all(f.dtype == torch.float32 for f in (result.displacement, *result.pyramid))
    assert (result.displacement - exact).abs().max() < 0.1 * exact.abs().max() + 0.05


def test_exports_with_any_batch_and_size_and_compiles():
    network = shaken(SMALL).eval()
    shape = {0: torch.export.Dim("batch")}
    shape |= {i: torch.export.Dim(name, min=33) for i, name in ((2, "height"), (3, "width"))}
    exported = torch.export.export(
        network, pair(40, 70, batch=2), dynamic_shapes=(shape, shape)
    ).module()
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    other = pair(64, 101, batch=3)
    expected = network(*other).displacement
    assert torch.allclose(exported(*other).displacement, expected, atol=1e-4)
    assert torch.allclose(compiled(*other).displacement, expected, atol=1e-4)


def test_config_survives_json():
    assert MatcherConfig(**json.loads(json.dumps(dataclasses.asdict(SMALL)))) == SMALL


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": (4, 8)},
        {"radius": (2, 0)},
        {"descriptor": 0},
        {"passes": 0},
        {"kind": "paper"},
    ],
)
def test_config_refuses_what_cannot_be_built(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MatcherConfig(**wrong)


def test_refuses_other_channels_and_sizes():
    network = Matcher(SMALL)
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        network(torch.rand(1, 1, 32, 32), torch.rand(1, 1, 32, 32))
    with pytest.raises(ValueError, match="same shape"):
        network(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 40))


def test_state_dict_keys_are_frozen():
    """Published weights depend on these names and shapes: change them only with a migration."""
    state = Matcher().state_dict()
    text = "\n".join(f"{name} {tuple(value.shape)}" for name, value in sorted(state.items()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "46b1b1d9f5f283e1", text

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.overrides import TorchFunctionMode

from umfuse import filters, geometry, search, tiles
from umfuse.config import UmfuseConfig
from umfuse.networks import CpstnConfig, DifnConfig, Matcher, MatcherConfig, MrrnConfig
from umfuse.pipeline import Umfuse
from umfuse.weights import WeightsError

TINY = UmfuseConfig(
    cpstn=CpstnConfig(filters=4, blocks=1),
    mrrn=MatcherConfig(channels=(8, 8, 8), descriptor=8, context=8, width=8),
    difn=DifnConfig(features=4, output="blend"),
    working_size=128,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = Umfuse(TINY).eval()
    model.precision = "float32"
    with torch.no_grad():
        for parameter in model.difn.parameters():  # its last layer starts at zero
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def picture(height, width, channels=1, seed=0):
    """Smooth random shapes in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, channels, height // 8, width // 8, generator=generator)
    return F.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)


def found(transform, confidence=0.9):
    return lambda *args, **kwargs: SimpleNamespace(transform=transform, confidence=confidence)


def test_config_survives_json():
    text = json.dumps(TINY.to_dict())
    assert UmfuseConfig.from_dict(json.loads(text)) == TINY
    assert UmfuseConfig.from_dict(UmfuseConfig().to_dict()) == UmfuseConfig()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, r"config has unknown keys \['surprise'\]"),
        ({"difn": {"depth": 1}}, r"config\.difn has unknown keys \['depth'\]"),
        ({"format_version": 1}, "reads format_version 2, the config has 1"),
        ({"working_size": 10}, "at least 64"),
        ({"mrrn": {"in_channels": 2}}, "must be 1 .* or 3"),
        ({"mrrn": {"kind": "matcher", "decoder": [8]}}, r"config\.mrrn has unknown keys"),
        ({"mrrn": {"kind": "flow"}}, "kind must be 'paper', got 'flow'"),
        ({"cpstn": 3}, "config.cpstn must hold keys, got 3"),
        ({"fixed": "infrared"}, "must be one of pseudo-infrared, visible"),
    ],
)
def test_config_is_strict(change, message):
    with pytest.raises(ValueError, match=message):
        UmfuseConfig.from_dict({**TINY.to_dict(), **change})


def test_default_config_is_the_paper():
    counts = [
        sum(parameter.numel() for parameter in network.parameters())
        for network in (Umfuse().cpstn, Umfuse().mrrn, Umfuse().difn)
    ]
    assert counts == [11_371_905, 170_904, 629_253]


def test_saved_model_loads_strictly_and_gives_the_same(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    with safe_open(tmp_path / "saved/model.safetensors", framework="pt") as file:
        assert file.metadata()["library"] == "umfuse"
    assert "umfuse" in (tmp_path / "saved/README.md").read_text()
    again = Umfuse.from_pretrained(tmp_path / "saved")
    assert again.config == TINY
    assert not again.training
    again.precision = "float32"
    infrared, visible = picture(64, 80), picture(64, 80, 3)
    for a, b in zip(model(infrared, visible)[:5], again(infrared, visible)[:5], strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


@pytest.mark.parametrize("damage", ["missing", "surplus", "shape", "config"])
def test_weights_that_do_not_fit_are_refused(model, tmp_path, damage):
    model.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    state = load_file(file)
    name = next(iter(state))
    if damage == "missing":
        del state[name]
    elif damage == "surplus":
        state["more"] = torch.zeros(1)
    elif damage == "shape":
        state[name] = torch.zeros(1)
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        config["cpstn"]["filters"] = "many"
        (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(state, file)
    with pytest.raises(WeightsError, match="do not fit this umfuse"):
        Umfuse.from_pretrained(tmp_path)


def test_forward_takes_a_batch_of_any_sizes(model):
    out = model(picture(48, 64).expand(2, -1, -1, -1), picture(72, 99, 3).expand(2, -1, -1, -1))
    for name, channels in (
        *(("fused", 1), ("infrared", 1), ("coordinates", 2)),
        ("valid_mask", 1),
    ):
        assert getattr(out, name).shape == (2, channels, 72, 99)
    assert out.transform.shape == (2, 3, 3)
    assert out.coordinates.dtype == torch.float32
    assert 0 <= out.fused.min() <= out.fused.max() <= 1
    assert out.valid_mask.all()
    assert out.confidence is None


@pytest.mark.parametrize("mrrn", [TINY.mrrn, MrrnConfig(channels=(4, 4), in_channels=3)])
def test_cpstn_runs_only_where_its_image_is_registered_to(mrrn):
    """And then the network sees it in the place of the visible luma."""
    infrared, visible = picture(128, 128), picture(128, 128, 3, seed=5)
    edges = []
    for fixed in ("pseudo-infrared", "visible"):
        seen, calls = [], []
        other = Umfuse(replace(TINY, mrrn=mrrn, fixed=fixed)).eval()
        is_matcher = isinstance(other.mrrn, Matcher)
        looks = other.mrrn.encoder if is_matcher else other.mrrn  # first at the visible side
        looks.register_forward_pre_hook(lambda _, images, seen=seen: seen.append(images[0]))
        other.cpstn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        out = other(infrared, visible)
        other.align(infrared, visible)
        if fixed == "visible":
            assert out.pseudo_infrared is None
            assert calls == []
            torch.testing.assert_close(seen[0][:, :1], filters.luma(visible))
        else:
            assert len(calls) == 2
            torch.testing.assert_close(seen[0][:, :1], out.pseudo_infrared)
            assert out.pseudo_infrared.shape == (1, 1, 128, 128)
        edges.append(seen[0][:, 1:])
    torch.testing.assert_close(*edges)  # those of the visible image in both


def test_untrained_model_stays_where_the_transform_put_it(model):
    infrared, transform = picture(64, 80), torch.eye(3, dtype=torch.float64)
    transform[0, 2] = 5
    out = model(infrared, picture(64, 80, 3), transform)
    torch.testing.assert_close(out.infrared[..., :-5], infrared[..., 5:], atol=0.05, rtol=0)
    assert not out.valid_mask[..., -5:].any()


def test_gradients_reach_every_network(model):
    torch.manual_seed(1)
    for parameter in model.parameters():  # wake the heads that start at zero
        parameter.data += 0.02 * torch.randn_like(parameter)
    out = model.train()(picture(64, 64), picture(64, 64, 3, seed=5))
    (out.fused.mean() + (out.coordinates - 32).square().mean()).backward()
    for name, network in model.named_children():
        norms = [p.grad.norm() for p in network.parameters() if p.grad is not None]
        assert sum(norms) > 0, name


def test_fields_are_float32_under_bfloat16(model):
    with torch.autocast("cpu", torch.bfloat16):
        out = model(picture(64, 64), picture(64, 64, 3))
    assert out.coordinates.dtype == out.infrared.dtype == out.fused.dtype == torch.float32


def test_exports_with_dynamic_sizes(model):
    height, width = (torch.export.Dim(name, min=33) for name in ("height", "width"))
    sizes = {2: height, 3: width}
    transform = torch.eye(3, dtype=torch.float64)
    program = torch.export.export(
        model,
        (picture(64, 96), picture(64, 96, 3), transform),
        dynamic_shapes=(sizes, sizes, None),
        strict=False,
    )
    # An exported graph knows no sensor: where there is no noise it does what the model does.
    infrared = torch.nn.functional.interpolate(picture(10, 9, seed=3), (80, 72), mode="bilinear")
    pair = infrared, picture(80, 72, 3, seed=4)
    expected = model(*pair, transform)
    exported = program.module()(*pair, transform)
    torch.testing.assert_close(exported[0], expected.fused, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (150, 171), (40, 129)])
def test_tiles_give_what_the_whole_image_gives(model, monkeypatch, size):
    infrared, visible = picture(*size, seed=1), picture(*size, seed=2)
    place = geometry.identity_grid(*size)
    whole = model.fuse(infrared, visible, place).detach()
    monkeypatch.setattr(tiles, "TILE", 64)
    with torch.no_grad():
        tiled = model.fuse(infrared, visible, place)
        torch.testing.assert_close(tiled, whole, atol=1e-6, rtol=0)
        monkeypatch.setattr(type(model.difn), "radius", 2)  # too small a margin must show
        if max(size) > 64:
            assert (model.fuse(infrared, visible, place) - whole).abs().max() > 1e-6


def test_the_frame_leaves_no_border(model):
    flat = torch.full((1, 1, 40, 60), 0.4)
    # A constant infrared image is not fused at all: this one changes where nobody looks.
    infrared = torch.cat((flat, torch.full((1, 1, 40, 60), 0.9)), 3)
    fused = model.fuse(infrared, flat, geometry.identity_grid(40, 60))
    torch.testing.assert_close(fused, fused[..., 20:21, 30:31].expand_as(fused), atol=1e-6, rtol=0)


def test_missing_infrared_leaves_the_visible_image_without_a_seam(model):
    infrared, visible = torch.ones(1, 1, 128, 256), torch.full((1, 1, 128, 256), 0.2)
    infrared[..., ::8, ::8] = 0.9  # a constant one would count as missing everywhere
    shifted = geometry.identity_grid(128, 256)
    shifted[:, 0] -= 100
    fused = model.fuse(infrared, visible, shifted)
    torch.testing.assert_close(fused[..., :100], visible[..., :100])
    whole = model.fuse(torch.cat((visible[..., :100], infrared), 3), visible, shifted + 0)
    assert (fused[..., 110:] - visible[..., 110:]).abs().min() > 0.01
    steps = (fused[0, 0, 64, 1:] - fused[0, 0, 64, :-1]).abs()
    assert steps.max() < 0.5 * (fused - visible).abs().max()
    assert whole.shape == fused.shape


@pytest.mark.parametrize("channels", [1, 3])
def test_register_composes_search_and_field(model, monkeypatch, channels):
    visible, infrared = picture(150, 201, channels), picture(60, 90)
    transform = torch.tensor([[0.4, 0.0, 2.0], [0.0, 0.4, -1.0], [0.0, 0.0, 1.0]]).double()
    monkeypatch.setattr(search, "find_transform", found(transform))
    alignment, (one,) = model.register(infrared, visible)
    expected = geometry.project_grid(transform, (150, 201))
    torch.testing.assert_close(alignment.coordinates((150, 201)), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(alignment.transform[0], transform)
    assert not alignment.dense.any()
    assert one.confidence == 0.9


def test_infer_finds_the_transforms_that_forward_is_given(model, monkeypatch):
    infrared, visible = picture(60, 90).repeat(2, 1, 1, 1), picture(150, 201, 3).repeat(2, 1, 1, 1)
    visible[1] *= 0.5
    transforms = torch.tensor([[0.4, 0.0, 2.0], [0.0, 0.4, -1.0], [0.0, 0.0, 1.0]]).double()
    transforms = torch.stack((transforms, geometry.resize_transform((150, 201), (60, 90))))
    middle = filters.luma(visible).mean()
    monkeypatch.setattr(
        search, "find_transform", lambda _, vis, __: found(transforms[int(vis.mean() < middle)])()
    )
    with torch.no_grad():
        expected = model(infrared, visible, transforms)
    out = model.infer(infrared, visible)
    for ours, theirs in zip(out[:5], expected[:5], strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(out.confidence, torch.tensor([0.9, 0.9]))


def test_a_batch_is_searched_side_by_side(model, monkeypatch):
    """A search takes one thread of the processor: the others would wait."""
    both, before = threading.Barrier(2), torch.get_num_threads()
    result = found(torch.eye(3, dtype=torch.float64))

    def meet(*_):
        both.wait(60)
        return result()

    monkeypatch.setattr(search, "find_transform", meet)
    torch.set_num_threads(2)
    try:
        _, results = model.register(torch.rand(4, 1, 64, 80), torch.rand(4, 3, 64, 80))
    finally:
        torch.set_num_threads(before)
    assert len(results) == 4


class KnownField(torch.nn.Module):
    """Stands in for a trained MRRN: finds a shift, and when asked again that it is undone."""

    def __init__(self, x, y):
        super().__init__()
        self.config = TINY.mrrn
        self.shift = torch.tensor([x, y])[None, :, None, None]

    def forward(self, fixed, moving):
        found = self.shift.expand(1, 2, *fixed.shape[-2:])
        self.shift = 0 * self.shift
        return SimpleNamespace(displacement=found)


def test_align_keeps_a_field_that_helps_and_drops_one_that_harms(model):
    visible = picture(96, 128)
    infrared = 1 - visible[..., 4:]  # contrast reversed, shifted by 4 px
    infrared = F.pad(infrared, (0, 4, 0, 0), mode="replicate")
    plain = torch.eye(3, dtype=torch.float64)
    model.mrrn = KnownField(-4.0, 0.0)
    helped = model.align(infrared, visible)
    assert helped.dense.all()
    shift = helped.coordinates((96, 128)) - geometry.identity_grid(96, 128)
    torch.testing.assert_close(shift[:, 0].mean(), torch.tensor(-4.0), atol=0.01, rtol=0)
    expected = plain.clone()
    expected[0, 2] = -4.0  # a shift is a homography: the second round started there
    torch.testing.assert_close(helped.transform[0], expected, atol=1e-3, rtol=0)
    model.mrrn = KnownField(9.0, 5.0)
    harmed = model.align(infrared, visible)
    assert not harmed.dense.any()
    grid = geometry.identity_grid(96, 128)
    torch.testing.assert_close(harmed.coordinates((96, 128)), grid, atol=1e-4, rtol=0)


def test_what_lies_outside_the_infrared_frame_does_not_bend_the_transform(model):
    """The field is extrapolated there: a fit of all of it would be pulled."""
    start = torch.eye(3, dtype=torch.float64)[None]
    start[:, 0, 2] = -60.0  # the left half of the visible image sees no infrared
    seen = geometry.identity_grid(96, 128)
    seen[..., :58] -= 9.0  # nonsense where nothing is seen
    fitted = model._fit(seen, start, torch.zeros(1, 1, 96, 128))
    torch.testing.assert_close(fitted, start, atol=0.05, rtol=0)


class NoFloat64(TorchFunctionMode):
    """Stands in for a device that knows no float64: what is on it is not asked for any."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
            large = result.dim() >= 4 and result.numel() >= 64
            assert not large, "images and fields are not float64"
        return result


def test_images_and_fields_are_never_float64(model):
    """MPS has none: transforms stay on the CPU, all else is float32."""
    with NoFloat64():
        alignment = model.align(picture(64, 80), picture(96, 128, 3))
        model.fuse(picture(64, 80), picture(96, 128, 3), alignment.coordinates((96, 128)))
    assert alignment.transform.device.type == "cpu"


@pytest.mark.parametrize("value", ["half", None, torch.bfloat16])
def test_precision_is_one_of_three(model, value):
    with pytest.raises(ValueError, match="precision must be one of auto, bfloat16, float32"):
        model.precision = value


def test_results_may_be_trained_on(model, monkeypatch):
    """A tensor of inference mode could not be saved for backward."""
    monkeypatch.setattr(search, "find_transform", found(torch.eye(3, dtype=torch.float64)))
    out = model.infer(picture(64, 80), picture(64, 80, 3))
    weight = torch.ones(1, requires_grad=True)
    (weight * out.fused).square().mean().backward()
    assert weight.grad is not None


@pytest.mark.parametrize(
    ("size", "working"), [((48, 60), (96, 120)), ((96, 112), (110, 128)), ((300, 200), (128, 85))]
)
def test_registration_works_on_a_grid_of_one_size(model, size, working):
    seen = []
    model.mrrn.register_forward_pre_hook(lambda _, images: seen.append(tuple(images[1].shape[-2:])))
    model.align(picture(64, 80), picture(*size, 3))
    assert set(seen) == {working}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_gives_what_the_cpu_gives(model):
    infrared, visible = picture(96, 128), picture(96, 128, 3, seed=3)
    expected = model(infrared, visible)
    out = model.cuda()(infrared.cuda(), visible.cuda())
    torch.testing.assert_close(out.fused.cpu(), expected.fused, atol=2e-3, rtol=0)

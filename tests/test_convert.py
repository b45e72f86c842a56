"""The authors' checkpoints, stood in for by random values of their names and shapes.

Their networks are stated again here, from what is known of them, as plain functions of a state
dict: with fields as (y, x) and the grid of corner pixels that they use.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import umfuse
from umfuse import cli, convert, geometry
from umfuse.weights import WeightsError

TWINS = [
    *("conv2_0.main", "conv2_1.main", "conv2_2.main", "predict_flow2a"),
    *("dc_conv2_0.0", "dc_conv2_1.0", "dc_conv2_2.0", "predict_flow2b"),
    *("conv1_0.main", "conv1_1.main", "conv1_2.main", "predict_flow1a"),
    *("dc_conv1_0.0", "dc_conv1_1.0", "dc_conv1_2.0", "predict_flow1b"),
]


def layer(state, name, outputs, inputs, kernel=3, *, bias=True, transposed=False):
    bound = (inputs * kernel**2) ** -0.5
    channels = (inputs, outputs) if transposed else (outputs, inputs)
    state[f"{name}.weight"] = bound * (2 * torch.rand(*channels, kernel, kernel) - 1)
    if bias:
        state[f"{name}.bias"] = bound * (2 * torch.rand(outputs) - 1)


def cpstn_state():
    state = {}
    for index, outputs, inputs, kernel in ((1, 64, 3, 7), (4, 128, 64, 3), (7, 256, 128, 3)):
        layer(state, f"model.{index}", outputs, inputs, kernel)
    for block in range(10, 19):
        for index in (1, 5):
            layer(state, f"model.{block}.conv_block.{index}", 256, 256)
    layer(state, "model.19", 128, 256, transposed=True)
    layer(state, "model.22", 64, 128, transposed=True)
    layer(state, "model.26", 1, 64, 7)
    return state


def mrrn_state():
    state = {}
    for index, (inputs, outputs) in enumerate(
        ((1, 16), (16, 16), (16, 16), (16, 32), (32, 32), (32, 32))
    ):
        layer(state, f"enc.{index}.main", outputs, inputs, 3 if index % 3 else 4)
    for scale, inputs in ((2, 33), (1, 35)):
        for index, outputs in enumerate((48, 32, 16)):
            layer(state, f"conv{scale}_{index}.main", outputs, inputs)
            inputs = outputs
        layer(state, f"predict_flow{scale}a", 2, 16)
        for index, (inputs, outputs) in enumerate(((2, 48), (48, 48), (48, 32))):
            layer(state, f"dc_conv{scale}_{index}.0", outputs, inputs)
        layer(state, f"predict_flow{scale}b", 2, 32)
        # Fields of some pixels, other along x than along y.
        state[f"predict_flow{scale}a.weight"] *= torch.tensor([60.0, 25.0])[:, None, None, None]
        state[f"predict_flow{scale}a.bias"] += torch.tensor([1.0, -0.6])
    for index, name in enumerate(TWINS, 6):
        _, _, rest = name.partition(".")
        for part in ("weight", "bias"):
            twin = f"enc.{index}.{rest}.{part}" if rest else f"enc.{index}.{part}"
            state[twin] = state[f"{name}.{part}"].clone()
    for name, side in (("spatial_transform_f", 128), ("spatial_transform", 256)):
        state[f"{name}.grid"] = torch.stack(
            torch.meshgrid(*2 * (torch.arange(float(side)),), indexing="ij")
        )[None]
    return state


def difn_state():
    state = {}
    for head, path in (("conv1_1", "ir_path"), ("conv2_1", "vi_path")):
        layer(state, f"{head}.0", 64, 1)
        for index in range(3):
            layer(state, f"{path}.0.dense_layers.{index}.conv", 64, 64 * (index + 1), bias=False)
        layer(state, f"{path}.0.conv_1x1", 64, 256, 1, bias=False)
    for name, outputs, inputs in (
        ("query_conv", 64, 64),
        ("key_conv", 64, 64),
        ("gamma1", 2, 128),
        ("gamma2", 2, 128),
    ):
        layer(state, f"fuse.{name}", outputs, inputs)
    layer(state, "fuse_res", 64, 128)
    layer(state, "out_conv", 1, 64)
    return state


STATES = {"cpstn": cpstn_state, "mrrn": mrrn_state, "difn": difn_state}


def conv(state, name, x, **options):
    kernel = state[f"{name}.weight"].shape[-1]
    options = {"padding": kernel // 2, **options}
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)


def theirs_cpstn(state, image):
    def reflected(name, x):
        side = state[f"{name}.weight"].shape[-1] // 2
        return conv(state, name, F.pad(x, (side,) * 4, mode="reflect"), padding=0)

    x = F.relu(F.instance_norm(reflected("model.1", image)))
    for name in ("model.4", "model.7"):
        x = F.relu(F.instance_norm(conv(state, name, x, stride=2, padding=1)))
    for block in range(10, 19):
        inner = F.relu(F.instance_norm(reflected(f"model.{block}.conv_block.1", x)))
        x = x + F.instance_norm(reflected(f"model.{block}.conv_block.5", inner))
    for name in ("model.19", "model.22"):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        x = F.conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=1)
        x = F.relu(F.instance_norm(x))
    return reflected("model.26", x).tanh()


def theirs_warp(image, flow):
    """Samples at p + flow(p), with flow as (y, x)."""
    height, width = image.shape[-2:]
    rows = torch.arange(height)[:, None] + flow[:, 0]
    columns = torch.arange(width) + flow[:, 1]
    grid = torch.stack((2 * columns / (width - 1) - 1, 2 * rows / (height - 1) - 1), -1)
    return F.grid_sample(image, grid, padding_mode="border", align_corners=True)


def theirs_mrrn(state, target, source):
    def encode(image):
        pyramid, x = [], image
        for index in range(6):
            stride = 1 if index % 3 else 2
            x = F.leaky_relu(conv(state, f"enc.{index}.main", x, stride=stride, padding=1), 0.2)
            if index % 3 == 2:
                pyramid.append(x)
        return pyramid

    def double(x):
        return 2 * F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    flow = features = None
    (t1, t2), (s1, s2) = encode(target), encode(source)
    for scale, wanted, moving in ((2, t2, s2), (1, t1, s1)):
        extra = []
        if flow is not None:
            flow, features = double(flow), double(features)
            moving, extra = theirs_warp(moving, flow), [flow, features]
        cost = (wanted - moving).abs().sum(1, keepdim=True)
        features = torch.cat((cost, wanted, *extra), 1)
        for index in range(3):
            features = F.leaky_relu(conv(state, f"conv{scale}_{index}.main", features), 0.2)
        flow = conv(state, f"predict_flow{scale}a", features) + (0 if flow is None else flow)
        x = flow
        for index in range(3):
            step = 2**index
            x = conv(state, f"dc_conv{scale}_{index}.0", x, padding=step, dilation=step)
            x = F.leaky_relu(x, 0.1)
        flow = flow + conv(state, f"predict_flow{scale}b", x)
    return double(flow)


def theirs_difn(state, infrared, visible):
    def dense(head, path, image):
        first = features = F.leaky_relu(conv(state, f"{head}.0", image), 0.2)
        for index in range(3):
            grown = F.relu(conv(state, f"{path}.0.dense_layers.{index}.conv", features))
            features = torch.cat((features, grown), 1)
        return first + conv(state, f"{path}.0.conv_1x1", features)

    ir, vi = dense("conv1_1", "ir_path", infrared), dense("conv2_1", "vi_path", visible)
    attention = (conv(state, "fuse.query_conv", ir) * conv(state, "fuse.key_conv", vi)).sigmoid()
    mixed = []
    for features, name in ((ir, "fuse.gamma1"), (vi, "fuse.gamma2")):
        gates = conv(state, name, torch.cat((features, features * attention), 1))
        mixed.append(features * gates[:, :1] + features * attention * gates[:, 1:])
    return conv(state, "out_conv", conv(state, "fuse_res", torch.cat(mixed, 1))).tanh()


@pytest.fixture(scope="module")
def states():
    torch.manual_seed(0)
    return {name: make() for name, make in STATES.items()}


@pytest.fixture(scope="module")
def files(states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("authors")
    paths = {name: folder / f"{name}.pth" for name in states}
    torch.save(states["cpstn"], paths["cpstn"])
    torch.save({f"module.{key}": value for key, value in states["mrrn"].items()}, paths["mrrn"])
    torch.save({"net": states["difn"], "epoch": 280}, paths["difn"])
    return paths


@pytest.fixture(scope="module")
def model(files, tmp_path_factory):
    done = convert.convert(tmp_path_factory.mktemp("ours") / "new", **files)
    assert done.converted == ("cpstn", "mrrn", "difn")
    assert done.filled == ()
    return umfuse.load(done.folder, device="cpu")


def test_the_names_are_as_many_as_published(states):
    counts = {
        name: sum(value.numel() for value in state.values()) for name, state in states.items()
    }
    assert len(states["cpstn"]) == 48
    assert len(states["mrrn"]) == 78
    assert counts["cpstn"] == 11_371_905
    assert counts["difn"] == 629_253
    unique = [key for key in states["mrrn"] if not key.endswith("grid")]
    unique = [key for key in unique if not key.startswith("enc.") or int(key.split(".")[1]) < 6]
    assert sum(states["mrrn"][key].numel() for key in unique) == 170_904


def test_cpstn_renders_what_theirs_renders(states, model):
    image = torch.rand(1, 3, 32, 40)
    with torch.no_grad():
        theirs = theirs_cpstn(states["cpstn"], 2 * image - 1)
        ours = model.cpstn(image)
    torch.testing.assert_close(ours, (theirs + 1) / 2, atol=1e-5, rtol=1e-4)


def test_mrrn_finds_the_field_that_theirs_finds_in_x_y(states, model):
    coarse = torch.rand(2, 1, 12, 16, generator=torch.Generator().manual_seed(1))
    target, source = F.interpolate(coarse, (48, 64), mode="bicubic").split(1)
    with torch.no_grad():
        flow = theirs_mrrn(states["mrrn"], target, source)
        field = model.mrrn(target, source).displacement
    assert 1 < flow.abs().mean() < 20
    assert (flow[:, 0] - flow[:, 1]).abs().mean() > 0.5  # else the order would not show
    torch.testing.assert_close(field, flow.flip(1), atol=1e-3, rtol=1e-4)
    registered = geometry.warp(source, field)[0]
    torch.testing.assert_close(registered, theirs_warp(source, flow), atol=1e-3, rtol=1e-3)


def test_difn_fuses_as_theirs_fuses(states, model):
    infrared, visible = torch.rand(2, 1, 1, 24, 32)
    with torch.no_grad():
        theirs = theirs_difn(states["difn"], infrared, visible)
        ours = model.difn(infrared, visible)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_what_is_missing_is_taken_from_other_weights_and_said(files, tmp_path, caplog):
    done = convert.convert(tmp_path / "part", mrrn=files["mrrn"], difn=files["difn"])
    assert done.converted == ("mrrn", "difn")
    assert done.filled == ("cpstn",)
    assert "no checkpoint was given for cpstn: taken from the embedded weights" in caplog.text
    model, embedded = (umfuse.load(one, device="cpu", cpstn=True) for one in (done.folder, None))
    assert model.config.cpstn == embedded.config.cpstn
    assert model.config.mrrn == umfuse.UmfuseConfig().mrrn
    for key, value in embedded.cpstn.state_dict().items():
        assert torch.equal(model.cpstn.state_dict()[key], value)


def test_the_licence_of_the_result_is_what_was_given_and_not_ours(files, tmp_path):
    folder = convert.convert(tmp_path / "none", difn=files["difn"]).folder
    assert umfuse.load(folder, device="cpu").license is None
    folder = convert.convert(tmp_path / "said", difn=files["difn"], license="other").folder
    assert umfuse.load(folder, device="cpu").license == "other"


def test_the_command_line_converts(files, tmp_path, capsys):
    words = ["weights", "convert", str(tmp_path / "new")]
    assert cli.main(words) == 2
    assert "at least one of --cpstn, --mrrn and --difn" in capsys.readouterr().err
    assert cli.main([*words, "--difn", str(files["difn"]), "--license", "other"]) == 0
    model = umfuse.load(capsys.readouterr().out.strip(), device="cpu")
    assert model.config.difn == umfuse.UmfuseConfig().difn
    assert model.license == "other"
    assert cli.main([*words, "--difn", str(files["mrrn"])]) == 1


def test_nothing_to_convert_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one checkpoint"):
        convert.convert(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_twins_that_differ_are_refused(states):
    state = {**states["mrrn"], "enc.9.bias": torch.zeros(2)}
    with pytest.raises(WeightsError, match=r"enc\.9\.bias and predict_flow2a\.bias"):
        convert.translate("mrrn", state)


def test_second_names_may_be_absent(states):
    state = {
        key: value
        for key, value in states["mrrn"].items()
        if not key.startswith("enc.") or int(key.split(".")[1]) < 6
    }
    ours, whole = convert.translate("mrrn", state), convert.translate("mrrn", states["mrrn"])
    assert all(torch.equal(ours[key], whole[key]) for key in whole)


@pytest.mark.parametrize("name", STATES)
def test_missing_foreign_and_misshapen_tensors_are_refused(states, name):
    key = next(iter(states[name]))
    rest = {other: value for other, value in states[name].items() if other != key}
    with pytest.raises(WeightsError, match="lacks 1 of"):
        convert.translate(name, rest)
    with pytest.raises(WeightsError, match=r"1 that do not belong to it \(extra, "):
        convert.translate(name, {**states[name], "extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match="does not have the sizes"):
        convert.translate(name, {**states[name], key: states[name][key][:1]})


def test_another_networks_file_is_refused(files, tmp_path):
    with pytest.raises(WeightsError, match="no checkpoint of the authors' difn"):
        convert.convert(tmp_path / "out", difn=files["mrrn"])
    assert not (tmp_path / "out").exists()


def test_files_that_hold_code_or_nothing_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"net": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    torch.save({"net": {"weight": 3}}, tmp_path / "number.pth")
    torch.save({"net": torch.zeros(3)}, tmp_path / "wrapped.pth")
    for name in ("evil", "empty", "missing"):
        with pytest.raises(WeightsError, match="cannot read"):
            convert.convert(tmp_path / "out", mrrn=tmp_path / f"{name}.pth")
    with pytest.raises(WeightsError, match="no state dict but Tensor"):
        convert.convert(tmp_path / "out", mrrn=tmp_path / "tensor.pth")
    for name in ("number", "wrapped"):
        with pytest.raises(WeightsError, match="something else than the tensors"):
            convert.convert(tmp_path / "out", mrrn=tmp_path / f"{name}.pth")


# --- a public retraining of the authors' code, with its own outputs -------------------------------


@pytest.fixture(scope="module")
def retrained(tmp_path_factory):
    """The folder of its images, and its networks as ours."""
    source = Path(os.environ["UMFUSE_DATA"]) / "test/umf_retrain"
    done = convert.convert(
        tmp_path_factory.mktemp("retrained") / "new",
        mrrn=source / "reg_0800.pth",
        difn=source / "fus_0200.pth",
    )
    assert done.converted == ("mrrn", "difn")
    return source, umfuse.load(done.folder, device="cpu", cpstn=True)


def grey(path):
    return torch.from_numpy(np.asarray(Image.open(path).convert("L"), np.float32))[None, None] / 255


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("UMFUSE_DATA"), reason="needs UMFUSE_DATA")
def test_converted_networks_give_what_the_code_they_come_from_gives(retrained):
    """Within a grey level: what was saved is JPEG, and rounded before and after."""
    source, model = retrained
    names = sorted(path.name for path in (source / "fused").iterdir())
    assert len(names) == 6
    off = {"registered": [], "left alone": [], "fused": [], "averaged": []}
    for name in names:
        pair = [grey(source / folder / name) for folder in ("pseudo_infrared", "ir_warp")]
        with torch.no_grad():
            field = model.mrrn(*pair).displacement
            registered = geometry.warp(pair[1], field)[0]
            theirs = grey(source / "ir_registered" / name)
            off["registered"].append((registered - theirs).abs().mean())
            off["left alone"].append((pair[1] - theirs).abs().mean())
            pair = [grey(source / folder / name) for folder in ("fusion_ir", "fusion_vis")]
            theirs = grey(source / "fused" / name)
            off["fused"].append((model.difn(*pair).clamp(0, 1) - theirs).abs().mean())
            off["averaged"].append(((pair[0] + pair[1]) / 2 - theirs).abs().mean())
    off = {what: 255 * torch.stack(values) for what, values in off.items()}
    assert off["registered"].max() < 1
    assert off["fused"].max() < 1
    # Which is not because there was nothing to do.
    assert off["left alone"].min() > 5
    assert off["averaged"].min() > 5

"""The graphs of `umfuse export` give what PyTorch gives, at sizes that they were not made with."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import umfuse
from umfuse import cli, demo, export, geometry, images, noise, resampling, weights
from umfuse.config import UmfuseConfig
from umfuse.networks import CpstnConfig

EXAMPLE = Path(__file__).parents[1] / "examples" / "onnx_fuse.py"
SIZES = [(1, 64, 64), (3, 100, 131), (2, 160, 96)]


@pytest.fixture
def noise_stays(monkeypatch) -> None:
    """What graphs do, and the example: they know no sensor."""
    monkeypatch.setattr(noise, "without_noise", lambda infrared: infrared)
    monkeypatch.setattr(noise, "of_colours", lambda _: 0.0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    for module in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("export") / "graphs"
    assert cli.main(["export", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def exact():
    """The model as the graphs compute."""
    model = umfuse.load(device="cpu")
    model.precision = "float32"
    return model


def run(folder, name, inputs):
    import onnxruntime

    graph = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    (output,) = graph.run(None, {key: value.numpy() for key, value in inputs.items()})
    return torch.from_numpy(output)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_the_dense_graph_is_the_network(exported, exact, batch, height, width):
    generator = torch.Generator().manual_seed(height)
    visible = torch.rand(batch, 3, height, width, generator=generator)
    infrared = visible.mean(1, keepdim=True).roll((1, 2), (2, 3))
    known = torch.ones_like(infrared)
    known[..., :5] = 0
    inputs = {"infrared": infrared, "known": known, "visible": visible}
    found = run(exported, "dense", inputs)
    with torch.no_grad():
        expected = export.Dense(exact)(**inputs)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_the_fusion_graph_is_the_fusion(exported, exact, batch, height, width, noise_stays):
    generator = torch.Generator().manual_seed(height)
    visible = torch.rand(batch, 3, height, width, generator=generator)
    infrared = torch.rand(batch, 1, height - 10, width + 7, generator=generator)
    place = geometry.identity_grid(height, width).expand(batch, -1, -1, -1)
    coordinates = 1.1 * place + 8 * torch.rand(batch, 2, 1, 1, generator=generator) - 4
    found = run(
        exported,
        "fuse",
        {"infrared": infrared, "visible": visible, "coordinates": coordinates},
    )
    with torch.no_grad():
        expected = exact.fuse(infrared, visible, coordinates)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_the_networks_of_the_paper_are_exported(tmp_path):
    for module in ("onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    torch.manual_seed(0)
    config = UmfuseConfig(cpstn=CpstnConfig(filters=4, blocks=1))
    model = umfuse.Umfuse(config).eval()
    for parameter in model.parameters():  # wake the heads that start at zero
        parameter.data += 0.01 * torch.randn_like(parameter)
    folder = export.export(model, tmp_path)
    visible = torch.rand(3, 3, 100, 131)
    infrared = visible.mean(1, keepdim=True)
    inputs = {"infrared": infrared, "known": torch.ones_like(infrared), "visible": visible}
    with torch.no_grad():
        expected = export.Dense(model)(**inputs)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(run(folder, "dense", inputs), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_what_was_written_is_said(exported):
    import onnx

    about = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    assert about["format_version"] == export.FORMAT_VERSION
    assert about["umfuse"] == umfuse.__version__
    entry = weights.manifest()["weights"]["embedded"]
    digests = {name: entry["files"][name]["sha256"] for name in weights.FILES}
    assert about["weights"] == {"name": "embedded", "sha256": digests, "license": "MIT"}
    assert {path.name for path in exported.iterdir()} == {*about["graphs"], "export.json"}
    for name, said in about["graphs"].items():
        content = (exported / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == said["sha256"]
        graph = onnx.load_from_string(content).graph
        onnx.checker.check_model(onnx.load_from_string(content))
        for kind, values in (("inputs", graph.input), ("outputs", graph.output)):
            assert [value.name for value in values] == list(said[kind])
            for value in values:
                sides = value.type.tensor_type.shape.dim
                # Numbers are numbers; what is free has a name of its own.
                fixed = [side.dim_value or None for side in sides]
                expected = said[kind][value.name]
                assert fixed == [side if isinstance(side, int) else None for side in expected]


def fused_without_torch(*arguments):
    """The pixels that the example writes; its process must not have imported torch or umfuse."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = {[str(EXAMPLE), *map(str, arguments)]!r}\n"
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')\n"
        "sys.exit(bool({'torch', 'umfuse'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    return np.asarray(Image.open(arguments[-1])).astype(int)


def written(folder, infrared, visible, **how):
    """Files of a pair of PIL images."""
    paths = folder / "infrared.png", folder / "visible.png"
    infrared.save(paths[0])
    visible.save(paths[1], **how)
    return paths


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["counts", "three channels", "bars", "constant", "grey visible", "turned visible"]
)
def test_the_example_gives_the_pixels_of_umfuse(exported, exact, tmp_path, kind, noise_stays):
    pair = demo.pair()
    infrared, visible, how = Image.open(pair.infrared), Image.open(pair.visible), {}
    counts = np.asarray(infrared).astype(float)
    grey = Image.fromarray((255 * (counts - counts.min()) / np.ptp(counts)).astype(np.uint8))
    if kind == "three channels":
        infrared = grey.convert("RGB")
    elif kind == "bars":
        counts = np.asarray(infrared).copy()
        counts[:40] = counts[-40:] = counts[:, -30:] = 0
        infrared = Image.fromarray(counts)
    elif kind == "constant":
        infrared = Image.new("I;16", infrared.size, 7000)
    elif kind == "grey visible":
        visible = visible.convert("L")
    elif kind == "turned visible":
        how["exif"] = Image.Exif()
        how["exif"][ExifTags.Base.Orientation] = 6  # to be shown turned clockwise
        visible = visible.transpose(Image.Transpose.ROTATE_90)
    files = written(tmp_path, infrared, visible, **how)
    rig, out = tmp_path / "rig.npz", tmp_path / "fused.png"
    reg = umfuse.register(*files, weights=exact, on_failure="return")
    assert (reg.content is not None) == (kind == "bars")
    reg.save(rig)
    expected = np.asarray(umfuse.fuse(*files, registration=reg, weights=exact).image)
    found = fused_without_torch(exported, *files, rig, out)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


@pytest.mark.slow
def test_the_example_refines_a_transform(exported, exact, tmp_path, noise_stays):
    pair = demo.pair()
    files = pair.infrared, pair.visible
    infrared = images.read(pair.infrared, name="infrared").luma
    visible = images.read(pair.visible, name="visible").rgb
    best = umfuse.register(*files, weights=exact)
    aside = best.transform @ [[1, 0, 3], [0, 1, 0], [0, 0, 1]]
    size, working = visible.shape[-2:], (384, 512)
    small = torch.nn.functional.interpolate(visible, working, mode="bilinear", antialias=True)
    start = torch.from_numpy(aside) @ geometry.resize_transform(working, size)
    moved, valid = resampling.resample(infrared, geometry.project_grid(start, working))
    with torch.no_grad():
        field = exact.displace(moved, valid, small)[0].movedim(0, -1).numpy()
    scale = np.float32([size[1] / 512, size[0] / 384])
    once = umfuse.Registration(aside, field * scale, infrared.shape[-2:], size)
    given = umfuse.Registration.from_transform(aside, infrared.shape[-2:], size)
    np.savetxt(tmp_path / "rig.txt", aside)
    found = fused_without_torch(exported, *files, tmp_path / "rig.txt", tmp_path / "fused.png")
    refined, unrefined, whole = (
        found - np.asarray(umfuse.fuse(*files, registration=reg, weights=exact).image)
        for reg in (once, given, best)
    )
    assert np.abs(refined).max() <= 1
    assert np.abs(whole).mean() < 0.6 * np.abs(unrefined).mean()


def test_without_the_extra_it_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert cli.main(["export", str(tmp_path / "out")]) == 1
    assert (
        "export needs onnxscript: python -m pip install 'umfuse[onnx]'" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


def test_a_model_elsewhere_is_refused(tmp_path):
    model = umfuse.Umfuse(umfuse.load(device="cpu").config, cpstn=False).to("meta")
    with pytest.raises(ValueError, match="export a model on the CPU, this one is on meta"):
        export.export(model, tmp_path / "out")

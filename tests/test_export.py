"""The graphs of `umfuse export` give what PyTorch gives, at sizes that they were not made with."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import umfuse
from umfuse import cli, demo, export, geometry

EXAMPLE = Path(__file__).parents[1] / "examples" / "onnx_fuse.py"
SIZES = [(1, 64, 64), (3, 100, 131), (2, 160, 96)]


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
def test_the_fusion_graph_is_the_fusion(exported, exact, batch, height, width):
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
def test_what_was_written_is_said(exported):
    import onnx

    about = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    assert about["format_version"] == export.FORMAT_VERSION
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


@pytest.mark.slow
@pytest.mark.parametrize("rig", ["rig.npz", "rig.txt"])
def test_the_example_fuses_without_torch(exported, exact, tmp_path, rig):
    pair = demo.pair()
    reg = umfuse.register(pair.infrared, pair.visible, weights=exact)
    umfuse.fuse(pair.infrared, pair.visible, registration=reg, weights=exact).save(
        tmp_path / "expected.png"
    )
    reg.save(tmp_path / "rig.npz")
    np.savetxt(tmp_path / "rig.txt", reg.transform)
    out = tmp_path / "fused.png"
    arguments = [exported, pair.infrared, pair.visible, tmp_path / rig, out]
    code = (
        "import runpy, sys\n"
        f"sys.argv = {[str(EXAMPLE), *map(str, arguments)]!r}\n"
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')\n"
        "sys.exit(bool({'torch', 'umfuse'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    found, expected = (
        np.asarray(Image.open(tmp_path / name)).astype(int)
        for name in ("fused.png", "expected.png")
    )
    apart = np.abs(found - expected)
    # From the transform alone the network finds the field anew, in one round instead of two.
    assert apart.max() <= 1 if rig == "rig.npz" else apart.mean() < 0.5


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

"""Every example runs; other libraries have a stand-in that finds true points."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import thermograms
import torch
from benchmarks import scenes

import umfuse
from umfuse import demo, geometry

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
FOLDER = EXAMPLES[0].parent


def points(sizes):
    """True points of the demo's pair, if the images have its sizes."""
    rng = np.random.default_rng(0)
    visible = torch.from_numpy(rng.uniform((0, 0), sizes[1][::-1], (400, 2)))
    infrared = geometry.project_points(torch.from_numpy(demo.pair().transform), visible)
    inside = (infrared >= 0) & (infrared <= torch.tensor(sizes[0][::-1]) - 1)
    return [place[inside.all(1)] for place in (infrared, visible)]


class Processor:
    """The calls of transformers' EfficientLoFTRImageProcessor."""

    @classmethod
    def from_pretrained(cls, name):
        assert name == "zju-community/matchanything_eloftr"
        return cls()

    def __call__(self, images, *, return_tensors):
        assert return_tensors == "pt"
        assert [image.mode for image in images] == ["RGB", "RGB"]
        return {"pixel_values": [image.size[::-1] for image in images]}

    def post_process_keypoint_matching(self, outputs, target_sizes, threshold=0.0):
        sizes = outputs.sizes
        larger = target_sizes[0][0][0] / sizes[0][0]
        assert target_sizes[0] == [tuple(larger * side for side in size) for size in sizes]
        found = [(larger * place).to(torch.int32) for place in points(sizes)]
        scores = torch.ones(len(found[0]))
        return [{"keypoints0": found[0], "keypoints1": found[1], "matching_scores": scores}]


class Model:
    """The calls of transformers' EfficientLoFTRForKeypointMatching."""

    @classmethod
    def from_pretrained(cls, name):
        return cls()

    def eval(self):
        return self

    def __call__(self, pixel_values):
        return SimpleNamespace(sizes=pixel_values)


def vismatch_matcher(name, device="cpu"):
    """The calls of a matcher of vismatch 1.4."""
    assert isinstance(name, str)

    def matcher(infrared, visible):
        assert infrared.shape[0] == visible.shape[0] == 3
        infrared_points, visible_points = points([one.shape[1:] for one in (infrared, visible)])
        return {
            "matched_kpts0": infrared_points.numpy(),
            "matched_kpts1": visible_points.numpy(),
            "matched_confidences": None,
        }

    return matcher


FAKES = {
    "matcher_transformers": (
        "transformers",
        {"AutoImageProcessor": Processor, "EfficientLoFTRForKeypointMatching": Model},
    ),
    "matcher_vismatch": ("vismatch", {"get_matcher": vismatch_matcher}),
}


NEEDS = {"opencv_bgr": "cv2", "video": "av"}
ELSEWHERE = {"onnx_fuse", "ray_batch"}  # tests/test_export.py and test_ray.py
SLOW = {"evaluate", "fine_tune", "train_on_gpus"}
WRITES = {
    "boxes_and_masks": ["infrared.png", "visible.png"],
    "evaluate": ["scores/average/scores.csv", "scores/embedded/report.json"],
    "fine_tune": ["run/log.jsonl", "fused.png"],
    "folder": ["fused/day.png", "fused/night.png"],
    "fixed_rig": ["frame3.png", "later.png"],
    "tensors": [],
    "thermal_16bit": ["registered.png", "fused.png"],
    "torch_images": [],
    "train_on_gpus": ["run/log.jsonl"],
    "video": ["fused.mp4"],
}


def camera_file(monkeypatch):
    """A radiometric JPEG where the example looks for one, of a camera that is not there."""
    file = thermograms.street(scenes.render(0, (240, 320)))
    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=lambda path: file))
    thermograms.jpeg(Path("FLIR0123.jpg"), thermograms.FLIR)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[pytest.mark.slow] if path.stem in SLOW else [], id=path.stem)
        for path in EXAMPLES
        if path.stem not in ELSEWHERE
    ],
)
def test_example_runs(path, tmp_path, monkeypatch, capsys):
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem])
    monkeypatch.chdir(tmp_path)
    if path.stem == "flir_jpeg":
        camera_file(monkeypatch)
    monkeypatch.setattr("sys.argv", [str(path)])
    if path.stem in FAKES:
        name, contents = FAKES[path.stem]
        fake = ModuleType(name)
        vars(fake).update(contents)
        monkeypatch.setitem(sys.modules, name, fake)
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    assert said
    if path.stem in FAKES:
        assert re.search(r"Registration\(matcher, confidence=(0\.9\d|1\.00)", said)
    for name in WRITES.get(path.stem, ["fused.png"]):
        assert Path(name).stat().st_size, f"{path.name} has not written {name}"


@pytest.mark.slow
def test_two_processes_run_the_example_of_several(tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *command, FOLDER / "train_on_gpus.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run Registration(") == 1  # only the first process speaks
    (line,) = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["step"] == 2


def test_masks_go_to_the_infrared_image_and_back():
    """The example's way there, and the library's way back."""
    example = runpy.run_path(str(FOLDER / "boxes_and_masks.py"))
    truth = demo.pair().transform
    reg = umfuse.Registration.from_transform(truth, (256, 320), (480, 640))
    mask = np.zeros(reg.visible_size, np.uint8)
    mask[200:300, 150:400] = 1
    mask[:40, :60] = 2
    there = example["on_infrared"](mask, reg)
    assert there.shape == reg.infrared_size
    back = np.where(reg.valid_mask, reg.apply(there, interpolation="nearest"), 0)
    assert (back == np.where(reg.valid_mask, mask, 0)).mean() > 0.99
    corners = example["corners"](150, 200, 399, 299)
    left, top, right, bottom = example["box"](reg.map_points(corners), reg.infrared_size)
    y, x = np.nonzero(there == 1)
    assert (
        np.abs(np.array([x.min(), y.min(), x.max(), y.max()]) - (left, top, right, bottom)).max()
        < 2
    )


def test_every_example_is_on_its_page_once():
    page = (FOLDER.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+\.py)\]\(\.\./examples/\1\) \|", page, re.M)
    assert sorted(listed) == [path.name for path in EXAMPLES], "list it in docs/examples.md"


def test_example_calls_transformers_as_it_is(monkeypatch):
    """A small network of random weights: the calls are right, whatever it finds."""
    pytest.importorskip("torchvision")
    transformers = pytest.importorskip("transformers")
    config = transformers.EfficientLoFTRConfig(
        stage_num_blocks=[1, 1, 1, 1],
        out_features=[8, 8, 16, 32],
        hidden_size=32,
        num_attention_layers=1,
        num_attention_heads=8,
        coarse_matching_threshold=0.0,
        fine_matching_slice_dim=4,
    )
    torch.manual_seed(0)
    network = transformers.EfficientLoFTRForKeypointMatching(config).eval()
    relative = torch.rand(1, 2, 5, 2)

    def confident(**inputs):
        """What the network says, with matches in it: random weights find none."""
        outputs = network(**inputs)
        assert outputs.keypoints.shape[0::3] == relative.shape[0::3]
        outputs.keypoints = relative
        outputs.matches = torch.arange(5).expand(1, 2, 5)
        outputs.matching_scores = torch.tensor([0.9, 0.1, 0.8, 0.7, 0.6]).expand(1, 2, 5)
        return outputs

    processor = transformers.EfficientLoFTRImageProcessor(size={"height": 96, "width": 128})
    for name, made in (
        ("AutoImageProcessor", processor),
        ("EfficientLoFTRForKeypointMatching", SimpleNamespace(eval=lambda: confident)),
    ):
        kind = getattr(transformers, name)
        monkeypatch.setattr(kind, "from_pretrained", lambda name, made=made: made)
    example = runpy.run_path(str(FOLDER / "matcher_transformers.py"))
    luma = np.random.default_rng(0).random((240, 320), dtype=np.float32)
    infrared, visible, scores = example["MatchAnything"]()(luma[:120, :160].copy(), luma)
    used = [0, 2, 3, 4]  # the others are doubtful
    for found, place, size in zip(
        (infrared, visible), relative[0], ((160, 120), (320, 240)), strict=True
    ):
        expected = place[used] * torch.tensor(size)
        torch.testing.assert_close(found, expected, atol=0.07, rtol=0)
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.8, 0.7, 0.6]))

"""`umfuse train` on rendered pairs."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import scenes as demo
from PIL import Image
from room import room

import umfuse
from umfuse import cli
from umfuse.train import recipes

SIZE = (96, 128)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four rendered pairs: registered in ``ir``, as the camera saw them in ``raw``."""
    folder = tmp_path_factory.mktemp("pairs")
    for seed in range(4):
        scene = demo.render(seed, SIZE, infrared_size=(80, 100))
        low, high = int(scene.infrared.min()), int(scene.infrared.max())
        for kind, counts in (("ir", scene.aligned_infrared), ("raw", scene.infrared)):
            grey = ((counts.astype(float) - low) / (high - low) * 255).clip(0, 255).round()
            write(folder / kind / f"{seed}.png", grey.astype(np.uint8))
        write(folder / "vis" / f"{seed}.png", scene.visible)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Both recipes with small crops and few filters."""
    models, changed = {}, {}
    for name, group in recipes.RECIPES.items():
        models[name] = replace(
            umfuse.load(device="cpu").config,
            cpstn=replace(recipes.MODELS[name].cpstn, filters=4, blocks=1),
        )
        changed[name] = {
            key: replace(
                recipe,
                crops=replace(recipe.crops, size=(80, 80)),
                training=replace(recipe.training, batch=2, save_every=2),
            )
            for key, recipe in group.items()
        }
    monkeypatch.setattr(recipes, "MODELS", models)
    monkeypatch.setattr(recipes, "RECIPES", changed)


def train(*words: object) -> int:
    return cli.main(["train", "--device", "cpu", *map(str, words)])


def moved(run: Path, before: umfuse.Umfuse) -> set[str]:
    """Returns the networks that differ."""
    ours = umfuse.load(run, device="cpu", cpstn=before.cpstn is not None).state_dict()
    theirs = before.state_dict()
    return {key.partition(".")[0] for key in ours if not torch.equal(ours[key], theirs[key])}


def test_fine_tuning_moves_the_network_and_the_run_loads(folder, tmp_path, capsys):
    run = tmp_path / "run"
    words = ("--ir", folder / "ir", "--vis", folder / "vis", "--from", "embedded")
    assert train("--stage", "difn", *words, "--out", run, "--steps", 2) == 0
    assert capsys.readouterr().out.strip() == str(run)
    assert moved(run, umfuse.load(device="cpu")) == {"difn"}
    with Image.open(run / "samples" / "step-00000002.png") as sample:
        assert sample.width > 3 * SIZE[1]
    fusion = umfuse.fuse(
        folder / "ir" / "0.png", folder / "vis" / "0.png", weights=run, align=False
    )
    assert np.asarray(fusion.image).shape == (*SIZE, 3)


def test_a_held_out_part_is_validated_and_the_best_is_loaded(folder, tmp_path):
    run = tmp_path / "run"
    words = (
        "--stage",
        "mrrn",
        "--ir",
        folder / "ir",
        "--vis",
        folder / "vis",
        "--from",
        "embedded",
    )
    assert train(*words, "--out", run, "--steps", 4, "--held-out", 0.25) == 0
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["held_out_loss"] for line in log if "held_out_loss" in line}
    assert set(losses) == {2, 4}
    best = min(losses, key=lambda step: losses[step])
    expected = umfuse.load(run / "checkpoints" / f"step-{best:08d}", device="cpu").state_dict()
    for key, value in umfuse.load(run, device="cpu").state_dict().items():
        assert torch.equal(value, expected[key])


def test_all_stages_lead_to_a_model_and_the_run_is_taken_up_by_its_folder(folder, tmp_path):
    run = tmp_path / "run"
    words = ("--ir", folder / "ir", "--vis", folder / "vis", "--from", "embedded", "--steps", 2)
    assert train("--stage", "all", *words, "--out", run, "--held-out", 0) == 0
    assert moved(run, umfuse.load(device="cpu", cpstn=True)) == {"cpstn", "mrrn", "difn"}
    state = umfuse.load(run, device="cpu", cpstn=True).state_dict()
    for kind in ("config.json", "model.safetensors"):
        (run / kind).unlink()
    assert train("--resume", run) == 0
    for key, value in umfuse.load(run, device="cpu", cpstn=True).state_dict().items():
        assert torch.equal(value, state[key])


def test_a_new_model_is_trained_end_to_end(folder, tmp_path):
    run = tmp_path / "run"
    words = ("--stage", "joint", "--ir", folder / "ir", "--vis", folder / "vis")
    assert train(*words, "--out", run, "--steps", 2, "--seed", 3) == 0
    log = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert log["loss"] > 0
    assert {"cpstn", "mrrn", "difn"} <= set(log)
    assert umfuse.load(run, device="cpu").config.cpstn.filters == 4


@pytest.mark.slow
def test_pairs_that_are_not_registered_are_aligned_first(folder, tmp_path, capsys):
    run = tmp_path / "run"
    words = ("--stage", "mrrn", "--ir", folder / "raw", "--vis", folder / "vis")
    words += ("--from", "embedded", "--unregistered")
    assert train(*words, "--out", run, "--steps", 2) == 0
    assert list((run / "aligned").iterdir())
    line = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert line["similarity"] > 0
    assert "distance" not in line or line["distance"] == 0


def test_pairs_that_do_not_lie_on_each_other_are_refused(folder, tmp_path, capsys):
    run = tmp_path / "run"
    words = ("--stage", "difn", "--ir", folder / "raw", "--vis", folder / "vis", "--out", run)
    words += ("--from", "embedded", "--steps", 1)
    assert train(*words) == 1
    assert "--yes-registered" in capsys.readouterr().err
    assert train(*words, "--yes-registered") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stage", "mrrn"], "expected --ir, --vis, --out, or --resume RUN"),
        (["--resume", "nowhere"], "no run of umfuse train"),
        (["--stage", "difn", "--ir", "no", "--vis", "no", "--out", "run"], "not a folder"),
    ],
)
def test_wrong_usage_exits_with_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train(*words) == 2
    assert message in capsys.readouterr().err


def test_orphans_end_the_command(folder, tmp_path, capsys):
    write(tmp_path / "ir" / "9.png", np.zeros(SIZE, np.uint8))
    words = ("--stage", "difn", "--ir", tmp_path / "ir", "--vis", folder / "vis")
    assert train(*words, "--out", tmp_path / "run") == 1
    assert "no partner" in capsys.readouterr().err


def test_a_changed_config_is_refused(folder, tmp_path, capsys):
    run = tmp_path / "run"
    words = ("--stage", "difn", "--ir", folder / "ir", "--vis", folder / "vis")
    assert train(*words, "--out", run, "--steps", 2) == 0
    assert train(*words, "--out", run, "--steps", 2, "--lr", 1e-5) == 1
    assert "other values of lr" in capsys.readouterr().err


def test_a_wrong_call_is_not_remembered(folder, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    pairs = ("--ir", folder / "ir", "--vis", folder / "vis", "--out", run, "--steps", 2)
    right = ("--what", "fusion", *pairs)

    def no_memory(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr("umfuse.train.tasks.difn.DifnTask.forward", no_memory)
        with pytest.raises(RuntimeError, match="out of memory"):
            train(*right, "--batch", 4)
    for wrong, message in (
        (("--batch", 0), "batch must be at least 1"),
        (("--held-out", 0.01), "is none"),
        (("--features", tmp_path / "none.pth"), "none.pth"),
        (("--vis", folder / "vis", "--ir", tmp_path), "no image"),
    ):
        assert train(*right, *wrong) == 1
        assert message in capsys.readouterr().err
        assert not (run / "run.json").exists()
        assert train("--resume", run) == 2
        assert "no run of umfuse train" in capsys.readouterr().err
    assert train(*right) == 0
    assert train("--resume", run) == 0


def test_a_run_that_got_nowhere_may_be_begun_otherwise(folder, tmp_path, monkeypatch):
    run = tmp_path / "run"
    words = ("--what", "fusion", "--ir", folder / "ir", "--vis", folder / "vis", "--out", run)

    def killed(*_, **__):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("umfuse.train.checkpoints.write", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(*words, "--steps", 2, "--lr", 1.0)
    assert json.loads((run / "run.json").read_text())["lr"] == 1.0
    assert train(*words, "--steps", 2, "--lr", 1e-4) == 0
    assert json.loads((run / "run.json").read_text())["lr"] == 1e-4


def test_networks_name_their_trainings_too(folder, tmp_path):
    runs = [tmp_path / "by-network", tmp_path / "by-training"]
    words = ("--ir", folder / "ir", "--vis", folder / "vis", "--steps", 1)
    assert train("--stage", "difn", *words, "--out", runs[0]) == 0
    assert train("--what", "fusion", *words, "--out", runs[1]) == 0
    assert not moved(runs[0], umfuse.load(runs[1], device="cpu"))
    assert json.loads((runs[0] / "run.json").read_text())["what"] == "fusion"


# ---- disks ---------------------------------------------------------------------------------------


def checkpoints(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of every checkpoint of a run."""
    found = (run / "checkpoints").iterdir()
    return {path.name: umfuse.load(path, device="cpu").state_dict() for path in found}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
@pytest.mark.parametrize(
    ("size", "file"),
    [
        (50, "train.json"),
        (600, "run.json"),
        (5000, "step-00000002.png"),
        (200_000, "checkpoints"),  # state.pt
        (2_000_000, "checkpoints"),  # model.safetensors
    ],
)
def test_a_full_disk_ends_the_run_with_an_error_and_it_goes_on(
    folder, tmp_path, capsys, size, file
):
    long = tmp_path / (200 * "x")  # with such a name run.json is larger than train.json
    long.symlink_to(folder)
    words = ("--what", "fusion", "--ir", long / "ir", "--vis", long / "vis", "--steps", 4)
    run = tmp_path / "full"
    with room(size):
        assert train(*words, "--out", run) == 1
    said = capsys.readouterr().err
    assert "cannot write" in said
    assert file in said
    assert not [path for path in run.rglob("*") if path.name.startswith((".", "unfinished"))]
    for path in run.glob("*.json"):
        json.loads(path.read_text())
    assert train(*words, "--out", run) == 0
    assert train(*words, "--out", tmp_path / "straight") == 0
    torch.testing.assert_close(checkpoints(run), checkpoints(tmp_path / "straight"), rtol=0, atol=0)

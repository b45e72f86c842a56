import json
import shutil
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import umfuse
from umfuse.networks import Cpstn, CpstnConfig, Difn, DifnConfig, Mrrn, MrrnConfig
from umfuse.train import embedded

NETWORKS = {
    "difn": (Difn, DifnConfig),
    "cpstn": (Cpstn, CpstnConfig),
    "mono": (Mrrn, MrrnConfig),
    "bridge": (Mrrn, MrrnConfig),
    "mrrn": (Mrrn, MrrnConfig),
}


@pytest.fixture
def tiny(pair_folders, tmp_path, monkeypatch):
    """The recipe on three rendered pairs, two steps of two small views a stage."""
    for kind, folder in zip(("ir", "vis"), pair_folders, strict=True):
        shutil.copytree(folder, tmp_path / "data/train/rendered" / kind)
    stages = {
        name: replace(
            stage,
            sets=("rendered",),
            views=replace(stage.views, size=(96, 96)),
            train=replace(stage.train, steps=2, batch=2, warmup=1),
        )
        for name, stage in embedded.STAGES.items()
    }
    monkeypatch.setattr(embedded, "STAGES", stages)
    monkeypatch.setattr(embedded, "HELD_OUT", {"rendered": ("c",)})
    monkeypatch.setattr(embedded, "VALIDATION_VIEWS", 2)
    return tmp_path


def test_the_recipe_leaves_networks_that_load(tiny):
    embedded.main(["--data", str(tiny / "data"), "--out", str(tiny / "run")])
    for name, (network, config) in NETWORKS.items():
        folder = tiny / "run" / name
        values = json.loads((folder / "config.json").read_text())
        state = safetensors.torch.load_file(folder / "model.safetensors")
        network(config(**values)).load_state_dict(state)
        assert all(bool(value.isfinite().all()) for value in state.values())
        recipe = json.loads((folder / "recipe.json").read_text())
        assert recipe["stage"] == name
        assert recipe["train"]["steps"] == 2
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert "held_out_loss" in log[-1]
    model = umfuse.load(tiny / "run/model", device="cpu")
    assert model.config.mrrn.smoothing == 16
    mono, mrrn = (
        safetensors.torch.load_file(tiny / "run" / name / "model.safetensors")
        for name in ("mono", "mrrn")
    )
    key = "encoder.0.0.weight"
    assert not torch.equal(mono[key], mrrn[key])
    assert (mono[key] - mrrn[key]).abs().max() < 0.02  # "mrrn" began where "mono" ended


def test_held_out_stems_are_in_the_data(tiny, monkeypatch):
    monkeypatch.setattr(embedded, "HELD_OUT", {"rendered": ("z",)})
    with pytest.raises(ValueError, match="no pair is called 'z'"):
        embedded.train("difn", tiny / "data", tiny / "run")


def test_the_embedded_networks_stay_small():
    size = sum(
        sum(p.numel() for p in NETWORKS[name][0](embedded.STAGES[name].network).parameters())
        for name in ("difn", "cpstn", "mrrn")
    )
    assert 4 * size < 10e6  # float32 bytes

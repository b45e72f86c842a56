import json
import shutil
from dataclasses import replace

import pytest
import torch
from benchmarks import embedded_weights as embedded

import umfuse


@pytest.fixture
def tiny(pair_folders, tmp_path, monkeypatch):
    """The recipe on three rendered pairs, two steps of two small crops each."""
    for kind, folder in zip(("ir", "vis"), pair_folders, strict=True):
        shutil.copytree(folder, tmp_path / "data/train/rendered" / kind)
    recipes = {
        name: replace(
            recipe,
            crops=replace(recipe.crops, size=(96, 96)),
            training=replace(recipe.training, steps=2, batch=2, warmup=1),
        )
        for name, recipe in embedded.RECIPES.items()
    }
    monkeypatch.setattr(embedded, "RECIPES", recipes)
    monkeypatch.setattr(embedded, "ALL_SETS", ("rendered",))
    monkeypatch.setattr(embedded, "SETS", {})
    monkeypatch.setattr(embedded, "LEAST", 0.0)  # networks of two steps align nothing
    monkeypatch.setattr(embedded, "HELD_OUT", {"rendered": ("c",)})
    return tmp_path


def test_each_training_moves_its_network_and_leaves_a_model_that_loads(tiny):
    embedded.main(["--data", str(tiny / "data"), "--out", str(tiny / "run")])
    before = None
    networks = ("difn", "cpstn", "mrrn", "mrrn", "mrrn")
    for name, network in zip(embedded.ORDER, networks, strict=True):
        folder = tiny / "run" / name
        recipe = json.loads((folder / "recipe.json").read_text())
        assert recipe["recipe"] == name
        assert recipe["training"]["steps"] == 2
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert any("held_out_loss" in line for line in log)
        model = umfuse.load(folder, device="cpu", cpstn=True)
        assert model.config == embedded.MODEL  # as in use, whatever radius it trained with
        if before is not None:
            for key, value in model.state_dict().items():
                if not key.startswith(network):
                    assert torch.equal(value, before.state_dict()[key])
            ours, theirs = (one.get_submodule(network).state_dict() for one in (model, before))
            assert any(not torch.equal(ours[key], theirs[key]) for key in ours)
        before = model


def test_held_out_stems_are_in_the_data(tiny, monkeypatch):
    monkeypatch.setattr(embedded, "HELD_OUT", {"rendered": ("z",)})
    with pytest.raises(ValueError, match="no pair is called 'z'"):
        embedded.train("fusion", tiny / "data", tiny / "run")


def test_the_recipe_makes_networks_of_the_embedded_sizes():
    assert umfuse.load(device="cpu").config == embedded.MODEL
    size = sum(p.numel() for p in umfuse.Umfuse(embedded.MODEL).parameters())
    assert 4 * size < 10e6  # float32 bytes

import json
import shutil
from dataclasses import replace

import pytest
import torch
from benchmarks import embedded_weights, methods, paper_weights, plan

import umfuse
from umfuse.networks import CpstnConfig


@pytest.fixture
def tiny(pair_folders, tmp_path, monkeypatch):
    """Three rendered pairs, one of them held out."""
    for kind, folder in zip(("ir", "vis"), pair_folders, strict=True):
        shutil.copytree(folder, tmp_path / "data/train/rendered" / kind)
    monkeypatch.setattr(plan, "HELD_OUT", {"rendered": ("c",)})
    return tmp_path


def short(whole):
    """Two steps of two small crops for each recipe, with a CPSTN that is quick."""
    recipes = {
        name: replace(
            recipe,
            crops=replace(recipe.crops, size=(96, 96)),
            training=replace(recipe.training, steps=2, batch=2, warmup=1),
        )
        for name, recipe in whole.recipes.items()
    }
    model = replace(whole.model, cpstn=CpstnConfig(filters=4, blocks=1))
    # Networks of two steps align nothing.
    return replace(
        whole, model=model, recipes=recipes, sets=("rendered",), other_sets={}, least=0.0
    )


@pytest.mark.parametrize(
    ("whole", "networks"),
    [
        (embedded_weights.PLAN, ("difn", "cpstn", "mrrn", "mrrn", "mrrn")),
        (paper_weights.PLAN, ("difn", "cpstn", "cpstn", "mrrn", "mrrn", "mrrn", "all")),
    ],
    ids=["embedded", "paper"],
)
def test_each_training_moves_its_networks_and_leaves_a_model_that_loads(tiny, whole, networks):
    brief = short(whole)
    brief.main("plan", "Trains.", ["--data", str(tiny / "data"), "--out", str(tiny / "run")])
    before = None
    for name, moved in zip(brief.recipes, networks, strict=True):
        folder = tiny / "run" / name
        recipe = json.loads((folder / "recipe.json").read_text())
        assert recipe["recipe"] == name
        assert recipe["training"]["steps"] == 2
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert any("held_out_loss" in line for line in log)
        model = umfuse.load(folder, device="cpu", cpstn=True)
        assert model.config == brief.model  # as in use, whatever radius it trained with
        if before is not None:
            old = before.state_dict()
            other = {key for key, value in model.state_dict().items() if (value != old[key]).any()}
            every = {"cpstn", "mrrn", "difn"} if moved == "all" else {moved}
            assert {key.split(".")[0] for key in other} == every
        before = model


def test_held_out_stems_are_in_the_data(tiny, monkeypatch):
    monkeypatch.setattr(plan, "HELD_OUT", {"rendered": ("z",)})
    with pytest.raises(ValueError, match="no pair is called 'z'"):
        short(embedded_weights.PLAN).train("fusion", tiny / "data", tiny / "run")


def test_the_recipe_makes_networks_of_the_embedded_sizes():
    assert umfuse.load(device="cpu").config == embedded_weights.PLAN.model
    size = sum(p.numel() for p in umfuse.Umfuse(embedded_weights.PLAN.model).parameters())
    assert 4 * size < 10e6  # float32 bytes


def test_weights_are_halved(tmp_path):
    model = umfuse.Umfuse(replace(paper_weights.PLAN.model, cpstn=CpstnConfig(filters=4, blocks=1)))
    model.save_pretrained(tmp_path / "run")
    paper_weights.halve(tmp_path / "run", tmp_path / "half")
    again = umfuse.load(tmp_path / "half", device="cpu", cpstn=True)
    assert again.license == "MIT"
    for key, value in again.state_dict().items():
        assert (value - model.state_dict()[key]).abs().max() <= 1e-3 * value.abs().max()
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / name).glob("*.safetensors"))
        for name in ("half", "run")
    ]
    assert sizes[0] < 0.6 * sizes[1]


def test_the_weights_of_the_papers_system_are_of_its_sizes():
    model = umfuse.load(methods.PAPER, device="cpu", cpstn=True)
    assert model.config == paper_weights.PLAN.model
    assert model.license == "MIT"
    sizes = {
        name: sum(p.numel() for p in network.parameters())
        for name, network in model.named_children()
    }
    assert sizes == {"cpstn": 11_371_905, "mrrn": 170_904, "difn": 629_253}
    moving = torch.rand(1, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    moving = torch.nn.functional.interpolate(moving, (128, 160), mode="bicubic").clamp(0, 1)
    shifted = moving.roll(3, -1)
    with torch.inference_mode():
        found = model.mrrn(moving, shifted).displacement[:, 0, 16:-16, 16:-16]
    assert 1 < found.median() < 5

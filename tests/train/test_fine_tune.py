import json
from dataclasses import replace

import pytest
import torch

import umfuse
from umfuse.networks import CpstnConfig, DifnConfig
from umfuse.train import RECIPES, Aligner, PairDataset, fine_tune, recipes
from umfuse.train.align import Place

SIZES = umfuse.UmfuseConfig(
    cpstn=CpstnConfig(filters=4, blocks=1),
    mrrn=umfuse.load(device="cpu").config.mrrn,
    difn=DifnConfig(features=4),
    fixed="visible",
)
NETWORKS = {"registration": "mrrn", "fusion": "difn", "translation": "cpstn"}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """The default recipes with small crops."""
    default = {
        name: replace(
            recipe,
            crops=replace(recipe.crops, size=(80, 80)),
            training=replace(recipe.training, batch=2, warmup=1, save_every=2, log_every=1),
        )
        for name, recipe in RECIPES["default"].items()
    }
    monkeypatch.setattr(recipes, "RECIPES", {**RECIPES, "default": default})


@pytest.fixture
def model():
    torch.manual_seed(0)
    return umfuse.Umfuse(SIZES)


@pytest.fixture
def aligners(monkeypatch):
    """Instead of aligning, notes who should and leaves the pair as it is."""
    asked = []

    def find(aligner, infrared, visible):
        asked.append(aligner)
        height, width = visible.shape[-2:]
        return Place(
            torch.eye(3, dtype=torch.float64),
            torch.zeros(1, 2, 1, 1),
            torch.tensor([0, 0, height, width]),
            torch.tensor(0.9),
        )

    monkeypatch.setattr(Aligner, "find", find)
    return asked


def state(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def moved(before, model):
    after = model.state_dict()
    return {key.partition(".")[0] for key in after if not torch.equal(after[key], before[key])}


def log(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("what", NETWORKS)
def test_one_network_is_trained_and_the_run_loads(model, pair_folders, tmp_path, what):
    before, run = state(model), tmp_path / "run"
    assert fine_tune(model, pair_folders, run, what, steps=2) is model
    assert moved(before, model) == {NETWORKS[what]}
    assert not moved(state(model), umfuse.load(run, device="cpu"))


def test_it_is_registration_if_nothing_is_said(model, pair_folders, tmp_path):
    before = state(model)
    fine_tune(model, pair_folders, tmp_path / "run", steps=2)
    assert moved(before, model) == {"mrrn"}
    assert log(tmp_path / "run")[0]["distance"] > 0  # by a known displacement


def test_the_loss_falls(model, pair_folders, tmp_path):
    fine_tune(model, pair_folders, tmp_path / "run", what="fusion", steps=30, batch=4, lr=5e-3)
    losses = [line["loss"] for line in log(tmp_path / "run")]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_all_are_trained_one_after_the_other(model, pair_folders, tmp_path):
    before, run = state(model), tmp_path / "run"
    fine_tune(model, pair_folders, run, what="all", steps=1)
    assert moved(before, model) == {"cpstn", "mrrn", "difn"}
    assert not moved(state(model), umfuse.load(run, device="cpu"))
    assert {path.name for path in run.iterdir() if path.is_dir()} == set(NETWORKS)


def test_a_recipe_says_what_is_trained(model, pair_folders, tmp_path):
    before = state(model)
    recipe = recipes.RECIPES["default"]["joint"]
    fine_tune(model, pair_folders, tmp_path / "run", what=recipe, steps=1)
    assert moved(before, model) == {"cpstn", "mrrn", "difn"}


@pytest.mark.parametrize("what", ["mrrn", "", None])
def test_what_cannot_be_trained_is_refused_with_the_choices(model, pair_folders, tmp_path, what):
    with pytest.raises(ValueError, match="registration, fusion, translation, joint, all, or a rec"):
        fine_tune(model, pair_folders, tmp_path / "run", what=what)
    assert not (tmp_path / "run").exists()


def test_a_share_or_other_pairs_are_held_out(model, pair_folders, tmp_path):
    pairs = PairDataset(*pair_folders)
    fine_tune(model, pairs, tmp_path / "share", what="fusion", steps=4, held_out=0.34)
    for run, held in (("share", None), ("pairs", PairDataset(*pair_folders, only=["b"]))):
        if held is not None:
            rest = PairDataset(*pair_folders, without=["b"])
            torch.manual_seed(0)
            other = umfuse.Umfuse(SIZES)
            fine_tune(other, rest, tmp_path / run, what="fusion", steps=4, held_out=held)
            assert not moved(state(model), other)
        losses = {
            line["step"]: line["held_out_loss"]
            for line in log(tmp_path / run)
            if "held_out_loss" in line
        }
        best = min(losses, key=lambda step: losses[step])
        kept = umfuse.load(tmp_path / run / "checkpoints" / f"step-{best:08d}", device="cpu")
        assert not moved(state(model), kept)


@pytest.mark.parametrize("share", [-0.1, 1.0, 0.01])
def test_a_share_that_is_none_is_refused(model, pair_folders, tmp_path, share):
    with pytest.raises(ValueError, match="share"):
        fine_tune(model, pair_folders, tmp_path / "run", held_out=share)


def test_a_run_that_stopped_goes_on(model, pair_folders, tmp_path):
    start = state(model)
    straight = fine_tune(model, pair_folders, tmp_path / "straight", what="fusion", steps=4)

    def stop(*_):
        raise RuntimeError("the lights went out")

    other = umfuse.Umfuse(SIZES)
    other.load_state_dict(start)
    run, changes = tmp_path / "stopped", {"what": "fusion", "steps": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("umfuse.train.journal.Journal.picture", stop)  # with the first checkpoint
        with pytest.raises(RuntimeError, match="lights"):
            fine_tune(other, pair_folders, run, **changes)
    fine_tune(other, pair_folders, run, **changes)
    assert not moved(state(straight), other)
    other.load_state_dict(start)
    fine_tune(other, pair_folders, run, **changes)  # is done: its result again
    assert not moved(state(straight), other)
    with pytest.raises(ValueError, match="begun with other values of lr"):
        fine_tune(other, pair_folders, run, lr=1.0, **changes)


@pytest.mark.parametrize("folders", [True, False])
def test_pairs_that_are_not_registered_are_aligned_first(
    model, pair_folders, tmp_path, aligners, folders
):
    run = tmp_path / "run"
    pairs = pair_folders if folders else PairDataset(*pair_folders)
    fine_tune(model, pairs, run, registered=False, steps=1)
    assert len(aligners) == 3
    assert {(one.model, one.folder) for one in aligners} == {(model, run / "aligned")}
    line = log(run)[0]
    assert line["similarity"] > 0
    assert line["distance"] == 0


def test_pairs_that_have_been_aligned_are_not_aligned_again(
    model, pair_folders, tmp_path, aligners
):
    pairs = PairDataset(*pair_folders, align=Aligner())
    fine_tune(model, pairs, tmp_path / "run", registered=False, steps=1)
    assert len(aligners) == 3
    assert log(tmp_path / "run")[0]["distance"] == 0


def test_the_callers_randomness_goes_on(model, pair_folders, tmp_path):
    before = torch.get_rng_state()
    fine_tune(model, pair_folders, tmp_path / "run", what="translation", steps=2, held_out=0.34)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError, match="begun with other values of seed"):
        fine_tune(model, pair_folders, tmp_path / "run", what="translation", steps=2, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("fixed", ["visible", "pseudo-infrared"])
@pytest.mark.parametrize("workers", [0, 1])
def test_it_trains_where_the_model_is(pair_folders, tmp_path, fixed, workers):
    model = umfuse.Umfuse(replace(SIZES, fixed=fixed)).cuda()
    before = torch.cuda.get_rng_state()
    fine_tune(model, pair_folders, tmp_path / "run", steps=2, workers=workers)
    assert model.device.type == "cuda"
    assert torch.equal(torch.cuda.get_rng_state(), before)
    config = json.loads((tmp_path / "run/train.json").read_text())
    assert config["bf16"] is torch.cuda.is_bf16_supported(including_emulation=False)

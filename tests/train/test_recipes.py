import json
from dataclasses import asdict, replace

import pytest
import torch
from tiny_tasks import slopes

import umfuse
from umfuse.networks import CpstnConfig, DifnConfig, MrrnConfig
from umfuse.train import RECIPES, Crops, PairDataset, perceptual, recipes, run
from umfuse.train.data import Rendered
from umfuse.train.perceptual import Mind
from umfuse.train.tasks import CpstnTask, DifnTask, JointTask, MrrnTask
from umfuse.weights import WeightsError

SIZES = umfuse.UmfuseConfig(
    cpstn=CpstnConfig(filters=4, blocks=1),
    mrrn=MrrnConfig(channels=(4, 8), decoder=(8,), refine=(8,)),
    difn=DifnConfig(features=4),
)
EVERY = [(group, name) for group in RECIPES for name in RECIPES[group]]
TASKS = {"fusion": DifnTask, "translation": CpstnTask, "joint": JointTask}


def quick(recipe, size=(64, 64)):
    """Returns a recipe of two steps on small crops."""
    return replace(
        recipe,
        crops=replace(recipe.crops, size=size, scale=(1, 1)),
        training=replace(recipe.training, steps=2, batch=2, warmup=0, bf16=False),
    )


@pytest.fixture
def no_download(monkeypatch):
    """VGG-19 is asked for, and small features come."""
    asked = []

    def load(name):
        asked.append(name)
        return Mind(levels=2)

    monkeypatch.setattr(perceptual, "load", load)
    return asked


@pytest.mark.parametrize(("group", "name"), EVERY)
def test_every_recipe_trains_and_its_run_loads(group, name, pair_folders, tmp_path, no_download):
    torch.manual_seed(0)
    side = 96 if name == "joint" else 72  # critics of registered images, without their margins
    recipe = quick(RECIPES[group][name], (side, side))
    model = umfuse.Umfuse(SIZES)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    task = recipe.task(model)
    assert isinstance(task, TASKS.get(name, MrrnTask))
    assert run.train(recipe, model, PairDataset(*pair_folders), tmp_path) is model
    after = model.state_dict()
    moved = {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}
    assert moved == set(task.networks)
    loaded = umfuse.load(tmp_path, device="cpu").state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in after.items())
    json.dumps(asdict(recipe))


def test_the_papers_values_are_the_papers():
    paper = RECIPES["paper"]
    assert recipes.MODELS["paper"] == umfuse.UmfuseConfig()
    joint = paper["joint"]
    assert recipes.FROM_SCRATCH["paper"] == ("joint",)
    cpstn, mrrn, difn = joint.cpstn, joint.mrrn, joint.difn
    assert (cpstn.weights.perceptual, cpstn.weights.style) == (1, 100)  # Eq. 10
    assert (cpstn.weights.content, cpstn.weights.edge) == (8, 8)  # Eq. 12
    assert (cpstn.weights.adversarial, cpstn.weights.structure) == (1, 0)
    assert cpstn.cycle
    assert cpstn.filters == 64
    assert (mrrn.weights.similarity, mrrn.weights.reverse, mrrn.weights.smooth) == (1, 0.2, 10)
    assert mrrn.weights.distance == mrrn.weights.match == mrrn.single_modality == 0
    assert asdict(difn.weights) == {
        "structure": 1,
        "gradient": 20,
        "saliency": 5,
        "differences": 0,
        "fidelity": 0,
        "edges": 0,
        "daylight": 0,
    }  # Eq. 19
    assert cpstn.features == mrrn.features == "vgg19"
    assert mrrn.deform == "paper"
    for recipe in paper.values():
        assert recipe.crops.size == (256, 256)
        training = recipe.training
        assert (training.batch, training.betas) == (8, (0.9, 0.999))
        assert {training.rate(step) for step in (0, 100, training.steps - 1)} == {1e-3}
        assert training.clip is None
        assert training.ema == training.weight_decay == 0
        assert training.steps == 300 * -(-221 // 8)


def test_features_are_loaded_only_where_they_are_used(no_download):
    model = umfuse.Umfuse(SIZES)
    for name in ("fusion", "translation", "registration"):
        RECIPES["default"][name].task(model)
    assert no_download == []
    RECIPES["default"]["unregistered"].task(model)
    RECIPES["paper"]["translation"].task(model)
    assert no_download == ["mind", "vgg19"]
    mine = Mind(levels=1)
    task = RECIPES["paper"]["joint"].task(model, mine)
    assert no_download == ["mind", "vgg19"]
    assert task.cpstn.perceptual is task.mrrn.perceptual is mine


def test_without_vgg19_the_paper_says_what_to_do(monkeypatch):
    def download(*args, **options):
        raise WeightsError(options["otherwise"])

    monkeypatch.setattr(perceptual.weights, "download", download)
    with pytest.raises(WeightsError, match='features "mind"'):
        RECIPES["paper"]["registration"].task(umfuse.Umfuse(SIZES))


def test_the_papers_joint_recipe_moves_every_network(pair_folders, no_download):
    torch.manual_seed(0)
    model = umfuse.Umfuse(SIZES)
    recipe = quick(RECIPES["paper"]["joint"], (96, 96))
    task = recipe.task(model)
    crops = Crops(PairDataset(*pair_folders), recipe.crops)
    batch = {name: torch.stack([crops[0][name], crops[1][name]]) for name in crops[0]}
    loss = task(batch)["loss"]
    assert all(slopes(loss, network) > 0 for network in task.networks.values())


def test_pairs_are_rendered_where_the_model_registers_to_what_cpstn_renders(pair_folders):
    pairs, recipe = PairDataset(*pair_folders), RECIPES["default"]["registration"]
    model = umfuse.Umfuse(SIZES)
    rendered = recipe.pairs(pairs, model)
    assert isinstance(rendered, Rendered)
    with torch.no_grad():
        expected = model.cpstn(pairs[0]["visible"][None])[0]
    torch.testing.assert_close(rendered[0]["pseudo"], expected)
    plain = umfuse.Umfuse(replace(SIZES, fixed="visible"))
    assert recipe.pairs(pairs, plain) is pairs


def test_a_task_trains_copies_that_start_as_the_model_is():
    model = umfuse.Umfuse(SIZES)
    task = RECIPES["default"]["fusion"].task(model)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in task.parameters()}
    for key, value in model.difn.state_dict().items():
        assert torch.equal(task.networks["difn"].state_dict()[key], value)


def test_fine_tuning_leaves_the_other_networks_alone(pair_folders, tmp_path):
    recipe = RECIPES["default"]["fine-tune"]
    recipe = replace(
        recipe,
        crops=replace(recipe.crops, size=(96, 96)),
        training=replace(recipe.training, steps=1, batch=2),
    )
    model, trained = (umfuse.load(device="cpu", cpstn=True) for _ in range(2))
    run.train(recipe, trained, PairDataset(*pair_folders), tmp_path)
    assert umfuse.load(tmp_path, device="cpu").config == model.config
    assert not torch.equal(trained.mrrn.fine.read.head.weight, model.mrrn.fine.read.head.weight)
    for name in ("difn", "cpstn"):
        for key, value in model.get_submodule(name).state_dict().items():
            assert torch.equal(trained.get_submodule(name).state_dict()[key], value)

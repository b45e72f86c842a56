import pytest
import torch

from umfuse.networks import Cpstn, CpstnConfig, Difn, DifnConfig, Mrrn, MrrnConfig
from umfuse.train import (
    CpstnTask,
    CpstnWeights,
    DeformConfig,
    DifnTask,
    DifnWeights,
    MrrnTask,
    MrrnWeights,
)

MATCHER = MrrnConfig(
    in_channels=3,
    channels=(8, 12),
    finest=4,
    decoder=(12, 8),
    refine=(8, 8),
    search_radius=2,
    soft_argmax=True,
    upsampling="centres",
)


def difn_task():
    return DifnTask(Difn(DifnConfig(features=8, output="blend")))


def cpstn_task(**weights):
    network = Cpstn(CpstnConfig(filters=8, blocks=1))
    return CpstnTask(network, CpstnWeights(**weights), filters=8)


def mrrn_task(**changes):
    changes = {"deform": DeformConfig(mean=(2, 2)), "mono": 0.0, "margin": 8, **changes}
    return MrrnTask(Mrrn(MATCHER), **changes)


def descend(task, batch, steps, rate):
    optimiser = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], rate)
    history = []
    for _ in range(steps):
        parts = task(batch)
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        history.append({name: float(part.detach()) for name, part in parts.items()})
    return history


@pytest.mark.parametrize(
    ("make", "part", "rate"),
    [(difn_task, "loss", 5e-3), (cpstn_task, "content", 5e-3), (mrrn_task, "error", 3e-3)],
)
def test_a_task_learns_two_pairs(batch, make, part, rate):
    torch.manual_seed(0)
    history = descend(make(), batch, 24, rate)
    first, last = history[0][part], sum(one[part] for one in history[-3:]) / 3
    assert last < 0.85 * first


def test_difn_parts_are_summed_by_their_weights(batch):
    task = difn_task()
    task.weights = DifnWeights(structure=1, gradient=2, saliency=3, intensity=4)
    parts = task(batch)
    names = ("structure", "gradient", "saliency", "intensity")
    expected = sum(weight * parts[name] for weight, name in enumerate(names, 1))
    torch.testing.assert_close(parts["loss"], expected)


def test_the_players_of_cpstn_are_trained_apart(batch):
    def slopes(task):
        task(batch)["loss"].backward()
        return [
            sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)
            for module in (task.network, task.critic)
        ]

    nothing = {"content": 0.0, "edge": 0.0, "structure": 0.0}
    generator, critic = slopes(cpstn_task(**nothing, adversarial=1.0, critic=0.0))
    assert generator > 0
    assert critic == 0
    generator, critic = slopes(cpstn_task(**nothing, adversarial=0.0, critic=1.0))
    assert generator == 0
    assert critic > 0


def test_mrrn_starts_at_staying(batch):
    parts = mrrn_task()(batch)
    assert parts["input"] > 1
    assert parts["error"] == pytest.approx(float(parts["input"]), rel=0.1)


def test_mrrn_draws_from_the_seed_of_the_batch(batch):
    task = mrrn_task(mono=0.5)
    first = task(batch)["loss"]
    assert torch.equal(task(batch)["loss"], first)
    other = task({**batch, "seed": torch.tensor([99, 4])})["loss"]
    assert not torch.equal(other, first)


def test_mrrn_uses_the_pseudo_infrared_it_gets(batch):
    torch.manual_seed(0)
    cpstn = Cpstn(CpstnConfig(filters=4, blocks=1))
    task = mrrn_task(cpstn=cpstn)
    with torch.no_grad():
        pseudo = cpstn(batch["visible"])
        rendered = task(batch)["loss"]
        given = task({**batch, "pseudo": pseudo})["loss"]
        other = task({**batch, "pseudo": 1 - pseudo})["loss"]
    torch.testing.assert_close(rendered, given)
    assert given != other
    assert not any(p.requires_grad for p in cpstn.parameters())


def test_the_papers_mrrn_trains_too(batch):
    network = Mrrn(MrrnConfig(channels=(4, 8), decoder=(8,), refine=(8,)))
    weights = MrrnWeights(similarity=1.0, smooth=10.0)
    parts = MrrnTask(network, weights=weights, margin=8)(batch)
    parts["loss"].backward()
    assert parts["similarity"] > 0
    assert parts["match"] == 0
    assert all(p.grad is not None for p in network.parameters())


def test_similarity_falls_where_the_field_is_right():
    from umfuse import warp
    from umfuse.train.tasks import _similarity

    torch.manual_seed(0)
    fixed = torch.nn.functional.interpolate(torch.rand(1, 1, 8, 8), (64, 64), mode="bicubic")
    truth = torch.zeros(1, 2, 64, 64)
    truth[:, 0] = 2.5
    moving = warp.warp(fixed, -truth)[0]
    right, still = _similarity(fixed, moving, truth), _similarity(fixed, moving, 0 * truth)
    assert right < 0.2 * still

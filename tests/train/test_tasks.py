import pytest
import torch
from tiny_tasks import (
    PAPER_DIFN,
    PAPER_MRRN,
    cpstn_task,
    cycle_task,
    descend,
    difn_task,
    joint_task,
    mrrn_task,
)

from umfuse.networks import MrrnConfig
from umfuse.train.learner import Grouped
from umfuse.train.tasks import MrrnLossWeights
from umfuse.train.tasks.common import total

PAPER_SIZES = MrrnConfig(channels=(4, 8), decoder=(8,), refine=(8,))
TASKS = {
    "difn": difn_task,
    "cpstn": cpstn_task,
    "cycle": cycle_task,
    "mrrn": mrrn_task,
    "joint": joint_task,
}
GROUPED = (cpstn_task, cycle_task, joint_task)  # whose players are trained apart


@pytest.mark.parametrize(
    ("make", "part", "rate"),
    [(difn_task, "loss", 5e-3), (cpstn_task, "content", 5e-3), (mrrn_task, "error", 3e-3)],
)
def test_a_task_learns_two_pairs(batch, make, part, rate):
    torch.manual_seed(0)
    history = descend(make(), batch, 24, rate)
    first, last = history[0][part], sum(one[part] for one in history[-3:]) / 3
    assert last < 0.85 * first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "steps", "rate", "left"),
    [
        (lambda: difn_task(PAPER_DIFN), 40, 5e-3, 0.85),
        (cycle_task, 20, 3e-3, 0.6),
        (lambda: mrrn_task(PAPER_SIZES, weights=PAPER_MRRN), 30, 3e-3, 0.9),
        (mrrn_task, 30, 3e-3, 0.5),
        (joint_task, 12, 5e-3, 0.7),
    ],
    ids=["difn", "cpstn", "mrrn without truth", "mrrn", "joint"],
)
def test_the_loss_on_two_pairs_is_driven_down(batch, make, steps, rate, left):
    torch.manual_seed(0)
    history = descend(make(), batch, steps, rate)
    first, last = history[0]["loss"], sum(one["loss"] for one in history[-5:]) / 5
    assert last < left * first


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)
def test_parts_have_the_same_names_each_time_and_are_finite(batch, make):
    task = make()
    first, second = task(batch), task({**batch, "seed": torch.tensor([9, 9])})
    assert first.keys() == second.keys()
    assert all(part.isfinite() and part.dim() == 0 for part in (*first.values(), *second.values()))


@pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)
def test_groups_hold_every_trained_parameter_once(make):
    task = make()
    wanted = sorted(id(p) for p in task.parameters() if p.requires_grad)
    assert isinstance(task, Grouped) == (make in GROUPED)
    if isinstance(task, Grouped):
        groups = [list(group["params"]) for group in task.parameter_groups()]
        assert sorted(id(p) for group in groups for p in group) == wanted
    assert {id(p) for net in task.networks.values() for p in net.parameters()} <= set(wanted)


def test_the_sum_wants_every_part():
    weights = MrrnLossWeights(distance=2, match=0, similarity=3, reverse=0, smooth=0.5)
    parts = {name: torch.tensor(1.0) for name in ("distance", "match", "similarity", "reverse")}
    with pytest.raises(KeyError, match="smooth"):
        total(parts, weights)
    assert total({**parts, "smooth": torch.tensor(4.0), "figure": torch.tensor(9.0)}, weights) == 7


def test_the_papers_mrrn_trains_too(batch):
    task = mrrn_task(PAPER_SIZES, weights=PAPER_MRRN)
    parts = task(batch)
    parts["loss"].backward()
    assert parts["similarity"] > 0
    assert parts["match"] == 0
    assert all(p.grad is not None for p in task.network.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("make", [*TASKS.values(), lambda: mrrn_task(single_modality=1.0)])
def test_a_task_runs_on_a_gpu(batch, make):
    task = make().cuda()
    on_gpu = {name: value.cuda() for name, value in batch.items()}
    with torch.autocast("cuda", torch.bfloat16):
        parts = task(on_gpu)
    parts["loss"].backward()
    assert all(part.isfinite() and part.is_cuda for part in parts.values())

import copy

import pytest
import torch
from tiny_tasks import cycle_task, descend, difn_task, joint_task, mrrn_task, slopes

from umfuse.networks import Cpstn, CpstnConfig
from umfuse.train.tasks import CpstnLossWeights, JointLossWeights, JointTask, MrrnLossWeights


def test_every_network_moves(batch):
    torch.manual_seed(0)
    task = joint_task()
    assert set(task.networks) == {"cpstn", "mrrn", "difn"}
    before = copy.deepcopy(dict(task.networks))
    descend(task, batch, 2, 1e-3)  # the last layers, which start at zero, let no slope through once
    for name, network in task.networks.items():
        theirs = dict(before[name].named_parameters())
        for key, value in network.named_parameters():
            if key.endswith("bias") and name == "cpstn":
                continue  # instance norm takes the mean off
            assert not torch.equal(value, theirs[key]), f"{name}.{key}"


def test_registration_trains_cpstn_and_fusion_trains_mrrn(batch):
    torch.manual_seed(0)
    task = joint_task()
    descend(task, batch, 2, 1e-3)
    parts = task(batch)
    assert slopes(parts["cpstn"], task.mrrn) == 0
    assert slopes(parts["mrrn"], task.cpstn.network) > 0
    assert slopes(parts["mrrn"], task.difn) == 0
    assert slopes(parts["difn"], task.mrrn) > 0
    assert slopes(parts["difn"], task.difn) > 0


def test_registration_to_the_visible_image_leaves_cpstn_alone(batch):
    torch.manual_seed(0)
    task = joint_task()
    task.fixed = "visible"
    descend(task, batch, 2, 1e-3)
    parts = task(batch)
    assert slopes(parts["mrrn"], task.mrrn.network) > 0
    assert slopes(parts["mrrn"], task.cpstn) == 0


def test_the_loss_is_the_sum_of_the_three(batch):
    task = joint_task()
    task.weights = JointLossWeights(cpstn=1, mrrn=2, difn=3)
    parts = task(batch)
    expected = parts["cpstn"] + 2 * parts["mrrn"] + 3 * parts["difn"]
    torch.testing.assert_close(parts["loss"], expected)
    weights = task.mrrn.weights
    expected = sum(
        getattr(weights, name) * parts[f"mrrn_{name}"]
        for name in ("distance", "match", "similarity", "reverse", "smooth")
    )
    torch.testing.assert_close(parts["mrrn"], expected)


def test_difn_fuses_what_mrrn_registered(batch):
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, infrared, visible):
            seen.append(infrared)
            return infrared

    task = joint_task()
    task.difn.network = Spy()
    parts = task(batch)
    assert seen[0].shape == (2, 1, 64, 64)  # without the margin
    assert seen[0].requires_grad
    assert parts["difn_structure"] > 0


def test_a_cpstn_that_would_be_frozen_is_refused():
    cpstn = Cpstn(CpstnConfig(filters=4, blocks=1))
    with pytest.raises(ValueError, match="pass cpstn=None"):
        JointTask(cycle_task(), mrrn_task(cpstn=cpstn), difn_task())


def test_it_needs_no_truth(batch):
    unknown = MrrnLossWeights(distance=0, match=0, similarity=1, reverse=0.2, smooth=10)
    task = JointTask(
        cycle_task(CpstnLossWeights()), mrrn_task(deform=None, weights=unknown), difn_task()
    )
    parts = task(batch)
    assert parts["loss"].isfinite()
    assert "mrrn_error" not in parts

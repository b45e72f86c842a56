import torch
from tiny_tasks import difn_task

from umfuse.filters import luma
from umfuse.train import losses
from umfuse.train.tasks import DifnLossWeights

WEIGHTS = DifnLossWeights(structure=1, gradient=2, saliency=3, differences=4, fidelity=5)


def test_parts_are_summed_by_their_weights(batch):
    parts = difn_task(WEIGHTS)(batch)
    names = ("structure", "gradient", "saliency", "differences", "fidelity")
    expected = sum(weight * parts[name] for weight, name in enumerate(names, 1))
    torch.testing.assert_close(parts["loss"], expected)


def test_parts_are_the_losses_of_the_fused_image(batch):
    task = difn_task()
    infrared, visible = batch["infrared"], luma(batch["visible"])
    fused = task.network(infrared, visible)
    parts = task(batch)
    for name, loss in (
        ("structure", losses.structure),
        ("gradient", losses.joint_gradient),
        ("saliency", losses.self_visual_saliency),
        ("differences", losses.differences),
        ("fidelity", losses.fidelity),
    ):
        torch.testing.assert_close(parts[name], loss(fused, infrared, visible))


def test_terms_that_do_not_weigh_are_not_computed(batch, monkeypatch):
    def computed(*_):
        raise AssertionError("a term without weight was computed")

    monkeypatch.setattr(losses, "differences", computed)
    monkeypatch.setattr(losses, "fidelity", computed)
    parts = difn_task(DifnLossWeights(differences=0, fidelity=0))(batch)
    assert parts["differences"] == parts["fidelity"] == 0

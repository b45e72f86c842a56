import torch
from tiny_tasks import difn_task

from umfuse.filters import luma
from umfuse.train import losses
from umfuse.train.tasks import DifnLossWeights

NAMES = (
    *("structure", "gradient", "saliency"),
    *("differences", "fidelity", "edges", "daylight"),
)
WEIGHTS = DifnLossWeights(**{name: weight for weight, name in enumerate(NAMES, 1)})


def test_parts_are_summed_by_their_weights(batch):
    parts = difn_task(WEIGHTS)(batch)
    expected = sum(weight * parts[name] for weight, name in enumerate(NAMES, 1))
    torch.testing.assert_close(parts["loss"], expected)


def test_parts_are_the_losses_of_the_fused_image(batch):
    task = difn_task(WEIGHTS)
    infrared, visible = batch["infrared"], luma(batch["visible"])
    fused = task.network(infrared, visible)
    parts = task(batch)
    for name, loss in (
        ("structure", losses.structure),
        ("gradient", losses.joint_gradient),
        ("saliency", losses.self_visual_saliency),
        ("differences", losses.differences),
        ("fidelity", losses.fidelity),
        ("edges", losses.edges),
        ("daylight", losses.daylight),
    ):
        torch.testing.assert_close(parts[name], loss(fused, infrared, visible))


def test_terms_that_do_not_weigh_are_not_computed(batch, monkeypatch):
    def computed(*_):
        raise AssertionError("a term without weight was computed")

    for name in NAMES[3:]:
        monkeypatch.setattr(losses, name, computed)
    parts = difn_task(DifnLossWeights(**dict.fromkeys(NAMES[3:], 0.0)))(batch)
    assert all(parts[name] == 0 for name in NAMES[3:])

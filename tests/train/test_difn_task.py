import torch
from tiny_tasks import difn_task

from umfuse.pipeline import luma
from umfuse.train import DifnWeights, losses


def test_parts_are_summed_by_their_weights(batch):
    parts = difn_task(DifnWeights(structure=1, gradient=2, saliency=3, intensity=4))(batch)
    names = ("structure", "gradient", "saliency", "intensity")
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
        ("intensity", losses.intensity),
    ):
        torch.testing.assert_close(parts[name], loss(fused, infrared, visible))

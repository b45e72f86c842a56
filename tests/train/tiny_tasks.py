"""The tasks with tiny networks, and plain gradient descent on one batch."""

import torch

from umfuse.networks import Cpstn, CpstnConfig, Difn, DifnConfig, Matcher, MatcherConfig, Mrrn
from umfuse.train import DeformConfig
from umfuse.train.tasks import (
    CpstnLossWeights,
    CpstnTask,
    DifnLossWeights,
    DifnTask,
    JointTask,
    MrrnLossWeights,
    MrrnTask,
)

MATCHER = MatcherConfig(channels=(8, 12, 16), descriptor=12, context=8, width=12, radius=(1, 2))
PAPER_CPSTN = CpstnLossWeights(
    content=8, edge=8, structure=0, perceptual=1, style=100, adversarial=1, critic=1
)
PAPER_MRRN = MrrnLossWeights(distance=0, match=0, similarity=1, reverse=0.2, smooth=10)
PAPER_DIFN = DifnLossWeights(
    structure=1, gradient=20, saliency=5, differences=0, fidelity=0, edges=0, daylight=0
)


def difn_task(weights=None):
    return DifnTask(Difn(DifnConfig(features=8, output="blend")), weights)


def cpstn_task(weights=None, **options):
    return CpstnTask(Cpstn(CpstnConfig(filters=8, blocks=1)), weights, filters=8, **options)


def cycle_task(weights=PAPER_CPSTN, **options):
    back = Cpstn(CpstnConfig(filters=8, blocks=1, in_channels=1, out_channels=3))
    return cpstn_task(weights, back=back, **options)


def mrrn_task(config=MATCHER, **changes):
    changes = {"deform": DeformConfig(mean=(2, 2)), "single_modality": 0.0, "margin": 8, **changes}
    network = Matcher(config) if isinstance(config, MatcherConfig) else Mrrn(config)
    return MrrnTask(network, **changes)


def joint_task():
    return JointTask(
        cycle_task(), mrrn_task(weights=MrrnLossWeights(similarity=1, reverse=0.2)), difn_task()
    )


def descend(task, batch, steps, rate):
    """Trains a task on one batch, over and over, and returns its parts at each step."""
    optimiser = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], rate)
    history = []
    for _ in range(steps):
        parts = task(batch)
        optimiser.zero_grad()
        parts["loss"].backward()
        optimiser.step()
        history.append({name: float(part.detach()) for name, part in parts.items()})
    return history


def slopes(loss, module):
    """Returns how steep a loss is in the parameters of a module."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return sum(float(one.abs().sum()) for one in grads if one is not None)

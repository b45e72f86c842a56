"""Training: views of registered pairs, displacement with its truth, losses, tasks and the loop.

Nothing that runs a trained model imports this package.
"""

from __future__ import annotations

from umfuse.train.align import Aligner
from umfuse.train.checkpoints import latest
from umfuse.train.config import TrainConfig, read_config
from umfuse.train.data import PairDataset, Photometric, Rendered, ViewConfig, Views
from umfuse.train.deform import (
    PROTOCOLS,
    Deformation,
    DeformConfig,
    deformation,
    protocol,
    read_absolute_grid,
)
from umfuse.train.loop import Grouped, ParameterGroup, fit
from umfuse.train.perceptual import Mind, Perceptual, Vgg19, vgg19
from umfuse.train.recipes import RECIPES, Objective, Recipe, Stage
from umfuse.train.tasks import (
    CpstnTask,
    CpstnWeights,
    DifnTask,
    DifnWeights,
    JointTask,
    JointWeights,
    MrrnTask,
    MrrnWeights,
    Task,
)

__all__ = [
    "PROTOCOLS",
    "RECIPES",
    "Aligner",
    "CpstnTask",
    "CpstnWeights",
    "DeformConfig",
    "Deformation",
    "DifnTask",
    "DifnWeights",
    "Grouped",
    "JointTask",
    "JointWeights",
    "Mind",
    "MrrnTask",
    "MrrnWeights",
    "Objective",
    "PairDataset",
    "ParameterGroup",
    "Perceptual",
    "Photometric",
    "Recipe",
    "Rendered",
    "Stage",
    "Task",
    "TrainConfig",
    "Vgg19",
    "ViewConfig",
    "Views",
    "deformation",
    "fit",
    "latest",
    "protocol",
    "read_absolute_grid",
    "read_config",
    "vgg19",
]

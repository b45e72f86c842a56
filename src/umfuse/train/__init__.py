"""Training: views of registered pairs, displacement with its truth, losses, tasks and the loop.

Nothing that runs a trained model imports this package.
"""

from __future__ import annotations

from umfuse.train.data import PairDataset, Photometric, Rendered, ViewConfig, Views
from umfuse.train.deform import Deformation, DeformConfig, deformation
from umfuse.train.loop import TrainConfig, fit, latest
from umfuse.train.tasks import (
    CpstnTask,
    CpstnWeights,
    DifnTask,
    DifnWeights,
    MrrnTask,
    MrrnWeights,
)

__all__ = [
    "CpstnTask",
    "CpstnWeights",
    "DeformConfig",
    "Deformation",
    "DifnTask",
    "DifnWeights",
    "MrrnTask",
    "MrrnWeights",
    "PairDataset",
    "Photometric",
    "Rendered",
    "TrainConfig",
    "ViewConfig",
    "Views",
    "deformation",
    "fit",
    "latest",
]

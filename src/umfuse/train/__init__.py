"""Training: `fine_tune` for one's own cameras, and what it is made of.

What is not named here is imported from its module: the tasks and the weights of their losses from
`umfuse.train.tasks`, perceptual features from `umfuse.train.perceptual`, and so on. Nothing that
runs a trained model imports this package.
"""

from __future__ import annotations

from umfuse.train.align import Aligner
from umfuse.train.config import TrainConfig
from umfuse.train.crops import CropConfig, Crops
from umfuse.train.data import PairDataset
from umfuse.train.deform import DeformConfig, deformation
from umfuse.train.loop import fit
from umfuse.train.protocols import protocol
from umfuse.train.recipe import Recipe
from umfuse.train.recipes import RECIPES
from umfuse.train.tuning import fine_tune

__all__ = [
    "RECIPES",
    "Aligner",
    "CropConfig",
    "Crops",
    "DeformConfig",
    "PairDataset",
    "Recipe",
    "TrainConfig",
    "deformation",
    "fine_tune",
    "fit",
    "protocol",
]

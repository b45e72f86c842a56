"""What a recipe is: one training, of some of a model's networks, with all that belongs to it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

from typing_extensions import override

from umfuse.networks import Cpstn
from umfuse.pipeline import Umfuse
from umfuse.train import perceptual
from umfuse.train.augment import Photometric
from umfuse.train.config import TrainConfig
from umfuse.train.crops import CropConfig
from umfuse.train.data import Rendered
from umfuse.train.deform import DeformConfig
from umfuse.train.perceptual import Perceptual
from umfuse.train.tasks import (
    CpstnLossWeights,
    CpstnTask,
    DifnLossWeights,
    DifnTask,
    JointLossWeights,
    JointTask,
    MrrnLossWeights,
    MrrnTask,
    Task,
)
from umfuse.train.types import Pairs


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """One training: what is trained, for what, on which crops, and how.

    Attributes:
        crops: What it is shown of the pairs.
        training: How it is trained.
    """

    crops: CropConfig
    training: TrainConfig

    @abstractmethod
    def task(self, model: Umfuse, features: Perceptual | None = None) -> Task:
        """Returns the task that trains networks of a model, which start as they are.

        Args:
            model: Its networks are copied: `Task.networks` has what training makes of them.
            features: Of the perceptual terms, in place of those that the recipe names.

        Raises:
            WeightsError: If the features that the recipe names cannot be loaded.
        """

    def pairs(self, pairs: Pairs, model: Umfuse) -> Pairs:
        """Returns the pairs with what else the task wants of them."""
        del model
        return pairs


@dataclass(frozen=True, kw_only=True)
class DifnRecipe(Recipe):
    """Trains DIFN.

    Attributes:
        weights: Of the terms of the loss.
    """

    weights: DifnLossWeights = field(default_factory=DifnLossWeights)

    @override
    def task(self, model: Umfuse, features: Perceptual | None = None) -> DifnTask:
        return DifnTask(copy.deepcopy(model.difn), self.weights)


@dataclass(frozen=True, kw_only=True)
class CpstnRecipe(Recipe):
    """Trains CPSTN.

    Attributes:
        weights: Of the terms of the loss.
        cycle: Whether there is a way back, of the same sizes, which starts anew.
        filters: Of the first layer of the critics.
        features: Of Eq. 8 and 9, a name for `perceptual.load`.
    """

    weights: CpstnLossWeights = field(default_factory=CpstnLossWeights)
    cycle: bool = False
    filters: int = 32
    features: str = "mind"

    @override
    def task(self, model: Umfuse, features: Perceptual | None = None) -> CpstnTask:
        there = model.config.cpstn
        back = replace(there, in_channels=there.out_channels, out_channels=there.in_channels)
        used = bool(self.weights.perceptual or self.weights.style)
        return CpstnTask(
            _cpstn(model),
            self.weights,
            back=Cpstn(back) if self.cycle else None,
            perceptual=features or (perceptual.load(self.features) if used else None),
            filters=self.filters,
            sigma=model.config.orientation_sigma,
        )


@dataclass(frozen=True, kw_only=True)
class MrrnRecipe(Recipe):
    """Trains MRRN.

    Attributes:
        weights: Of the terms of the loss.
        deform: Displacement to be undone, or the name of a protocol for it; None takes pairs as
            they come.
        single_modality: How often both images are of one camera.
        augmentation: Of one of the two then; None means that of `MrrnTask`.
        bridge: How far the fixed image is on the way from one camera to the other, see `MrrnTask`.
        aligned: Whether Eq. 13 compares with the infrared image before it was deformed.
        features: Of Eq. 13, a name for `perceptual.load`.
    """

    weights: MrrnLossWeights = field(default_factory=MrrnLossWeights)
    deform: DeformConfig | str | None = field(default_factory=DeformConfig)
    single_modality: float = 0.0
    augmentation: Photometric | None = None
    bridge: tuple[float, float] | None = None
    aligned: bool = False
    features: str = "mind"

    @override
    def task(self, model: Umfuse, features: Perceptual | None = None) -> MrrnTask:
        used = bool(self.weights.similarity or self.weights.reverse)
        return MrrnTask(
            copy.deepcopy(model.mrrn),
            deform=self.deform,
            weights=self.weights,
            perceptual=features or (perceptual.load(self.features) if used else None),
            aligned=self.aligned,
            single_modality=self.single_modality,
            augmentation=self.augmentation,
            bridge=self.bridge,
            sigma=model.config.orientation_sigma,
        )

    @override
    def pairs(self, pairs: Pairs, model: Umfuse) -> Pairs:
        """Returns the pairs with their pseudo-infrared images, if that is registered to."""
        if model.config.fixed == "visible":
            return pairs
        network = _cpstn(model).eval()
        # Other processes cannot use a GPU that this one has begun to use.
        return Rendered(pairs, network.cpu() if self.training.workers else network)


@dataclass(frozen=True, kw_only=True)
class JointRecipe(Recipe):
    """Trains all networks at once, Eq. 20.

    Attributes:
        cpstn: The recipe of its part; only its loss counts, as of the two below.
        mrrn: The same, on what the model registers to.
        difn: The same.
        weights: Of the three losses.
    """

    cpstn: CpstnRecipe
    mrrn: MrrnRecipe
    difn: DifnRecipe
    weights: JointLossWeights = field(default_factory=JointLossWeights)

    @override
    def task(self, model: Umfuse, features: Perceptual | None = None) -> JointTask:
        return JointTask(
            self.cpstn.task(model, features),
            self.mrrn.task(model, features),
            self.difn.task(model, features),
            self.weights,
            fixed=model.config.fixed,
        )


def _cpstn(model: Umfuse) -> Cpstn:
    """Returns a copy of the CPSTN of a model."""
    if model.cpstn is None:
        raise ValueError("the model was loaded without CPSTN: load it with cpstn=True to train it")
    return copy.deepcopy(model.cpstn)

"""Recipes: what is trained how, for the command line and for whoever trains in Python.

A recipe holds the sizes of the networks and its stages. A stage makes the task that trains some of
the networks of a model, and knows the views and the training that go with it::

    model = Umfuse(RECIPES["default"].model)  # or umfuse.load(), to go on from weights
    stage = RECIPES["default"].stages["difn"]
    train(stage, model, PairDataset("ir/", "vis/"), "runs/difn")

``"default"`` is what measures best here; the embedded weights come from it. ``"paper"`` has the
paper's values: weights of Sec. 2.5, Adam at a constant rate of 1e-3, 8 crops of 256x256, 300 epochs
of its 221 pairs. The paper trains by Eq. 20, the stage ``joint``; the others are its parts, one
network each.
"""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import nn
from typing_extensions import override

from umfuse.config import UmfuseConfig
from umfuse.networks import Cpstn, CpstnConfig, DifnConfig, MatcherConfig
from umfuse.pipeline import Umfuse
from umfuse.train import perceptual
from umfuse.train.config import TrainConfig
from umfuse.train.data import Pairs, Photometric, Rendered, ViewConfig, Views
from umfuse.train.deform import DeformConfig
from umfuse.train.loop import fit
from umfuse.train.perceptual import Perceptual
from umfuse.train.samples import picture
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
from umfuse.train.validation import Validation


class Objective(ABC):
    """What a stage trains, and for what."""

    @abstractmethod
    def task(self, model: Umfuse, features: Perceptual | None = None) -> Task:
        """Returns the task that trains networks of a model, which start as they are.

        Args:
            model: Its networks are copied: `Task.networks` has what training makes of them.
            features: Of the perceptual terms, in place of those that the objective names.

        Raises:
            WeightsError: If the features that it names cannot be loaded.
        """

    def pairs(self, pairs: Pairs, model: Umfuse) -> Pairs:
        """Returns the pairs with what else the task wants of them."""
        del model
        return pairs


@dataclass(frozen=True)
class DifnObjective(Objective):
    """Trains DIFN.

    Attributes:
        weights: Of the terms.
    """

    weights: DifnWeights = field(default_factory=DifnWeights)

    @override
    def task(self, model: Umfuse, features: Perceptual | None = None) -> DifnTask:
        return DifnTask(copy.deepcopy(model.difn), self.weights)


@dataclass(frozen=True)
class CpstnObjective(Objective):
    """Trains CPSTN.

    Attributes:
        weights: Of the terms.
        cycle: Whether there is a way back, of the same sizes, which starts anew.
        filters: Of the first layer of the critics.
        features: Of Eq. 8 and 9, a name for `perceptual.load`.
    """

    weights: CpstnWeights = field(default_factory=CpstnWeights)
    cycle: bool = False
    filters: int = 32
    features: str = "mind"

    @override
    def task(self, model: Umfuse, features: Perceptual | None = None) -> CpstnTask:
        there = model.config.cpstn
        back = replace(there, in_channels=there.out_channels, out_channels=there.in_channels)
        looks = bool(self.weights.perceptual or self.weights.style)
        return CpstnTask(
            copy.deepcopy(model.cpstn),
            self.weights,
            back=Cpstn(back) if self.cycle else None,
            perceptual=features or (perceptual.load(self.features) if looks else None),
            filters=self.filters,
            sigma=model.config.orientation_sigma,
        )


@dataclass(frozen=True)
class MrrnObjective(Objective):
    """Trains MRRN.

    Attributes:
        weights: Of the terms.
        deform: Displacement to be undone, or the name of a protocol for it; None takes pairs as
            they come.
        mono: How often both images are of one camera.
        features: Of Eq. 13, a name for `perceptual.load`.
    """

    weights: MrrnWeights = field(default_factory=MrrnWeights)
    deform: DeformConfig | str | None = field(default_factory=DeformConfig)
    mono: float = 0.0
    features: str = "mind"

    @override
    def task(self, model: Umfuse, features: Perceptual | None = None) -> MrrnTask:
        looks = bool(self.weights.similarity or self.weights.reverse)
        return MrrnTask(
            copy.deepcopy(model.mrrn),
            deform=self.deform,
            weights=self.weights,
            perceptual=features or (perceptual.load(self.features) if looks else None),
            mono=self.mono,
            sigma=model.config.orientation_sigma,
        )

    @override
    def pairs(self, pairs: Pairs, model: Umfuse) -> Pairs:
        """Returns the pairs with their pseudo-infrared images, if that is registered to."""
        if model.config.fixed == "visible":
            return pairs
        return Rendered(pairs, copy.deepcopy(model.cpstn).eval())


@dataclass(frozen=True)
class JointObjective(Objective):
    """Trains all networks at once, Eq. 20.

    Attributes:
        cpstn: Its part.
        mrrn: Its part, on what the model registers to.
        difn: Its part.
        weights: Of the three.
    """

    cpstn: CpstnObjective = field(default_factory=CpstnObjective)
    mrrn: MrrnObjective = field(default_factory=MrrnObjective)
    difn: DifnObjective = field(default_factory=DifnObjective)
    weights: JointWeights = field(default_factory=JointWeights)

    @override
    def task(self, model: Umfuse, features: Perceptual | None = None) -> JointTask:
        return JointTask(
            self.cpstn.task(model, features),
            self.mrrn.task(model, features),
            self.difn.task(model, features),
            self.weights,
            fixed=model.config.fixed,
        )


@dataclass(frozen=True)
class Stage:
    """What is trained, on which views, and how.

    Attributes:
        objective: What.
        views: Of the pairs.
        training: How.
    """

    objective: Objective
    views: ViewConfig
    training: TrainConfig


@dataclass(frozen=True)
class Recipe:
    """Networks and how they are trained.

    Attributes:
        model: Sizes.
        stages: By name.
        order: Names of the stages that lead, one after the other, to the recipe's weights.
    """

    model: UmfuseConfig
    stages: Mapping[str, Stage]
    order: tuple[str, ...]


def train(
    stage: Stage,
    model: Umfuse,
    pairs: Pairs,
    out: str | os.PathLike[str],
    *,
    features: Perceptual | None = None,
    held_out: Pairs | None = None,
) -> Umfuse:
    """Trains a stage on pairs, and returns the model with the networks that it trained.

    A run that was stopped goes on. The checkpoints in the run folder, and so the folder itself,
    load as weights: with pairs held out as the checkpoint of the least loss on them. With every
    checkpoint comes a picture of what the model does to one pair.

    Args:
        stage: What to train, and how.
        model: Where it starts. The networks that are trained get their new weights in place.
        pairs: Whole pairs, such as a `PairDataset`.
        out: The run folder.
        features: In place of those that the stage names.
        held_out: Pairs to validate on, at every checkpoint and at the end.

    Raises:
        ValueError: As `fit`.
        WeightsError: If the features that the stage names cannot be loaded.
    """

    def export(average: nn.Module, folder: Path) -> None:
        _give(average, copy.deepcopy(model)).save_pretrained(folder)

    def sample(average: nn.Module) -> Image.Image:
        shown = pairs if held_out is None else held_out
        return picture(_give(average, copy.deepcopy(model)).eval(), shown[0])

    def views(pairs: Pairs, seed: int) -> Views:
        return Views(stage.objective.pairs(pairs, model), stage.views, seed)

    training = stage.training
    torch.manual_seed(training.seed)  # critics start anew
    task = stage.objective.task(model, features)
    validate = None
    if held_out is not None:
        validate = Validation(views(held_out, training.seed + 1), training)
    average = fit(
        task,
        views(pairs, training.seed),
        training,
        out,
        validate=validate,
        validate_every=training.save_every,
        best=validate and "held_out_loss",
        export=export,
        sample=sample,
        sample_every=training.save_every,
    )
    if held_out is None:
        return _give(average, model)
    model.load_state_dict(Umfuse.from_pretrained(out).state_dict())  # the best
    return model


def _give(average: nn.Module, model: Umfuse) -> Umfuse:
    """Puts the networks of a task into a model."""
    for name, network in cast("Task", average).networks.items():
        model.get_submodule(name).load_state_dict(network.state_dict())
    return model


# --- the paper -----------------------------------------------------------------------------------

_PAPER_CPSTN = CpstnObjective(
    CpstnWeights(
        content=8.0,
        edge=8.0,
        structure=0.0,
        perceptual=1.0,
        style=100.0,
        adversarial=1.0,
        critic=1.0,
    ),
    cycle=True,
    filters=64,
    features="vgg19",
)
_PAPER_MRRN = MrrnObjective(
    MrrnWeights(distance=0.0, match=0.0, similarity=1.0, reverse=0.2, smooth=10.0),
    deform="paper",
    features="vgg19",
)
_PAPER_DIFN = DifnObjective(
    DifnWeights(structure=1.0, gradient=20.0, saliency=5.0, differences=0.0, fidelity=0.0)
)
_PAPER_VIEWS = ViewConfig(size=(256, 256), scale=(1.0, 1.0))
_PAPER_TRAINING = TrainConfig(
    steps=300 * 28,  # epochs of 221 pairs in batches of 8
    batch=8,
    lr=1e-3,
    final_lr=1.0,
    warmup=0,
    betas=(0.9, 0.999),
    weight_decay=0.0,
    clip=None,
    ema=0.0,
    bf16=False,
)

# --- the default ---------------------------------------------------------------------------------

_LOOKS = Photometric(gamma=0.4, contrast=0.2)
_MATCHING = ViewConfig(
    size=(288, 288),
    scale=(0.7, 1.3),
    infrared=Photometric(gamma=0.5, contrast=0.4, brightness=0.1, noise=0.04, blur=1.0, invert=0.1),
    visible=Photometric(gamma=0.5, contrast=0.4, brightness=0.1, noise=0.04, blur=1.0),
    pseudo=Photometric(gamma=0.3, contrast=0.2, noise=0.02),
)
_ONE_CAMERA = ViewConfig(
    size=(288, 288),
    scale=(0.8, 1.25),
    infrared=Photometric(gamma=0.3, contrast=0.2, noise=0.015, blur=0.7),
    visible=Photometric(gamma=0.3, contrast=0.2, noise=0.015, blur=0.7),
    pseudo=Photometric(gamma=0.2, contrast=0.2, noise=0.01),
)
# What the search leaves of a displacement: bent more than straight.
_RESIDUE = DeformConfig(
    mean=(0.0, 8.0),
    affine=0.5,
    perspective=0.2,
    elastic=1.0,
    parallax=0.3,
    cell=(0.12, 0.4),
    zero=0.08,
)
_ACROSS = MrrnObjective(deform=_RESIDUE, mono=0.15)

RECIPES: Mapping[str, Recipe] = {
    "default": Recipe(
        UmfuseConfig(
            cpstn=CpstnConfig(filters=16, blocks=5),
            mrrn=MatcherConfig(),
            difn=DifnConfig(features=16, output="blend", levels=True),
            fixed="visible",
        ),
        {
            "difn": Stage(
                DifnObjective(),
                ViewConfig(size=(160, 160), scale=(0.4, 1.0), infrared=_LOOKS, visible=_LOOKS),
                TrainConfig(steps=1000, batch=8, lr=2e-3),
            ),
            "cpstn": Stage(
                CpstnObjective(),
                ViewConfig(
                    size=(192, 192),
                    scale=(0.5, 1.2),
                    visible=Photometric(
                        gamma=0.3, contrast=0.2, brightness=0.05, noise=0.02, grey=0.3
                    ),
                ),
                TrainConfig(steps=1500, batch=4, lr=1e-3, betas=(0.5, 0.99), clip=10.0),
            ),
            # Matching is learned within each modality, then across the two.
            "mono": Stage(
                MrrnObjective(deform=_RESIDUE, mono=1.0),
                _MATCHING,
                TrainConfig(steps=400, batch=4, lr=1.5e-3, clip=20.0, save_every=500),
            ),
            "mrrn": Stage(
                _ACROSS,
                _MATCHING,
                TrainConfig(steps=6000, batch=4, lr=1.5e-3, clip=20.0, save_every=500),
            ),
            # For weights that have aligned the pairs anew, better than they came.
            "realigned": Stage(
                _ACROSS,
                _MATCHING,
                TrainConfig(steps=4000, batch=4, lr=1e-3, clip=20.0, save_every=400),
            ),
            # For weights that meet another camera, which the search may serve less well.
            "fine": Stage(
                MrrnObjective(deform=replace(_RESIDUE, mean=(0.0, 10.0)), mono=0.05),
                _ONE_CAMERA,
                TrainConfig(steps=1650, batch=4, lr=1e-3, clip=20.0),
            ),
            # For raw pairs of two cameras: aligned by `Aligner`, and nothing more is known of them.
            "raw": Stage(
                MrrnObjective(
                    MrrnWeights(distance=0.0, match=0.0, similarity=1.0, reverse=0.2, smooth=0.1),
                    deform=None,
                ),
                _MATCHING,
                TrainConfig(steps=400, batch=4, lr=2e-4),
            ),
            "joint": Stage(
                JointObjective(mrrn=MrrnObjective(deform=_RESIDUE)),
                _MATCHING,
                TrainConfig(steps=800, batch=4, lr=2e-4),
            ),
        },
        order=("difn", "cpstn", "mono", "mrrn"),
    ),
    "paper": Recipe(
        UmfuseConfig(),
        {
            "joint": Stage(
                JointObjective(_PAPER_CPSTN, _PAPER_MRRN, _PAPER_DIFN),
                _PAPER_VIEWS,
                _PAPER_TRAINING,
            ),
            "cpstn": Stage(_PAPER_CPSTN, _PAPER_VIEWS, _PAPER_TRAINING),
            "mrrn": Stage(_PAPER_MRRN, _PAPER_VIEWS, _PAPER_TRAINING),
            "difn": Stage(_PAPER_DIFN, _PAPER_VIEWS, _PAPER_TRAINING),
        },
        order=("joint",),
    ),
}

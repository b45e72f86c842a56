"""The training that a recipe describes, from a model to a run folder and back."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import nn

from umfuse.pipeline import Umfuse
from umfuse.train.checkpoints import latest
from umfuse.train.config import read_config
from umfuse.train.crops import Crops
from umfuse.train.loop import fit
from umfuse.train.perceptual import Perceptual
from umfuse.train.randomness import own_randomness
from umfuse.train.recipe import Recipe
from umfuse.train.samples import picture
from umfuse.train.tasks import Task
from umfuse.train.types import Pairs
from umfuse.train.validation import Validation


def train(
    recipe: Recipe,
    model: Umfuse,
    pairs: Pairs,
    out: str | os.PathLike[str],
    *,
    features: Perceptual | None = None,
    held_out: Pairs | None = None,
    started: Callable[[], object] | None = None,
) -> Umfuse:
    """Trains by a recipe on pairs, and returns the model with the networks that it trained.

    A run that was stopped goes on. The checkpoints in the run folder, and so the folder itself,
    load as weights: with pairs held out as the checkpoint of the least loss on them. With every
    checkpoint comes a picture of what the model does to one pair.

    Args:
        recipe: What to train, and how. Where it names no device, training is where the model is.
        model: Where it starts. The networks that are trained get their new weights in place.
        pairs: Whole pairs, such as a `PairDataset`.
        out: The run folder.
        features: In place of those that the recipe names.
        held_out: Pairs to validate on, at every checkpoint and at the end.
        started: As `fit`.

    Raises:
        ValueError: As `fit`.
        WeightsError: If the features that the recipe names cannot be loaded.
    """

    def export(average: nn.Module, folder: Path) -> None:
        _give(average, copy.deepcopy(model)).save_pretrained(folder)

    def sample(average: nn.Module) -> Image.Image:
        shown = pairs if held_out is None else held_out
        return picture(_give(average, copy.deepcopy(model)).eval(), shown[0])

    def crops(pairs: Pairs, seed: int) -> Crops:
        return Crops(recipe.pairs(pairs, model), recipe.crops, seed)

    training = recipe.training
    device = model.device if training.device is None else torch.device(training.device)
    before = None if latest(out) is None else read_config(out)
    training = training.settled(device.type, before)
    with own_randomness(device, training.seed):  # critics start anew
        task = recipe.task(model, features)
        validate = None
        if held_out is not None:
            validate = Validation(crops(held_out, training.seed + 1), training)
        average = fit(
            task,
            crops(pairs, training.seed),
            training,
            out,
            validate=validate,
            validate_every=training.save_every,
            best=validate and "held_out_loss",
            export=export,
            sample=sample,
            sample_every=training.save_every,
            started=started,
        )
        if held_out is None:
            return _give(average, model)
        best = Umfuse.from_pretrained(out, cpstn=model.cpstn is not None)
        model.load_state_dict(best.state_dict())
        return model


def _give(average: nn.Module, model: Umfuse) -> Umfuse:
    """Puts the networks of a task into a model."""
    for name, network in cast("Task", average).networks.items():
        model.get_submodule(name).load_state_dict(network.state_dict())
    return model

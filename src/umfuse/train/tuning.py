"""Fine-tuning: a model's weights, made better for one's own cameras."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import torch

from umfuse.pipeline import Umfuse
from umfuse.train import look, recipes, run
from umfuse.train.align import Aligner
from umfuse.train.data import PairDataset, hold_out
from umfuse.train.distributed import is_first
from umfuse.train.perceptual import Perceptual
from umfuse.train.randomness import own_randomness
from umfuse.train.recipe import Recipe
from umfuse.train.types import Pairs

What: TypeAlias = Literal["registration", "fusion", "translation", "joint", "all"]
Folders: TypeAlias = "tuple[str | os.PathLike[str], str | os.PathLike[str]]"

EACH = ("translation", "registration", "fusion")  # one training a network


def fine_tune(
    model: Umfuse,
    pairs: Pairs | Folders,
    out: str | os.PathLike[str],
    what: What | Recipe = "registration",
    *,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | torch.device | None = None,
    registered: bool | None = None,
    held_out: float | Pairs = 0.0,
    features: Perceptual | None = None,
    workers: int | None = None,
    tensorboard: bool | None = None,
    started: Callable[[], object] | None = None,
) -> Umfuse:
    """Goes on training a model on pairs of one's own, and returns it.

    The run folder loads with `umfuse.load`, from the first checkpoint on. A run that was stopped
    goes on when this is called again with the same arguments: on one device bit for bit as if it
    had not been stopped, and a run that is done gives its result again.

    Args:
        model: Where it starts. The networks that are trained get their new weights in place.
        pairs: A `PairDataset` or another dataset of whole pairs, or the folders of the infrared and
            of the visible images, matched by stem.
        out: The run folder.
        what: ``"registration"`` trains MRRN, ``"fusion"`` DIFN, ``"translation"`` CPSTN, each
            alone; ``"joint"`` all of them at once, ``"all"`` one after the other, in subfolders of
            these names. Or a recipe, such as one of `RECIPES`.
        steps: Updates of each training. None, here and below, takes what the recipe says.
        batch: Crops an update.
        lr: Peak learning rate.
        seed: Of everything that is random.
        device: Where to train; the recipes say where the model is.
        registered: Whether both images of a pair show the same place at the same pixel. If not,
            folders and a `PairDataset` are aligned first by the model's whole pipeline, kept in
            ``out/aligned`` with a list and a picture of those that are left out, and registration
            trains without known displacement. None takes them for registered after a look at some
            of them by the search; True does without the look. Pairs that have an aligner, and
            datasets of another kind, are taken as they come.
        held_out: Share of the pairs to validate on, or other pairs; the run then loads, and is
            returned, as its best checkpoint.
        features: Of perceptual terms, in place of those that the recipe names.
        workers: Processes that prepare crops.
        tensorboard: Whether log and samples are written for TensorBoard too.
        started: As `fit`.

    Raises:
        ValueError: If there is no such ``what``, the pairs are none, are not registered or cannot
            be read, or as `fit` and `PairDataset`.
        WeightsError: If the features that the recipe names cannot be loaded.
    """
    chosen = dict(_recipes(what, registered=registered is not False))
    asked: dict[str, Any] = {
        "steps": steps,
        "batch": batch,
        "lr": lr,
        "seed": seed,
        "device": None if device is None else str(device),
        "workers": workers,
        "tensorboard": tensorboard,
    }
    changes = {name: value for name, value in asked.items() if value is not None}
    with own_randomness(model.device):
        whole = _ready(pairs, model, Path(out), registered=registered)
        if isinstance(held_out, float | int):
            rest, held = hold_out(whole, held_out)
        else:
            rest, held = whole, held_out
        for name, recipe in chosen.items():
            run.train(
                replace(recipe, training=replace(recipe.training, **changes)),
                model,
                rest,
                Path(out) / name,
                features=features,
                held_out=held,
                started=started,
            )
            if name and is_first():
                model.save_pretrained(Path(out))
    return model


def _recipes(what: What | Recipe, *, registered: bool) -> Iterator[tuple[str, Recipe]]:
    """Yields what is to be trained, by the subfolder of the run."""
    if isinstance(what, Recipe):
        yield "", what
        return
    if what not in get_args(What):
        choices = ", ".join(get_args(What))
        raise ValueError(f"what must be one of {choices}, or a recipe; got {what!r}")
    special = {"registration": "fine-tune" if registered else "unregistered"}
    for name in EACH if what == "all" else (what,):
        recipe = recipes.RECIPES["default"][special.get(name, name)]
        yield name if what == "all" else "", recipe


def _ready(pairs: Pairs | Folders, model: Umfuse, out: Path, *, registered: bool | None) -> Pairs:
    """Returns pairs that are on one grid and can be read."""
    if isinstance(pairs, tuple):
        pairs = PairDataset(*cast("Folders", pairs))
    if not isinstance(pairs, PairDataset):
        return pairs
    if pairs.align is None and registered is False:
        pairs = pairs.aligned(Aligner(model, folder=out / "aligned"))
    if is_first():
        look.left_out(pairs, out / "aligned")
    look.opened(pairs)
    if pairs.align is None and registered is None:
        look.registered(pairs)
    return pairs

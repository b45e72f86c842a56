"""The run of the embedded weights: ``python -m benchmarks.embedded_weights --data DATA --out RUN``.

``DATA`` holds ``train/SET/ir`` and ``train/SET/vis`` for the sets named below. The default
recipes are followed in their order, each from where the one before ended, and each leaves
``RUN/NAME``: log, checkpoints and ``recipe.json``; a training that was stopped goes on. Every run
folder loads with `umfuse.load`, the last one, ``RUN/realigned``, as the result. On one core of a
server CPU ``fusion``, ``translation`` and ``single-modality`` take 10 to 30 minutes each, the
others hours.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import ConcatDataset

from umfuse import Umfuse
from umfuse.train import Aligner, PairDataset, TrainConfig, recipes, run
from umfuse.train.types import Pair

# Stems that nothing trains on: whole places where a set has several pictures of one.
HELD_OUT: dict[str, tuple[str, ...]] = {
    "roadscene": (
        *("FLIR_00594", "FLIR_04285", "FLIR_04932", "FLIR_05697", "FLIR_06422", "FLIR_06892"),
        *("FLIR_07081", "FLIR_07555", "FLIR_08858", "FLIR_09376", "FLIR_09624"),
        "FLIR_video_03374",
    ),
    "m3svd": tuple(f"0113_1714_{frame:04d}" for frame in (0, 124, 248, 372, 496)),
    "msrs_gray": ("wave30", "wave43"),
    "m3fd": ("00000",),
    "classic": ("Octec", "T2"),
    "tno_seq": ("dune_7418",),
}
COLOUR_SETS = ("roadscene", "m3svd", "msrs_gray", "m3fd")
ALL_SETS = tuple(HELD_OUT)
SETS = {"translation": COLOUR_SETS}  # the others train on all

MODEL, RECIPES = recipes.MODELS["default"], recipes.RECIPES["default"]
# Trainings whose pairs are first aligned by the weights so far: as published they are 1 to 2 px
# off, and what is known of a displacement on top of that is wrong by as much.
REALIGNED = ("realigned",)
ORDER = (*recipes.FROM_SCRATCH["default"], *REALIGNED)
LEAST = 0.2  # confidence of that alignment; the few pairs below it are left out


def train(name: str, data: Path, out: Path, training: TrainConfig | None = None) -> Path:
    """Trains by one recipe and returns its run folder.

    Args:
        name: One of `ORDER`.
        data: The folder that holds ``train``.
        out: The folder of all trainings; the one before left its weights there.
        training: Another way to train, for a quick try.
    """
    recipe = RECIPES[name]
    recipe = replace(recipe, training=training or recipe.training)
    sets = SETS.get(name, ALL_SETS)
    place = ORDER.index(name)
    torch.manual_seed(recipe.training.seed)  # networks start anew, at the first training
    before = out / ORDER[place - 1] if place else None
    model = Umfuse(MODEL) if before is None else Umfuse.from_pretrained(before, cpstn=True)
    aligner = None
    if name in REALIGNED:
        aligner = Aligner(model, least=LEAST, longest=None, folder=out / "aligned")
    held = _pairs(data, sets, aligner, held_out=True)
    pairs = _pairs(data, sets, aligner, held_out=False)
    run.train(recipe, model, pairs, out / name, held_out=held)
    text = json.dumps({"recipe": name, "sets": sets, **asdict(recipe)}, indent=2)
    (out / name / "recipe.json").write_text(text + "\n", encoding="utf-8")
    return out / name


def _pairs(
    data: Path, sets: Sequence[str], align: Aligner | None, *, held_out: bool
) -> ConcatDataset[Pair]:
    joined: list[PairDataset] = []
    for name in sets:
        folder, stems = data / "train" / name, HELD_OUT[name]
        choice: dict[str, Any] = {"only": stems} if held_out else {"without": stems}
        joined.append(PairDataset(folder / "ir", folder / "vis", align=align, **choice))
    return ConcatDataset(joined)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embedded_weights", description="Trains the embedded weights."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds train/SET")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--only", choices=[*ORDER, "all"], default="all")
    parser.add_argument("--steps", type=int, help="other than the recipe's, for a quick try")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folder = options.out
    for name in ORDER if options.only == "all" else (options.only,):
        training = RECIPES[name].training
        if options.steps is not None:
            training = replace(training, steps=options.steps)
        folder = train(name, options.data, options.out, training)
    logging.info("the weights are in %s", folder)


if __name__ == "__main__":
    main()

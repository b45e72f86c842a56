"""Trainings that follow each other, from new networks to weights, and the pairs they are shown."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import ConcatDataset

from umfuse import Umfuse, UmfuseConfig
from umfuse.train import Aligner, PairDataset, TrainConfig, run
from umfuse.train.recipe import Recipe
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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Trainings in their order, each of which leaves a run folder of its name.

    Attributes:
        model: Sizes of the networks.
        recipes: Of each training.
        sets: What all train on, names of folders of ``DATA/train``.
        other_sets: What some train on instead.
        realigned: Trainings whose pairs are first aligned by the weights so far: as published they
            are 1 to 2 px off, and what is known of a displacement on top of that is wrong by as
            much.
        least: Confidence of that alignment; the few pairs below it are left out.
    """

    model: UmfuseConfig
    recipes: Mapping[str, Recipe]
    sets: Sequence[str]
    other_sets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    realigned: Sequence[str] = ()
    least: float = 0.2

    def train(self, name: str, data: Path, out: Path, training: TrainConfig | None = None) -> Path:
        """Trains by one recipe and returns its run folder.

        Args:
            name: Of the recipe.
            data: The folder that holds ``train``.
            out: The folder of all trainings; the one before left its weights there.
            training: Another way to train, for a quick try.
        """
        recipe = self.recipes[name]
        recipe = replace(recipe, training=training or recipe.training)
        sets = self.other_sets.get(name, self.sets)
        order = tuple(self.recipes)
        place = order.index(name)
        torch.manual_seed(recipe.training.seed)  # networks start anew, at the first training
        before = out / order[place - 1] if place else None
        model = Umfuse(self.model) if before is None else Umfuse.from_pretrained(before, cpstn=True)
        aligner = None
        if name in self.realigned:
            aligner = Aligner(model, least=self.least, longest=None, folder=out / "aligned")
        held = _pairs(data, sets, aligner, held_out=True)
        pairs = _pairs(data, sets, aligner, held_out=False)
        run.train(recipe, model, pairs, out / name, held_out=held)
        text = json.dumps({"recipe": name, "sets": sets, **asdict(recipe)}, indent=2)
        (out / name / "recipe.json").write_text(text + "\n", encoding="utf-8")
        return out / name

    def main(self, program: str, what: str, arguments: Sequence[str] | None = None) -> Path:
        """Runs a command line and returns the run folder of its last training.

        Args:
            program: Its name.
            what: It does.
            arguments: As `argparse` takes them.
        """
        parser = argparse.ArgumentParser(prog=program, description=what)
        parser.add_argument("--data", type=Path, required=True, help="folder that holds train/SET")
        parser.add_argument("--out", type=Path, required=True, help="folder of the run")
        parser.add_argument("--only", choices=[*self.recipes, "all"], default="all")
        parser.add_argument("--steps", type=int, help="other than the recipe's, for a quick try")
        options = parser.parse_args(arguments)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        folder = options.out
        for name in self.recipes if options.only == "all" else (options.only,):
            training = self.recipes[name].training
            if options.steps is not None:
                training = replace(training, steps=options.steps)
            folder = self.train(name, options.data, options.out, training)
        logging.info("the weights are in %s", folder)
        return folder


def _pairs(
    data: Path, sets: Sequence[str], align: Aligner | None, *, held_out: bool
) -> ConcatDataset[Pair]:
    joined: list[PairDataset] = []
    for name in sets:
        folder, stems = data / "train" / name, HELD_OUT[name]
        choice: dict[str, Any] = {"only": stems} if held_out else {"without": stems}
        joined.append(PairDataset(folder / "ir", folder / "vis", align=align, **choice))
    return ConcatDataset(joined)

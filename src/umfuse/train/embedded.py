"""The recipe of the embedded weights: ``python -m umfuse.train.embedded --data DATA --out RUN``.

``DATA`` holds ``train/SET/ir`` and ``train/SET/vis`` for the sets named below. Each stage trains
one network and leaves ``RUN/STAGE/config.json``, ``model.safetensors`` and ``recipe.json``, beside
the run's log and checkpoints; a stage that was stopped goes on. After all stages ``RUN/model``
holds the weights for `umfuse.load`. MRRN takes three stages, the last
of which needs CPSTN's result. On one core of a server CPU each takes 10 to 30 minutes.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader

from umfuse.networks import Cpstn, CpstnConfig, Difn, DifnConfig, Mrrn, MrrnConfig
from umfuse.pipeline import Umfuse, UmfuseConfig
from umfuse.train.data import Pair, PairDataset, Pairs, Photometric, Rendered, ViewConfig, Views
from umfuse.train.deform import DeformConfig
from umfuse.train.loop import TrainConfig, fit
from umfuse.train.tasks import (
    CpstnTask,
    CpstnWeights,
    DifnTask,
    DifnWeights,
    MrrnTask,
    MrrnWeights,
)

# Stems that no stage trains on: whole places where a set has several pictures of one.
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
VALIDATION_VIEWS = 48


@dataclass(frozen=True)
class Stage:
    """One network's part of the recipe.

    Attributes:
        sets: Training sets.
        network: Sizes.
        weights: Of the terms of the loss.
        views: What the network is shown.
        train: How it is trained.
    """

    sets: tuple[str, ...]
    network: CpstnConfig | MrrnConfig | DifnConfig
    weights: CpstnWeights | MrrnWeights | DifnWeights
    views: ViewConfig
    train: TrainConfig


_LOOKS = Photometric(gamma=0.4, contrast=0.2)
_MATCHING = ViewConfig(
    size=(224, 224),
    scale=(0.6, 1.3),
    infrared=Photometric(gamma=0.4, contrast=0.3, brightness=0.1, noise=0.03, blur=1.0),
    visible=Photometric(gamma=0.5, contrast=0.4, brightness=0.1, noise=0.03, blur=1.0),
    pseudo=Photometric(gamma=0.3, contrast=0.2, noise=0.02),
)
_MATCHER = MrrnConfig(
    in_channels=3,
    channels=(16, 32, 64),
    finest=4,
    search_radius=2,
    soft_argmax=True,
    aggregate=2,
    smoothing=3,
    norm="group",
    upsampling="centres",
)
_CLEARER = ViewConfig(
    size=(256, 256),
    scale=(0.6, 1.3),
    infrared=Photometric(gamma=0.3, contrast=0.2, noise=0.015, blur=0.7),
    visible=Photometric(gamma=0.3, contrast=0.2, noise=0.015, blur=0.7),
    pseudo=Photometric(gamma=0.2, contrast=0.2, noise=0.01),
)
STAGES: dict[str, Stage] = {
    "difn": Stage(
        ALL_SETS,
        DifnConfig(features=16, output="blend"),
        DifnWeights(),
        ViewConfig(size=(144, 144), scale=(0.6, 1.2), infrared=_LOOKS, visible=_LOOKS),
        TrainConfig(steps=1500, batch=8, lr=2e-3),
    ),
    "cpstn": Stage(
        COLOUR_SETS,
        CpstnConfig(filters=16, blocks=5),
        CpstnWeights(),
        ViewConfig(
            size=(192, 192),
            scale=(0.5, 1.2),
            visible=Photometric(gamma=0.3, contrast=0.2, brightness=0.05, noise=0.02, grey=0.3),
        ),
        TrainConfig(steps=1500, batch=4, lr=1e-3, betas=(0.5, 0.99), clip=10.0),
    ),
    # Matching is learned in one modality, then across two without CPSTN, then with it: each stage
    # starts where the one before ended.
    "mono": Stage(
        ALL_SETS,
        _MATCHER,
        MrrnWeights(),
        _MATCHING,
        TrainConfig(steps=350, batch=6, lr=1.5e-3, warmup=100),
    ),
    "bridge": Stage(
        ALL_SETS,
        _MATCHER,
        MrrnWeights(),
        _MATCHING,
        TrainConfig(steps=700, batch=6, lr=1e-3, warmup=100),
    ),
    "mrrn": Stage(
        ALL_SETS,
        # Neither has parameters: wider averages, which helped at once, need no new start.
        replace(_MATCHER, aggregate=4, smoothing=8),
        MrrnWeights(),
        _CLEARER,
        TrainConfig(steps=1200, batch=5, lr=1.2e-3, warmup=100),
    ),
}
DEFORM = DeformConfig(mean=(0.0, 6.0), zero=0.1)
MONO = {"mono": 1.0, "bridge": 0.15, "mrrn": 0.1}
STARTS = {"bridge": "mono", "mrrn": "bridge"}
# In use the averages are wider still: pairs that need nothing are moved less, the others as well.
USED_WITH = {"mrrn": {"smoothing": 16}}


def train(name: str, data: Path, out: Path, config: TrainConfig | None = None) -> Path:
    """Trains one stage and returns the folder of its result.

    Args:
        name: A key of `STAGES`.
        data: The folder that holds ``train``.
        out: The folder of all stages; those in `STARTS` use what the stages
            before left there.
        config: Another way to train, for a quick try.
    """
    stage, folder = STAGES[name], out / name
    config = config or stage.train
    torch.manual_seed(config.seed)
    pairs: Pairs = _pairs(data, stage.sets, held_out=False)
    held: Pairs = _pairs(data, stage.sets, held_out=True)
    if name == "mrrn":
        cpstn = Cpstn(CpstnConfig(**_config(out / "cpstn")))
        cpstn.load_state_dict(_state(out / "cpstn"))
        pairs, held = (Rendered(both, cpstn.eval()) for both in (pairs, held))
    task = _task(name, stage)
    if name in STARTS:
        task.network.load_state_dict(_state(out / STARTS[name]))
    average = fit(
        task,
        Views(pairs, stage.views, config.seed),
        config,
        folder,
        validate=_validation(Views(held, stage.views, seed=1), config.batch),
    )
    network = cast("nn.Module", average.network)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, folder / "model.safetensors")
    used_with = USED_WITH.get(name, {})
    _write(folder / "config.json", {**asdict(stage.network), **used_with})
    recipe = asdict(replace(stage, train=config))
    if name in MONO:
        recipe |= {"deform": asdict(DEFORM), "mono": MONO[name], "start": STARTS.get(name)}
    _write(folder / "recipe.json", {"stage": name, **recipe, "used_with": used_with})
    return folder


def assemble(out: Path) -> Path:
    """Puts the networks of a finished run together and returns the folder, for `umfuse.load`."""
    sizes = UmfuseConfig(
        cpstn=CpstnConfig(**_config(out / "cpstn")),
        mrrn=MrrnConfig(**_config(out / "mrrn")),
        difn=DifnConfig(**_config(out / "difn")),
    )
    model = Umfuse(sizes)
    for name in ("cpstn", "mrrn", "difn"):
        model.get_submodule(name).load_state_dict(_state(out / name))
    model.save_pretrained(out / "model")
    return out / "model"


def _task(name: str, stage: Stage) -> CpstnTask | DifnTask | MrrnTask:
    sizes, weights = stage.network, stage.weights
    if isinstance(sizes, DifnConfig) and isinstance(weights, DifnWeights):
        return DifnTask(Difn(sizes), weights)
    if isinstance(sizes, CpstnConfig) and isinstance(weights, CpstnWeights):
        return CpstnTask(Cpstn(sizes), weights)
    if isinstance(sizes, MrrnConfig) and isinstance(weights, MrrnWeights):
        return MrrnTask(Mrrn(sizes), deform=DEFORM, weights=weights, mono=MONO[name])
    raise TypeError(f"the sizes and the weights of stage {name!r} are of different networks")


def _pairs(data: Path, sets: Sequence[str], *, held_out: bool) -> ConcatDataset[Pair]:
    joined: list[PairDataset] = []
    for name in sets:
        folder, stems = data / "train" / name, HELD_OUT[name]
        choice: dict[str, Any] = {"only": stems} if held_out else {"without": stems}
        joined.append(PairDataset(folder / "ir", folder / "vis", **choice))
    return ConcatDataset(joined)


def _validation(views: Views, batch: int) -> Callable[[nn.Module], dict[str, float]]:
    """Returns what measures a task's parts on the same views of held-out pairs each time."""

    def validate(task: nn.Module) -> dict[str, float]:
        sums: dict[str, float] = {}
        loader = DataLoader(
            views, batch, sampler=range(VALIDATION_VIEWS), generator=torch.Generator()
        )
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            for one in loader:
                for name, part in task(one).items():
                    sums[name] = sums.get(name, 0.0) + float(part) / len(loader)
        return {f"held_out_{name}": value for name, value in sums.items()}

    return validate


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def _state(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m umfuse.train.embedded", description="Trains the embedded weights."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds train/SET")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--stage", choices=[*STAGES, "all"], default="all")
    parser.add_argument("--steps", type=int, help="other than the recipe's, for a quick try")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for name in STAGES if options.stage == "all" else (options.stage,):
        config = STAGES[name].train
        if options.steps is not None:
            config = replace(config, steps=options.steps)
        train(name, options.data, options.out, config)
    if options.stage == "all":
        logging.info("the weights are in %s", assemble(options.out))


if __name__ == "__main__":
    main()

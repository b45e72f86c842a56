"""`umfuse train`: train networks on folders of pairs, or fine-tune weights on one's own cameras."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from umfuse.cli.common import Commands, Options, UsageError

if TYPE_CHECKING:
    from umfuse.pipeline import Umfuse
    from umfuse.train import PairDataset, Stage

STAGES = ("cpstn", "mrrn", "difn", "joint")
NOTE = "run.json"  # what a run was asked for, beside its checkpoints
KEPT = (
    *("stage", "ir", "vis", "source", "recipe", "unregistered", "held_out", "range", "features"),
    *("steps", "batch", "lr", "seed"),
)


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parser of this command."""
    train = commands.add_parser(
        "train",
        parents=[shared.device, shared.range],
        help="train or fine-tune on folders of pairs",
        description="Trains on pairs of --ir and --vis, matched by stem. The run folder loads as "
        "weights: umfuse.load(RUN), or --weights RUN of the other commands.",
    )
    train.add_argument(
        "--stage", choices=(*STAGES, "all"), help="the network to train, all at once, or in turn"
    )
    train.add_argument("--ir", type=Path, metavar="DIR", help="infrared images")
    train.add_argument("--vis", type=Path, metavar="DIR", help="visible images")
    train.add_argument("--out", type=Path, metavar="RUN", help="the run folder")
    train.add_argument(
        "--from",
        dest="source",
        metavar="WEIGHTS",
        help="fine-tune these: name, folder or Hub repository (mrrn then learns what the search "
        "leaves); default: start anew",
    )
    train.add_argument("--recipe", choices=("default", "paper"), default="default")
    train.add_argument(
        "--unregistered",
        action="store_true",
        help="the pairs are not aligned: align them first; mrrn then trains without known "
        "displacement",
    )
    train.add_argument(
        "--held-out",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of the pairs to validate on; the run then loads as its best checkpoint",
    )
    train.add_argument(
        "--features", help="of perceptual terms: mind, vgg19 or a file of it; default: the recipe's"
    )
    train.add_argument("--steps", type=int, help="of each stage; default: the recipe's")
    train.add_argument("--batch", type=int, help="default: the recipe's")
    train.add_argument("--lr", type=float, help="peak learning rate; default: the recipe's")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--workers", type=int, default=0, help="processes that prepare views")
    train.add_argument("--tensorboard", action="store_true")
    train.add_argument(
        "--resume", type=Path, metavar="RUN", help="go on with a run as it was begun"
    )
    train.set_defaults(run=_train)


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to below 1, got {text}")
    return value


def _train(options: argparse.Namespace) -> int:
    if options.resume is not None:
        _recall(options)
    missing = [name for name in ("stage", "ir", "vis", "out") if getattr(options, name) is None]
    if missing:
        names = ", ".join(f"--{name}" for name in missing)
        raise UsageError(f"expected {names}, or --resume RUN")
    for folder in (options.ir, options.vis):
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder of images")

    import torch

    from umfuse import Umfuse
    from umfuse.train import RECIPES, perceptual, recipes

    torch.manual_seed(options.seed)
    if options.source is None:
        model = Umfuse(RECIPES[options.recipe].model)
    else:
        model = Umfuse.from_pretrained(options.source)
    features = None if options.features is None else perceptual.load(options.features)
    stages = dict(_stages(options))
    _remember(options)
    pairs, held_out = _pairs(options, model)
    for name, stage in stages.items():
        folder = options.out if len(stages) == 1 else options.out / name
        print(f"umfuse: {name}, {stage.training.steps} steps in {folder}", file=sys.stderr)
        recipes.train(stage, model, pairs, folder, features=features, held_out=held_out)
        if len(stages) > 1:
            model.save_pretrained(options.out)
    print(options.out)
    return 0


def _stages(options: argparse.Namespace) -> Iterator[tuple[str, Stage]]:
    """Yields the stages that were asked for, with the changes to them."""
    import torch

    from umfuse.train import RECIPES

    recipe = RECIPES[options.recipe]
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    names = (options.stage,)
    if options.stage == "all":
        # Weights that are there already need no way to them: one stage a network.
        fine = tuple(name for name in ("cpstn", "mrrn", "difn") if name in recipe.order)
        names = recipe.order if options.source is None or not fine else fine
    changes: dict[str, Any] = {
        name: value
        for name in ("steps", "batch", "lr")
        if (value := getattr(options, name)) is not None
    }
    for name in names:
        stage = recipe.stages[name]
        if name == "mrrn" and options.unregistered:
            stage = recipe.stages.get("raw", stage)
        elif name == "mrrn" and options.source is not None:
            stage = recipe.stages.get("fine", stage)
        training = replace(
            stage.training,
            **changes,
            seed=options.seed,
            workers=options.workers,
            tensorboard=options.tensorboard,
            device=device,
        )
        yield name, replace(stage, training=training)


def _pairs(options: argparse.Namespace, model: Umfuse) -> tuple[PairDataset, PairDataset | None]:
    """Returns the pairs to train on and those to validate on."""
    from umfuse.train import Aligner, PairDataset

    aligner = None
    if options.unregistered:
        # Networks that start anew align nothing: search alone does.
        known = None if options.source is None else model
        aligner = Aligner(known, folder=options.out / "aligned")
    every = PairDataset(options.ir, options.vis, align=aligner, range=options.range)
    if every.dropped:
        print(
            f"umfuse: {len(every.dropped)} pairs are left out, their alignment is doubtful: "
            f"{', '.join(every.dropped)}",
            file=sys.stderr,
        )
    if not options.held_out:
        return every, None
    step = max(2, round(1 / options.held_out))
    held = every.stems[step // 2 :: step]
    if not held:
        raise UsageError(f"--held-out {options.held_out} of {len(every)} pairs is none")
    rest = [stem for stem in every.stems if stem not in held]
    both = (
        PairDataset(options.ir, options.vis, only=stems, align=aligner, range=options.range)
        for stems in (rest, held)
    )
    return next(both), next(both)


def _remember(options: argparse.Namespace) -> None:
    """Writes down what was asked for, so that the run can be taken up by its folder alone."""
    asked = {name: getattr(options, name) for name in KEPT}
    asked = {name: str(v.absolute()) if isinstance(v, Path) else v for name, v in asked.items()}
    asked = json.loads(json.dumps(asked))
    path: Path = options.out / NOTE
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in KEPT if before[name] != asked[name] and name != "steps"]
        if changed:
            raise ValueError(
                f"the run in {options.out} was begun with other values of {', '.join(changed)}: "
                "choose another folder, or --resume it as it was begun"
            )
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asked, indent=2) + "\n", encoding="utf-8")


def _recall(options: argparse.Namespace) -> None:
    """Sets the options of a run that is taken up."""
    path = options.resume / NOTE
    if not path.is_file():
        raise UsageError(f"{options.resume} is no run of umfuse train: it has no {NOTE}")
    asked = json.loads(path.read_text(encoding="utf-8"))
    for name in KEPT:
        setattr(options, name, asked[name])
    options.ir, options.vis, options.out = Path(options.ir), Path(options.vis), options.resume
    if isinstance(options.range, list):
        options.range = tuple(cast("list[float]", options.range))  # JSON has no tuples

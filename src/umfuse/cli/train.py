"""`umfuse train`: train networks on folders of pairs, or fine-tune weights on one's own cameras."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from umfuse.cli.common import Commands, Options, UsageError

if TYPE_CHECKING:
    from umfuse.pipeline import Umfuse
    from umfuse.train import PairDataset, Recipe
    from umfuse.train.tuning import What

WHAT = ("registration", "fusion", "translation", "joint", "all")
NETWORKS = {"mrrn": "registration", "difn": "fusion", "cpstn": "translation"}  # by their trainings
NOTE = "run.json"  # what a run was asked for, beside its checkpoints
KEPT = (
    *("what", "ir", "vis", "pair", "source", "recipe", "unregistered", "yes_registered"),
    *("held_out", "ir_range", "vis_range", "features", "steps", "batch", "lr", "seed"),
)


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parser of this command."""
    train = commands.add_parser(
        "train",
        parents=[shared.device, shared.ranges],
        help="train or fine-tune on folders of pairs",
        description="Trains on pairs of --ir and --vis, matched by stem. The run folder loads as "
        "weights: umfuse.load(RUN), or --weights RUN of the other commands.",
    )
    train.add_argument(
        "--what",
        "--stage",
        type=lambda text: NETWORKS.get(text, text),
        choices=WHAT,
        help="what to train; joint: all at once, all: one after the other. The name of the network "
        "(mrrn, difn, cpstn) says the same",
    )
    train.add_argument("--ir", type=Path, metavar="DIR", help="infrared images")
    train.add_argument("--vis", type=Path, metavar="DIR", help="visible images")
    train.add_argument("--out", type=Path, metavar="RUN", help="the run folder")
    train.add_argument(
        "--from",
        dest="source",
        metavar="WEIGHTS",
        help="fine-tune these: name, folder or Hub repository (registration then learns what the "
        "search leaves); default: start anew",
    )
    train.add_argument("--recipe", choices=("default", "paper"), default="default")
    train.add_argument(
        "--pair",
        metavar="RULE",
        help="how images are paired, as for umfuse fuse; default: by stem",
    )
    aligned = train.add_mutually_exclusive_group()
    aligned.add_argument(
        "--unregistered",
        action="store_true",
        help="the pairs are not aligned: align them first; registration then trains without "
        "known displacement",
    )
    aligned.add_argument(
        "--yes-registered",
        action="store_true",
        help="the pairs are aligned, whatever a look at some of them says",
    )
    train.add_argument(
        "--held-out",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of the pairs to validate on; the run then loads as its best checkpoint",
    )
    train.add_argument(
        "--features",
        help="of perceptual terms: mind, pixels, vgg19 or a file of it; default: the recipe's",
    )
    train.add_argument("--steps", type=int, help="of each training; default: the recipe's")
    train.add_argument("--batch", type=int, help="default: the recipe's")
    train.add_argument("--lr", type=float, help="peak learning rate; default: the recipe's")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--workers", type=int, default=0, help="processes that prepare crops")
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
    missing = [name for name in ("what", "ir", "vis", "out") if getattr(options, name) is None]
    if missing:
        names = ", ".join(f"--{name}" for name in missing)
        raise UsageError(f"expected {names}, or --resume RUN")
    for folder in (options.ir, options.vis):
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder of images")
    asked = _asked(options)
    _refuse_changes(options.out, asked)

    import torch

    from umfuse import Umfuse
    from umfuse.train import fine_tune, perceptual, recipes
    from umfuse.train.distributed import is_first

    torch.manual_seed(options.seed)
    if options.source is None:
        model = Umfuse(recipes.MODELS[options.recipe])
    else:
        rendered = options.what in ("translation", "joint", "all") or None
        model = Umfuse.from_pretrained(options.source, cpstn=rendered)
    features = None if options.features is None else perceptual.load(options.features)
    trainings = dict(_trainings(options))
    pairs = _pairs(options, model)
    registered = False if options.unregistered else True if options.yes_registered else None
    for name, what in trainings.items():
        folder = options.out if len(trainings) == 1 else options.out / name
        print(f"umfuse: {name}, in {folder}", file=sys.stderr)
        fine_tune(
            model,
            pairs,
            folder,
            what,
            steps=options.steps,
            batch=options.batch,
            lr=options.lr,
            seed=options.seed,
            device=options.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            registered=registered,
            held_out=options.held_out,
            features=features,
            workers=options.workers,
            tensorboard=options.tensorboard,
            started=lambda: _remember(options.out, asked),
        )
        if len(trainings) > 1 and is_first():
            model.save_pretrained(options.out)
    print(options.out)
    return 0


def _trainings(options: argparse.Namespace) -> Iterator[tuple[str, What | Recipe]]:
    """Yields what is to be trained, one after the other."""
    from umfuse.train import recipes

    if options.source is not None and options.recipe == "default":
        yield options.what, options.what
        return
    own = recipes.RECIPES[options.recipe]
    names = recipes.FROM_SCRATCH[options.recipe] if options.what == "all" else (options.what,)
    for name in names:
        known = "unregistered" if name == "registration" and options.unregistered else name
        yield name, own.get(known, own[name])


def _pairs(options: argparse.Namespace, model: Umfuse) -> PairDataset:
    """Returns the pairs, aligned if they are not registered."""
    from umfuse.train import Aligner, PairDataset

    aligner = None
    if options.unregistered:
        # Networks that start anew align nothing: search alone does.
        known = None if options.source is None else model
        aligner = Aligner(known, folder=options.out / "aligned")
    return PairDataset(
        options.ir,
        options.vis,
        pair=options.pair,
        align=aligner,
        ir_range=options.ir_range,
        vis_range=options.vis_range,
    )


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    """Returns what was asked for, as JSON has it."""
    asked = {name: getattr(options, name) for name in KEPT}
    asked = {name: str(v.absolute()) if isinstance(v, Path) else v for name, v in asked.items()}
    return json.loads(json.dumps(asked))


def _refuse_changes(run: Path, asked: dict[str, Any]) -> None:
    """Raises an error if a run that has got somewhere was begun otherwise."""
    path = run / NOTE
    if not path.exists() or not any(run.glob("**/checkpoints/step-*")):
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [name for name in KEPT if before.get(name) != asked[name] and name != "steps"]
    if changed:
        raise ValueError(
            f"the run in {run} was begun with other values of {', '.join(changed)}: choose another "
            "folder, or --resume it as it was begun"
        )


def _remember(run: Path, asked: dict[str, Any]) -> None:
    """Writes down what was asked for, so that the run can be taken up by its folder alone."""
    from umfuse import files

    files.write_text(run / NOTE, json.dumps(asked, indent=2) + "\n")


def _recall(options: argparse.Namespace) -> None:
    """Sets the options of a run that is taken up."""
    path = options.resume / NOTE
    if not path.is_file():
        raise UsageError(f"{options.resume} is no run of umfuse train: it has no {NOTE}")
    asked = json.loads(path.read_text(encoding="utf-8"))
    for name in KEPT:
        setattr(options, name, asked.get(name))
    options.ir, options.vis, options.out = Path(options.ir), Path(options.vis), options.resume
    for name in ("ir_range", "vis_range"):
        if isinstance(asked.get(name), list):
            setattr(options, name, tuple(asked[name]))  # JSON has no tuples

"""Trains what the tables compare: `python -m benchmarks.train [--only TEXT]`.

Everything is trained by `umfuse.train.fit` on the train split of RoadScene, as the paper trains on
RoadScene alone, and lands in ``runs/benchmarks/NAME``. A variant that was stopped goes on, one that
is done is not trained again. The figures are those of short trainings on a CPU: within a table they
compare, beyond it they do not.

- single-modality: FlowNet, VoxelMorph, the paper's MRRN (K = 2) and the matcher of the default
  model, within each modality, by the known displacement (0 to 5 px on average) and, but for the
  matcher, by the similarity to the image before it was deformed. From scratch, the paper's three
  learn nothing across modalities in a training of this length.
- bridge: the paper's three, started from there, with a fixed image anywhere between the infrared
  one and that of "registration". In one step they would learn to stay.
- registration: started from there, across modalities: with the visible luma as the fixed image, and
  with the pseudo-infrared image of the embedded CPSTN. Of what the paper's three see half is still
  of one camera, with other grey levels, and half is close to that image.
- difn: the embedded DIFN's size with another interaction, or without one term of its loss.
- cpstn: the embedded CPSTN's loss without one of its terms.
- mrrn: the paper's MRRN, trained on without one term of its loss.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from benchmarks import data
from benchmarks.baselines import FlowNet, VoxelMorph
from torch import Tensor, nn

import umfuse
from umfuse.networks import Cpstn, CpstnConfig, Difn, Matcher, MatcherConfig, Mrrn
from umfuse.train import CropConfig, Crops, DeformConfig, PairDataset, TrainConfig, fit
from umfuse.train.augment import Photometric
from umfuse.train.data import Rendered
from umfuse.train.perceptual import Pixels
from umfuse.train.recipes import MODELS
from umfuse.train.tasks import (
    CpstnLossWeights,
    CpstnTask,
    DifnLossWeights,
    DifnTask,
    MrrnLossWeights,
    MrrnTask,
)

RUNS = Path("runs/benchmarks")
EMBEDDED = MODELS["default"]
SAME = Photometric()
AUGMENTATION = Photometric(gamma=0.3, contrast=0.2, noise=0.015, blur=0.7)


@dataclass(frozen=True)
class Variant:
    """One network of a table.

    Attributes:
        build: Makes the network, untrained.
        task: Makes the task that trains it.
        crops: What it is shown.
        train: How it is trained.
        pseudo: Whether the pairs hold the pseudo-infrared image of the embedded CPSTN.
        start: The variant whose weights it begins with.
    """

    build: Callable[[], nn.Module]
    task: Callable[[nn.Module], nn.Module]
    crops: CropConfig
    train: TrainConfig
    pseudo: bool = False
    start: str | None = None


class Concatenation(nn.Module):
    """What the paper puts in the place of the interaction module in its ablation (Fig. 6)."""

    def forward(self, infrared: Tensor, visible: Tensor) -> Tensor:
        """Returns the features of both paths, ``(B, 2 C, H, W)``."""
        return torch.cat((infrared, visible), 1)


def _without_interaction() -> nn.Module:
    network = Difn(EMBEDDED.difn)
    network.interaction = Concatenation()
    return network


def _mrrn(
    build: Callable[[], nn.Module],
    weights: MrrnLossWeights,
    *,
    steps: int,
    lr: float = 1e-3,
    pseudo: bool = False,
    start: str | None = None,
    **way: Any,
) -> Variant:
    deform = DeformConfig(mean=(0.0, 5.0))

    def task(network: nn.Module) -> nn.Module:
        options = {"deform": deform, "perceptual": Pixels(), "single_modality": 0.0, "margin": 8}
        return MrrnTask(network, weights=weights, **{**options, **way})

    crops = CropConfig((144, 144), (0.5, 1.0), infrared=AUGMENTATION, visible=AUGMENTATION)
    train = TrainConfig(steps=steps, batch=8, lr=lr, clip=10.0, log_every=100)
    return Variant(build, task, crops, train, pseudo, start)


def _difn(build: Callable[[], nn.Module], weights: DifnLossWeights | None = None) -> Variant:
    crops = CropConfig((128, 128), (0.6, 1.2), infrared=AUGMENTATION, visible=AUGMENTATION)
    training = TrainConfig(steps=300, batch=8, lr=2e-3, log_every=100)
    return Variant(build, lambda network: DifnTask(network, weights), crops, training)


def _cpstn(weights: CpstnLossWeights) -> Variant:
    crops = CropConfig((160, 160), (0.5, 1.0))
    config = TrainConfig(steps=200, batch=4, lr=1e-3, betas=(0.5, 0.99), clip=10.0, log_every=100)
    size = CpstnConfig(filters=16, blocks=5)
    return Variant(lambda: Cpstn(size), lambda network: CpstnTask(network, weights), crops, config)


def _each_without(weights: object, terms: Iterable[str]) -> dict[str, object]:
    """Returns the weights as they are, and without each of the terms."""
    return {"all": weights} | {f"no {t}": replace(weights, **{t: 0.0}) for t in terms}


DIFN_TERMS = tuple(term.name for term in fields(DifnLossWeights))
CPSTN_TERMS = ("content", "edge", "structure", "adversarial")
ALIKE = MrrnLossWeights(distance=0.2, match=0.0, similarity=100.0, smooth=0.5)
ACROSS: dict[str, Any] = {"single_modality": 0.5, "bridge": (0.7, 1.0)}
MATCHER = MatcherConfig(in_channels=1)
_led = partial(_mrrn, weights=ALIKE, aligned=True)
PAPERS: dict[str, Callable[[], nn.Module]] = {
    "VoxelMorph": VoxelMorph,
    "MRRN": Mrrn,
    "FlowNet+STN": FlowNet,
}
VARIANTS: dict[str, Variant] = {}
for name, build in PAPERS.items():
    VARIANTS[f"single-modality/{name}"] = _led(
        build, steps=1200, lr=3e-3, single_modality=1.0, augmentation=SAME
    )
VARIANTS["single-modality/Matcher"] = _mrrn(
    lambda: Matcher(MATCHER),
    MrrnLossWeights(),
    steps=1200,
    single_modality=1.0,
    augmentation=SAME,
)
for suffix in ("", " + CPSTN"):
    pseudo = bool(suffix)
    for name, build in PAPERS.items():
        start, bridge = f"single-modality/{name}", f"bridge/{name}{suffix}"
        VARIANTS[bridge] = _led(
            build,
            steps=2000,
            lr=3e-3,
            pseudo=pseudo,
            start=start,
            bridge=(0.0, 1.0),
            augmentation=SAME,
        )
        VARIANTS[f"registration/{name}{suffix}"] = _led(
            build, steps=1500, lr=2e-3, pseudo=pseudo, start=bridge, **ACROSS
        )
    VARIANTS[f"registration/Matcher{suffix}"] = _mrrn(
        lambda: Matcher(MATCHER),
        MrrnLossWeights(),
        steps=700,
        pseudo=pseudo,
        start="single-modality/Matcher",
        single_modality=0.1,
        augmentation=SAME,
    )
VARIANTS |= {
    "difn/equation": _difn(lambda: Difn(replace(EMBEDDED.difn, interaction="equation"))),
    "difn/concatenation": _difn(_without_interaction),
}
VARIANTS |= {
    f"difn/{name}": _difn(lambda: Difn(EMBEDDED.difn), weights)
    for name, weights in _each_without(DifnLossWeights(), DIFN_TERMS).items()
}
VARIANTS |= {
    f"cpstn/{name}": _cpstn(weights)
    for name, weights in _each_without(CpstnLossWeights(), CPSTN_TERMS).items()
}
ALIGNED = {"aligned": True, **ACROSS}
MRRN_LOSSES: dict[str, tuple[MrrnLossWeights, dict[str, Any]]] = {
    "all": (ALIKE, ALIGNED),
    "no smooth": (replace(ALIKE, smooth=0.0), ALIGNED),
    "known displacement alone": (replace(ALIKE, distance=1.0, similarity=0.0), ACROSS),
    "similarity to the aligned image alone": (replace(ALIKE, distance=0.0), ALIGNED),
    # The paper's own training: no displacement is known.
    "similarity alone": (replace(ALIKE, distance=0.0, reverse=20.0, smooth=10.0), {}),
}
VARIANTS |= {
    f"mrrn/{name}": _mrrn(
        Mrrn, weights, steps=400, lr=2e-3, pseudo=True, start="registration/MRRN + CPSTN", **way
    )
    for name, (weights, way) in MRRN_LOSSES.items()
}


def train(name: str, steps: int | None = None) -> Path:
    """Trains a variant, unless that is done, and returns the file of its weights."""
    variant, folder = VARIANTS[name], RUNS / name
    config = variant.train if steps is None else replace(variant.train, steps=steps)
    path = folder / "model.safetensors"
    if path.exists():
        return path
    torch.manual_seed(config.seed)
    road = data.root() / "train" / "roadscene"
    pairs = PairDataset(road / "ir", road / "vis")
    if variant.pseudo:
        pairs = Rendered(pairs, umfuse.load(device="cpu", cpstn=True).cpstn)
    built = variant.build()
    if variant.start is not None:
        built.load_state_dict(safetensors.torch.load_file(train(variant.start, steps)))
    task = variant.task(built)
    average = fit(task, Crops(pairs, variant.crops), config, folder)
    state = {key: value.contiguous() for key, value in average.network.state_dict().items()}
    safetensors.torch.save_file(state, path)
    return path


def trained(prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yields the variants of a prefix that were trained: name without the prefix, network."""
    for name, variant in VARIANTS.items():
        path = RUNS / name / "model.safetensors"
        if name.startswith(prefix) and path.exists():
            built = variant.build()
            built.load_state_dict(safetensors.torch.load_file(path))
            yield name.removeprefix(prefix), built.eval()


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="variants that hold this text")
    parser.add_argument("--steps", type=int, help="other than the table's, for a quick try")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("umfuse.train").setLevel(logging.INFO)  # `data.root` asks for errors alone
    for name in VARIANTS:
        if arguments.only in name:
            logging.info("%s", name)
            train(name, arguments.steps)


if __name__ == "__main__":
    main()

"""The run of the paper's system: ``python -m benchmarks.paper_weights --data DATA --out RUN``.

The paper's three networks of its sizes, on the train split of RoadScene, by its losses, as far as
two cores get in some hours: crops are smaller, steps fewer than the 8,400 of the paper's recipe.
What each network is led by where the paper's loss alone gets nowhere in that time:

- ``fusion``: DIFN by Eq. 16 to 19.
- ``one-way``: CPSTN by Eq. 11 and 12 and its critic, without the way back, a fifth of the time.
- ``translation``: with the way back and the cycle, Eq. 8 to 10, by the features "mind". Both also
  hold the edges where the visible image has them, and the critic weighs a fifth: with the paper's
  weights alone the images were full of texture that no camera saw.
- ``single-modality``, ``bridge`` and ``registration``: MRRN by the known displacement and the
  likeness to the image before it was deformed: within each modality, then anywhere between infrared
  and pseudo-infrared, then close to that and, half of the time, within one modality with other grey
  levels. With less than these three steps it learns to stay.
- ``joint``: all three by Eq. 20, MRRN's part as before.

Each leaves ``RUN/NAME`` as in `benchmarks.embedded_weights`. The last is the result, and
``RUN/weights`` the same in half precision, for half the room.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.plan import Plan
from benchmarks.train import ACROSS, ALIKE, AUGMENTATION, SAME

from umfuse import weights
from umfuse.train import CropConfig, DeformConfig, TrainConfig, recipes
from umfuse.train.recipe import JointRecipe, MrrnRecipe, Recipe

_PAPER = recipes.RECIPES["paper"]
_SHAPES = CropConfig((144, 144), (0.5, 1.0))
_MATCHING = replace(_SHAPES, infrared=AUGMENTATION, visible=AUGMENTATION)

_TRANSLATION = replace(
    _PAPER["translation"],
    weights=replace(_PAPER["translation"].weights, structure=4.0, adversarial=0.2),
    features="mind",
    crops=replace(_SHAPES, size=(128, 128)),
    training=TrainConfig(
        steps=100, batch=1, lr=2e-4, final_lr=0.05, betas=(0.5, 0.99), clip=10.0, ema=0.995
    ),
)
_REGISTRATION = MrrnRecipe(
    weights=ALIKE,
    deform=DeformConfig(mean=(0.0, 5.0)),
    aligned=True,
    features="pixels",
    crops=_MATCHING,
    training=TrainConfig(steps=1200, batch=8, lr=3e-3, clip=10.0),
)
_FUSION = replace(
    _PAPER["fusion"],
    crops=replace(_MATCHING, size=(128, 128)),
    training=TrainConfig(steps=500, batch=4, lr=1e-3),
)
RECIPES: dict[str, Recipe] = {
    "fusion": _FUSION,
    "one-way": replace(
        _TRANSLATION,
        weights=replace(_TRANSLATION.weights, perceptual=0.0, style=0.0),
        cycle=False,
        crops=_SHAPES,
        training=replace(_TRANSLATION.training, steps=1300, batch=2, lr=1e-3),
    ),
    "translation": _TRANSLATION,
    "single-modality": replace(
        _REGISTRATION,
        single_modality=1.0,
        augmentation=SAME,
    ),
    "bridge": replace(_REGISTRATION, bridge=(0.0, 1.0), augmentation=SAME),
    "registration": replace(
        _REGISTRATION,
        **ACROSS,
        training=replace(_REGISTRATION.training, steps=1000, lr=2e-3),
    ),
    "joint": JointRecipe(
        cpstn=_TRANSLATION,
        mrrn=_REGISTRATION,
        difn=_FUSION,
        crops=_SHAPES,
        training=TrainConfig(steps=30, batch=2, lr=1e-4, clip=10.0, ema=0.98),
    ),
}
PLAN = Plan(model=recipes.MODELS["paper"], recipes=RECIPES, sets=("roadscene",))


def halve(run: Path, folder: Path) -> None:
    """Writes the weights of a run in half precision, which loads as they do.

    Args:
        run: The run folder.
        folder: Where to; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = weights.read(weights.locate(run, cpstn=True), cpstn=True)
    state = {key: value.half() for key, value in stored.state.items()}
    weights.write(folder, stored.config, state, {"license": "MIT"})


def main() -> None:
    """Runs the command line."""
    folder = PLAN.main("python -m benchmarks.paper_weights", "Trains the paper's system.")
    if folder.name == next(reversed(RECIPES)):
        halve(folder, folder.parent / "weights")


if __name__ == "__main__":
    main()

"""The run of the embedded weights: ``python -m benchmarks.embedded_weights --data DATA --out RUN``.

``DATA`` holds ``train/SET/ir`` and ``train/SET/vis`` for the sets of `benchmarks.plan`. The default
recipes are followed in their order, each from where the one before ended, and each leaves
``RUN/NAME``: log, checkpoints and ``recipe.json``; a training that was stopped goes on. Every run
folder loads with `umfuse.load`, the last one, ``RUN/realigned``, as the result. On one core of a
server CPU ``fusion``, ``translation`` and ``single-modality`` take 10 to 30 minutes each, the
others hours.
"""

from __future__ import annotations

from benchmarks.plan import HELD_OUT, Plan

from umfuse.train import recipes

_COLOUR = ("roadscene", "m3svd", "msrs_gray", "m3fd")
_REALIGNED = "realigned"
_RECIPES = recipes.RECIPES["default"]
PLAN = Plan(
    model=recipes.MODELS["default"],
    recipes={name: _RECIPES[name] for name in (*recipes.FROM_SCRATCH["default"], _REALIGNED)},
    sets=tuple(HELD_OUT),
    other_sets={"translation": _COLOUR},
    realigned=(_REALIGNED,),
)


def main() -> None:
    """Runs the command line."""
    PLAN.main("python -m benchmarks.embedded_weights", "Trains the embedded weights.")


if __name__ == "__main__":
    main()

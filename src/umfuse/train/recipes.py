"""The recipes that there are: values and nothing else.

``"default"`` is what measures best here; the embedded weights come from it. ``"paper"`` has the
paper's values: weights of Sec. 2.5, Adam at a constant rate of 1e-3, 8 crops of 256x256, 300 epochs
of its 221 pairs. The paper trains by Eq. 20, the recipe ``joint``; the others are its parts, one
network each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from umfuse.config import UmfuseConfig
from umfuse.networks import CpstnConfig, DifnConfig, MatcherConfig
from umfuse.train.augment import Photometric
from umfuse.train.config import TrainConfig
from umfuse.train.crops import CropConfig
from umfuse.train.deform import DeformConfig
from umfuse.train.recipe import CpstnRecipe, DifnRecipe, JointRecipe, MrrnRecipe, Recipe
from umfuse.train.tasks import CpstnLossWeights, DifnLossWeights, MrrnLossWeights

MODELS: Mapping[str, UmfuseConfig] = MappingProxyType(
    {
        "default": UmfuseConfig(
            cpstn=CpstnConfig(filters=16, blocks=5),
            mrrn=MatcherConfig(),
            difn=DifnConfig(features=16, output="blend", global_means=True, shuffle=2, view=8),
            fixed="visible",
        ),
        "paper": UmfuseConfig(),
    }
)
"""The sizes of the networks that the recipes of a name are made for."""

FROM_SCRATCH: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "default": ("fusion", "translation", "single-modality", "registration"),
        "paper": ("joint",),
    }
)
"""The recipes that lead, one after the other, from new networks to trained ones."""

# --- the paper -----------------------------------------------------------------------------------

_PAPER_CROPS = CropConfig(size=(256, 256), scale=(1.0, 1.0))
_PAPER_TRAINING = TrainConfig(
    steps=300 * 28,  # epochs of 221 pairs in batches of 8
    batch=8,
    lr=1e-3,
    final_lr=1.0,
    warmup=0,
    betas=(0.9, 0.999),
    weight_decay=0.0,
    clip=None,
    ema=0.0,
    bf16=False,
)
_PAPER_TRANSLATION = CpstnRecipe(
    weights=CpstnLossWeights(
        content=8.0,
        edge=8.0,
        structure=0.0,
        perceptual=1.0,
        style=100.0,
        adversarial=1.0,
        critic=1.0,
    ),
    cycle=True,
    filters=64,
    features="vgg19",
    crops=_PAPER_CROPS,
    training=_PAPER_TRAINING,
)
_PAPER_REGISTRATION = MrrnRecipe(
    weights=MrrnLossWeights(distance=0.0, match=0.0, similarity=1.0, reverse=0.2, smooth=10.0),
    deform="paper",
    features="vgg19",
    crops=_PAPER_CROPS,
    training=_PAPER_TRAINING,
)
_PAPER_FUSION = DifnRecipe(
    weights=DifnLossWeights(
        structure=1.0,
        gradient=20.0,
        saliency=5.0,
        differences=0.0,
        fidelity=0.0,
        edges=0.0,
        daylight=0.0,
    ),
    crops=_PAPER_CROPS,
    training=_PAPER_TRAINING,
)

# --- the default ---------------------------------------------------------------------------------

_GREYS = Photometric(gamma=0.4, contrast=0.2)
_MATCHING = CropConfig(
    size=(288, 288),
    scale=(0.7, 1.3),
    infrared=Photometric(gamma=0.5, contrast=0.4, brightness=0.1, noise=0.04, blur=1.0, invert=0.1),
    visible=Photometric(gamma=0.5, contrast=0.4, brightness=0.1, noise=0.04, blur=1.0),
    pseudo=Photometric(gamma=0.3, contrast=0.2, noise=0.02),
)
_ONE_CAMERA = CropConfig(
    size=(288, 288),
    scale=(0.8, 1.25),
    infrared=Photometric(gamma=0.3, contrast=0.2, noise=0.015, blur=0.7),
    visible=Photometric(gamma=0.3, contrast=0.2, noise=0.015, blur=0.7),
    pseudo=Photometric(gamma=0.2, contrast=0.2, noise=0.01),
)
# What the search leaves of a displacement: bent more than straight.
_RESIDUE = DeformConfig(
    mean=(0.0, 8.0),
    affine=0.5,
    perspective=0.2,
    elastic=1.0,
    parallax=0.3,
    cell=(0.12, 0.4),
    zero=0.08,
)
_FUSION = DifnRecipe(
    crops=CropConfig(size=(160, 160), scale=(0.4, 1.0), infrared=_GREYS, visible=_GREYS),
    training=TrainConfig(steps=1000, batch=8, lr=2e-3),
)
_TRANSLATION = CpstnRecipe(
    crops=CropConfig(
        size=(192, 192),
        scale=(0.5, 1.2),
        visible=Photometric(gamma=0.3, contrast=0.2, brightness=0.05, noise=0.02, grey=0.3),
    ),
    training=TrainConfig(steps=1500, batch=4, lr=1e-3, betas=(0.5, 0.99), clip=10.0),
)
_REGISTRATION = MrrnRecipe(
    deform=_RESIDUE,
    single_modality=0.15,
    crops=_MATCHING,
    training=TrainConfig(steps=6000, batch=4, lr=1.5e-3, clip=20.0, save_every=500),
)

RECIPES: Mapping[str, Mapping[str, Recipe]] = MappingProxyType(
    {
        "default": MappingProxyType(
            {
                "fusion": _FUSION,
                "translation": _TRANSLATION,
                # Matching is learned within each modality, then across the two.
                "single-modality": replace(
                    _REGISTRATION,
                    single_modality=1.0,
                    training=replace(_REGISTRATION.training, steps=400),
                ),
                "registration": _REGISTRATION,
                # For weights that have aligned the pairs anew, better than they came.
                "realigned": replace(
                    _REGISTRATION,
                    training=replace(_REGISTRATION.training, steps=4000, lr=1e-3, save_every=400),
                ),
                # For weights that meet another camera: in few steps, what the search leaves most,
                # which is short and bent.
                "fine-tune": MrrnRecipe(
                    deform=replace(
                        _RESIDUE,
                        mean=(0.0, 6.0),
                        affine=0.3,
                        perspective=0.1,
                        cell=(0.1, 0.22),
                        zero=0.0,
                    ),
                    crops=_ONE_CAMERA,
                    training=TrainConfig(steps=1650, batch=4, lr=1e-3, clip=20.0),
                ),
                # For raw pairs of two cameras: aligned by `Aligner`, and no more known of them.
                "unregistered": MrrnRecipe(
                    weights=MrrnLossWeights(
                        distance=0.0, match=0.0, similarity=1.0, reverse=0.2, smooth=0.1
                    ),
                    deform=None,
                    crops=_MATCHING,
                    training=TrainConfig(steps=400, batch=4, lr=2e-4),
                ),
                "joint": JointRecipe(
                    cpstn=_TRANSLATION,
                    mrrn=replace(_REGISTRATION, single_modality=0.0),
                    difn=_FUSION,
                    crops=_MATCHING,
                    training=TrainConfig(steps=800, batch=4, lr=2e-4),
                ),
            }
        ),
        "paper": MappingProxyType(
            {
                "joint": JointRecipe(
                    cpstn=_PAPER_TRANSLATION,
                    mrrn=_PAPER_REGISTRATION,
                    difn=_PAPER_FUSION,
                    crops=_PAPER_CROPS,
                    training=_PAPER_TRAINING,
                ),
                "translation": _PAPER_TRANSLATION,
                "registration": _PAPER_REGISTRATION,
                "fusion": _PAPER_FUSION,
            }
        ),
    }
)
"""Recipes by name and by what they train."""

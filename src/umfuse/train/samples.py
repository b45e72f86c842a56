"""A picture of what a model does in training, for people to look at."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from umfuse import draw, geometry
from umfuse.pipeline import Umfuse
from umfuse.train.protocols import protocol
from umfuse.train.types import Pair

LONGEST = 512  # pixels of the longer side


@torch.no_grad()
def picture(model: Umfuse, pair: Pair) -> Image.Image:
    """Returns a sheet of one pair: alignment before and after, fused, and what CPSTN renders.

    The infrared image is deformed by the protocol ``paper``, always alike, and registered by the
    networks alone, without search.

    Args:
        model: Of any state of its training.
        pair: ``{"infrared": (1, H, W), "visible": (3, H, W)}``, registered.
    """
    infrared, visible = (_reduced(pair[name][None]) for name in ("infrared", "visible"))
    field = protocol("paper", (visible.shape[-2], visible.shape[-1]), seed=0)
    moving = geometry.warp(infrared, field.deform)[0]
    moving, visible = moving.to(model.device), visible.to(model.device)
    found = model(moving, visible)
    shown = _array(visible)
    panels: list[tuple[str, draw.Displayable]] = [
        ("visible", shown),
        ("infrared, deformed", _array(moving)),
        ("before", draw.checkerboard(_array(moving), shown)),
        ("after", draw.checkerboard(_array(found.infrared), shown)),
        ("fused", _array(found.fused)),
    ]
    if model.cpstn is not None:
        panels.insert(2, ("pseudo-infrared", _array(model.render(visible))))
    return draw.sheet(panels)


def _reduced(image: Tensor) -> Tensor:
    factor = min(1.0, LONGEST / max(image.shape[-2:]))
    size = [max(8, round(side * factor)) for side in image.shape[-2:]]
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def _array(image: Tensor) -> NDArray[Any]:
    return image[0].movedim(0, -1).clamp(0, 1).float().cpu().numpy()

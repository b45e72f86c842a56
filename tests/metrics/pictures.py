"""Pictures to measure: rendered ones, and real pairs where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from umfuse import images

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def image(seed: int, height: int = 60, width: int = 72) -> torch.Tensor:
    """A smooth random picture with an edge."""
    random = np.random.default_rng(seed)
    picture = ndimage.gaussian_filter(random.random((height, width)), 2)
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    picture[:, width // 3 :] *= 0.5
    picture += 0.02 * random.random((height, width))
    return torch.from_numpy(picture / picture.max())[None, None].float()


def triple(height: int = 60, width: int = 72) -> Triple:
    """A fused image, an infrared and a visible one."""
    infrared, visible = image(1, height, width), image(2, height, width)
    return 0.3 * infrared + 0.6 * visible, infrared, visible


def real(where: str, index: int) -> Triple:
    """The same of the middle of a real pair, 176x200 pixels of 8 bits."""
    root = Path(os.environ["UMFUSE_DATA"]) / where
    path = sorted((root / "ir").iterdir())[index]
    infrared, visible = (
        images.read(one, name=one.stem).luma
        for one in (path, next((root / "vis").glob(f"{path.stem}.*")))
    )
    y, x = (infrared.shape[2] - 176) // 2, (infrared.shape[3] - 200) // 2
    infrared, visible = (
        (255 * one[..., y : y + 176, x : x + 200].double()).round() / 255
        for one in (infrared, visible)
    )
    return 0.3 * infrared + 0.6 * visible, infrared, visible


def array(picture: torch.Tensor) -> np.ndarray:
    return picture[0, 0].double().numpy()

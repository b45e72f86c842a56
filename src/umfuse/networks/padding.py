"""Sizes that a network can halve: padding to a multiple, and the way back.

Both go by index: `torch.nn.functional.pad` and slices put constraints on a symbolic size that
`torch.export` cannot solve.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def pad(image: Tensor, multiple: int, mode: Literal["reflect", "replicate"]) -> Tensor:
    """Returns an image extended at the right and bottom to multiples of a size.

    Args:
        image: ``(B, C, H, W)``.
        multiple: What both sides become a multiple of.
        mode: ``"reflect"`` mirrors at the last pixel, and replicates the far end where the image
            is too small to go on; ``"replicate"`` repeats the last pixel.
    """
    for dim in (2, 3):
        last = image.shape[dim] - 1
        index = torch.arange((last + multiple) // multiple * multiple, device=image.device)
        if mode == "reflect":
            index = (last - (last - index).abs()).clamp_min(0)
        else:
            index = index.clamp_max(last)
        image = image.index_select(dim, index)
    return image


def crop(image: Tensor, height: int, width: int) -> Tensor:
    """Returns the upper left ``height`` x ``width`` pixels of ``(B, C, H, W)``."""
    rows = torch.arange(height, device=image.device)
    columns = torch.arange(width, device=image.device)
    return image.index_select(2, rows).index_select(3, columns)

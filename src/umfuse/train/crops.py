"""The endless stream of random crops that training looks at.

Crop number ``k`` depends on the seed and on ``k`` alone, so a run that stopped goes on at its next
crop, with any number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from umfuse.train.augment import Photometric
from umfuse.train.types import Pair, Pairs


@dataclass(frozen=True)
class CropConfig:
    """What a crop of a pair is.

    Attributes:
        size: Height and width, pixels.
        scale: Lowest and highest factor by which the picture is resized before.
        flip: Whether half of the crops are mirrored left to right.
        infrared: Augmentation of the infrared image.
        visible: Augmentation of the visible image.
        pseudo: Augmentation of the pseudo-infrared image, where pairs hold one.
    """

    size: tuple[int, int] = (192, 192)
    scale: tuple[float, float] = (0.7, 1.4)
    flip: bool = True
    infrared: Photometric = field(default_factory=Photometric)
    visible: Photometric = field(default_factory=Photometric)
    pseudo: Photometric = field(default_factory=Photometric)


class Crops(Dataset[Pair]):
    """Gives random crops of pairs, without end: any number from 0 up is a crop.

    Every run of ``len(pairs)`` crops shows each pair once. Beside the images a crop carries its
    ``"seed"``, from which tasks draw what else they need.

    Args:
        pairs: Pairs by number.
        config: What a crop is.
        seed: Of the whole stream.
    """

    def __init__(self, pairs: Pairs, config: CropConfig, seed: int = 0) -> None:
        if not len(pairs):
            raise ValueError("Crops needs at least one pair, got none")
        self.pairs, self.config, self.seed = pairs, config, seed

    def __getitem__(self, index: int) -> Pair:
        """Returns crop number ``index``: infrared, visible and seed."""
        epoch, place = divmod(index, len(self.pairs))
        order = torch.randperm(len(self.pairs), generator=_generator(self.seed, epoch, 1))
        pair = self.pairs[int(order[place])]
        generator = _generator(self.seed, index, 2)
        channels = [len(image) for image in pair.values()]
        cut = _crop(torch.cat(tuple(pair.values())), self.config, generator)
        images = cast("tuple[Tensor, ...]", cut.split(channels))
        crop: Pair = {}
        for name, image in zip(pair, images, strict=True):
            augmentation: Photometric = getattr(self.config, name)
            crop[name] = augmentation(image, generator)
        crop["seed"] = torch.randint(2**62, (), generator=generator)
        return crop


def _generator(*key: int) -> torch.Generator:
    # Mixed, since generators of neighbouring seeds start with similar draws.
    mixed = 0
    for part in key:
        mixed = (mixed * 0x9E3779B97F4A7C15 + part * 0xBF58476D1CE4E5B9 + 0x94D049BB) % 2**63
        mixed ^= mixed >> 29
    return torch.Generator().manual_seed(mixed)


def _crop(image: Tensor, config: CropConfig, generator: torch.Generator) -> Tensor:
    """Returns a random crop of (C, H, W), resized to the wanted size in one step."""
    zoom, down, right, mirror = (float(d) for d in torch.rand(4, generator=generator))
    height, width = config.size
    scale = config.scale[0] * (config.scale[1] / config.scale[0]) ** zoom
    # A picture that is too small for the crop is enlarged until it fits.
    scale = max(scale, height / image.shape[1], width / image.shape[2])
    rows = min(image.shape[1], round(height / scale))
    columns = min(image.shape[2], round(width / scale))
    top = int(down * (image.shape[1] - rows + 1))
    left = int(right * (image.shape[2] - columns + 1))
    crop = image[None, :, top : top + rows, left : left + columns]
    if crop.shape[-2:] != config.size:
        crop = F.interpolate(
            crop, config.size, mode="bilinear", align_corners=False, antialias=True
        )
    if config.flip and mirror < 0.5:
        crop = crop.flip(3)
    return crop[0].contiguous()

"""Pairs from folders, and the endless stream of random views that training looks at.

A `PairDataset` gives whole pairs. `Views` gives crops of them: view number ``k`` depends on the
seed and on ``k`` alone, so a run that stopped goes on at its next view, with any number of workers.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from huggingface_hub.utils import tqdm
from torch import Tensor, nn
from torch.utils.data import Dataset

from umfuse import filters, geometry, images
from umfuse.filters import luma
from umfuse.images import Range
from umfuse.train.align import Aligner, Place

logger = logging.getLogger(__name__)

Pair = dict[str, Tensor]
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})


class Pairs(Protocol):
    """Anything that gives pairs by number: a dataset, or several of them joined."""

    def __len__(self) -> int:
        """Returns the number of pairs."""
        ...

    def __getitem__(self, index: int, /) -> Pair:
        """Returns one pair."""
        ...


class PairDataset(Dataset[Pair]):
    """Gives pairs of two folders, matched by the stem of the file name.

    A pair is ``{"infrared": (1, H, W), "visible": (3, H, W)}`` in [0, 1]. It is taken for
    registered, an infrared image of another size only resized to the visible grid, unless there is
    an aligner: every pair is then looked at here and now, which takes about a second each, and
    those that it cannot align are dropped. Several sets are joined by
    ``torch.utils.data.ConcatDataset``.

    Args:
        ir_dir: Folder of the infrared images.
        vis_dir: Folder of the visible images.
        only: Stems to keep; None keeps all.
        without: Stems to leave out, such as those held out for validation.
        align: Brings pairs on one grid that are not.
        range: Which infrared values become 0 and 1, as in `umfuse.images.read`.
        cache: Bytes of decoded images to keep in memory; pairs beyond it are decoded each time.

    Attributes:
        stems: Of the pairs, in their order.
        confidence: How sure the alignment of each pair is, of those dropped too; empty without an
            aligner.
        dropped: Stems of the pairs that could not be aligned.

    Raises:
        ValueError: If a folder is missing or empty, an image has no partner, two files share a
            stem, ``only`` or ``without`` names a stem that is not there, or no pair is left.
    """

    def __init__(
        self,
        ir_dir: str | os.PathLike[str],
        vis_dir: str | os.PathLike[str],
        *,
        only: Sequence[str] | None = None,
        without: Sequence[str] = (),
        align: Aligner | None = None,
        range: Range | None = None,
        cache: int = 2 << 30,
    ) -> None:
        infrared, visible = _by_stem(Path(ir_dir)), _by_stem(Path(vis_dir))
        orphans = sorted(infrared.keys() ^ visible.keys())
        if orphans:
            first = orphans[0]
            there, missing = (ir_dir, vis_dir) if first in infrared else (vis_dir, ir_dir)
            raise ValueError(
                f"{len(orphans)} images have no partner of the same stem; {first!r} is in "
                f"{os.fspath(there)!r} but not in {os.fspath(missing)!r}: rename it or move it away"
            )
        unknown = sorted({*(only or ()), *without} - infrared.keys())
        if unknown:
            raise ValueError(f"no pair is called {unknown[0]!r} in {os.fspath(ir_dir)!r}")
        self.stems = [
            stem
            for stem in sorted(infrared)
            if stem not in without and (only is None or stem in only)
        ]
        if not self.stems:
            raise ValueError(f"no pairs are left of the {len(infrared)} in {os.fspath(ir_dir)!r}")
        self._files = {stem: (infrared[stem], visible[stem]) for stem in self.stems}
        self._range: Range | None = range
        self._room = cache
        self._decoded: dict[int, Pair] = {}
        self._align = align
        self._places: dict[str, Place] = {}
        self.confidence: dict[str, float] = {}
        self.dropped: list[str] = []
        if align is not None:
            self._find_places(align)

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> Pair:
        """Returns one pair, decoded at most once if the cache has room."""
        if index not in self._decoded:
            pair = self._decode(index)
            size = sum(image.numel() * image.element_size() for image in pair.values())
            if size > self._room:
                return pair
            self._room -= size
            self._decoded[index] = pair
        return dict(self._decoded[index])

    def _find_places(self, align: Aligner) -> None:
        bar: Any = tqdm(self.stems, desc="aligning", unit="pair", name="umfuse.align")
        for stem in bar:
            place = align.find(*self._read(stem))
            self.confidence[stem] = float(place.confidence)
            if align.usable(place):
                self._places[stem] = place
            else:
                self.dropped.append(stem)
        self.stems = list(self._places)
        if self.dropped:
            logger.warning(
                "%d of %d pairs are left out, since they could not be aligned (confidence below "
                "%.2f, or no overlap): %s",
                len(self.dropped),
                len(self.confidence),
                align.least,
                ", ".join(f"{stem} ({self.confidence[stem]:.2f})" for stem in self.dropped),
            )
        if not self.stems:
            raise ValueError(
                f"none of {len(self.dropped)} pairs could be aligned: look at one with "
                "umfuse.register, or lower the aligner's `least`"
            )

    def _decode(self, index: int) -> Pair:
        stem = self.stems[index]
        infrared, visible = self._read(stem)
        source = (infrared.shape[-2], infrared.shape[-1])
        target = (visible.shape[-2], visible.shape[-1])
        if self._align is not None:
            infrared, visible = self._align.apply(self._places[stem], infrared, visible)
        elif source != target:
            resized = geometry.project_grid(geometry.resize_transform(target, source), target)
            infrared = geometry.sample(infrared, resized)[0]
        return {"infrared": infrared[0].contiguous(), "visible": visible[0].contiguous()}

    def _read(self, stem: str) -> tuple[Tensor, Tensor]:
        ir_file, vis_file = self._files[stem]
        infrared = images.read(ir_file, name="infrared", range=self._range)
        return infrared.luma, images.read(vis_file, name="visible").rgb


@dataclass(frozen=True)
class Photometric:
    """How far one modality's looks may change. Zeros change nothing.

    Attributes:
        gamma: The exponent lies in ``[exp(-gamma), exp(gamma)]``.
        contrast: The factor about the mean lies in ``[1 - contrast, 1 + contrast]``.
        brightness: The offset lies in ``[-brightness, brightness]``.
        noise: Largest standard deviation of the Gaussian noise.
        blur: Largest sigma of the Gaussian blur, pixels.
        invert: How often light and dark change places.
        grey: How often colour is lost.
        curve: How often grey levels go through a random curve, which need not rise: as different
            as two sensors see one thing.
    """

    gamma: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    invert: float = 0.0
    grey: float = 0.0
    curve: float = 0.0

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Returns the image ``(C, H, W)`` with other looks, in [0, 1]."""
        draws = [2 * float(draw) - 1 for draw in torch.rand(7, generator=generator)]
        image = image.clamp(0, 1)
        if self.blur:
            image = _blur(image, abs(draws[4]) * self.blur)
        if (draws[6] + 1) / 2 < self.grey and len(image) == 3:
            image = luma(image[None])[0].expand_as(image)
        if self.curve and float(torch.rand((), generator=generator)) < self.curve:
            image = _curve(image, generator)
        if (draws[5] + 1) / 2 < self.invert:
            image = 1 - image
        if self.gamma:  # a blurred white may be a rounding above 1, and inverted below 0
            image = image.clamp(0, 1) ** math.exp(draws[0] * self.gamma)
        if self.contrast or self.brightness:
            mean = image.mean()
            image = (image - mean) * (1 + draws[1] * self.contrast) + mean
            image = image + draws[2] * self.brightness
        if self.noise:
            noise = torch.randn(image.shape, generator=generator).to(image.device)
            image = image + abs(draws[3]) * self.noise * noise
        return image.clamp(0, 1)


@dataclass(frozen=True)
class ViewConfig:
    """What a view of a pair is.

    Attributes:
        size: Height and width of the crop, pixels.
        scale: Lowest and highest factor by which the picture is resized before.
        flip: Whether half of the views are mirrored left to right.
        infrared: Looks of the infrared image.
        visible: Looks of the visible image.
        pseudo: Looks of the pseudo-infrared image, where pairs hold one.
    """

    size: tuple[int, int] = (192, 192)
    scale: tuple[float, float] = (0.7, 1.4)
    flip: bool = True
    infrared: Photometric = field(default_factory=Photometric)
    visible: Photometric = field(default_factory=Photometric)
    pseudo: Photometric = field(default_factory=Photometric)


class Views(Dataset[Pair]):
    """Gives random crops of pairs, without end: any number from 0 up is a view.

    Every run of ``len(pairs)`` views shows each pair once. Beside the images a view carries its
    ``"seed"``, from which tasks draw what else they need.

    Args:
        pairs: Pairs by number.
        config: What a view is.
        seed: Of the whole stream.
    """

    def __init__(self, pairs: Pairs, config: ViewConfig, seed: int = 0) -> None:
        if not len(pairs):
            raise ValueError("Views needs at least one pair, got none")
        self.pairs, self.config, self.seed = pairs, config, seed

    def __getitem__(self, index: int) -> Pair:
        """Returns view number ``index``: infrared, visible and seed."""
        epoch, place = divmod(index, len(self.pairs))
        order = torch.randperm(len(self.pairs), generator=_generator(self.seed, epoch, 1))
        pair = self.pairs[int(order[place])]
        generator = _generator(self.seed, index, 2)
        channels = [len(image) for image in pair.values()]
        crop = _crop(torch.cat(tuple(pair.values())), self.config, generator)
        crops = cast("tuple[Tensor, ...]", crop.split(channels))
        view: Pair = {}
        for name, image in zip(pair, crops, strict=True):
            looks: Photometric = getattr(self.config, name)
            view[name] = looks(image, generator)
        view["seed"] = torch.randint(2**62, (), generator=generator)
        return view


class Rendered(Dataset[Pair]):
    """Adds to every pair the ``"pseudo"`` infrared image (1, H, W) that a CPSTN makes of it.

    It is rendered once, from the whole picture as in use, and kept.

    Args:
        pairs: Pairs by number.
        network: The trained CPSTN.
    """

    def __init__(self, pairs: Pairs, network: nn.Module) -> None:
        self.pairs, self.network = pairs, network
        self._rendered: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        """Returns one pair with its pseudo-infrared image."""
        pair = self.pairs[index]
        if index not in self._rendered:
            with torch.inference_mode():
                self._rendered[index] = self.network(pair["visible"][None])[0].float().clone()
        return {**pair, "pseudo": self._rendered[index]}


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is not a folder of images")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files:
            raise ValueError(f"{str(path)!r} and {files[path.stem].name!r} share a stem")
        files[path.stem] = path
    if not files:
        raise ValueError(f"{str(folder)!r} holds no image; known suffixes: {sorted(SUFFIXES)}")
    return files


def _generator(*key: int) -> torch.Generator:
    # Mixed, since generators of neighbouring seeds start with similar draws.
    mixed = 0
    for part in key:
        mixed = (mixed * 0x9E3779B97F4A7C15 + part * 0xBF58476D1CE4E5B9 + 0x94D049BB) % 2**63
        mixed ^= mixed >> 29
    return torch.Generator().manual_seed(mixed)


def _crop(image: Tensor, config: ViewConfig, generator: torch.Generator) -> Tensor:
    """Returns a random crop of (C, H, W), resized to the size of a view in one step."""
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


def _curve(image: Tensor, generator: torch.Generator) -> Tensor:
    """Sends grey levels through a line with 3 to 6 random knots over their range."""
    knots = int(torch.randint(3, 7, (), generator=generator))
    levels = torch.rand(knots, generator=generator).to(image.device)
    low, high = image.amin(), image.amax()
    place = (image - low) / (high - low).clamp_min(1e-3) * (knots - 1)
    left = place.long().clamp(0, knots - 2)
    return torch.lerp(levels[left], levels[left + 1], (place - left).clamp(0, 1))


def _blur(image: Tensor, sigma: float) -> Tensor:
    """Returns (C, H, W) blurred by a Gaussian, if its sigma is large enough to matter."""
    return image if sigma < 0.3 else filters.blur(image[None], sigma)[0]

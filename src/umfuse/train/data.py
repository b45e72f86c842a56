"""Pairs of images from folders, whole.

A `PairDataset` gives pairs, `Rendered` adds the pseudo-infrared image to each. What training looks
at are `umfuse.train.Crops` of them.
"""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.utils import tqdm
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset
from typing_extensions import Self

from umfuse import geometry, images, pairing
from umfuse.images import Range
from umfuse.train.align import Aligner, Place
from umfuse.train.types import Pair, Pairs

logger = logging.getLogger(__name__)

ROOM = 2 << 30  # bytes of images that a dataset keeps in memory if nothing else is said


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
        pair: How the images are paired, a rule of `umfuse.pairing`; by default by stem.
        only: Stems to keep; None keeps all.
        without: Stems to leave out, such as those held out for validation.
        align: Brings pairs on one grid that are not.
        ir_range: Which infrared values become 0 and 1, as in `umfuse.images.read`.
        vis_range: The same for the visible images.
        cache: Bytes of decoded images to keep in memory; pairs beyond it are decoded each time.

    Attributes:
        stems: Of the pairs, in their order.
        align: What aligns the pairs; None where they are taken for registered.
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
        pair: str | None = None,
        only: Sequence[str] | None = None,
        without: Sequence[str] = (),
        align: Aligner | None = None,
        ir_range: Range | None = None,
        vis_range: Range | None = None,
        cache: int = ROOM,
    ) -> None:
        folders = Path(ir_dir), Path(vis_dir)
        for folder in folders:
            if not folder.is_dir():
                raise ValueError(f"{str(folder)!r} is not a folder of images")
        files, problems = pairing.find(*folders, pair)
        if problems:
            raise ValueError(
                f"{len(problems)} images cannot be paired: {problems[0]}; rename it or move it away"
            )
        unknown = sorted({*(only or ()), *without} - files.keys())
        if unknown:
            raise ValueError(f"no pair is called {unknown[0]!r} in {os.fspath(ir_dir)!r}")
        self.stems = [
            stem for stem in files if stem not in without and (only is None or stem in only)
        ]
        if not self.stems:
            raise ValueError(f"no pairs are left of the {len(files)} in {os.fspath(ir_dir)!r}")
        self._files = files
        self._ranges: tuple[Range | None, Range | None] = (ir_range, vis_range)
        self._room = cache
        self._decoded = _Cache(cache)
        self._places: dict[str, Place] = {}
        self.align: Aligner | None = None
        self.confidence: dict[str, float] = {}
        self.dropped: list[str] = []
        if align is not None:
            self._find_places(align)

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> Pair:
        """Returns one pair, decoded at most once if the cache has room."""
        return self._decoded.get(index, lambda: self._decode(index))

    def aligned(self, aligner: Aligner) -> Self:
        """Returns the same pairs, brought on one grid by an aligner as ``align`` would.

        Raises:
            ValueError: If it can align none.
        """
        other = copy.copy(self)
        other._decoded = _Cache(self._room)
        other._find_places(aligner)
        return other

    def _find_places(self, align: Aligner) -> None:
        self.align, self._places, self.confidence, self.dropped = align, {}, {}, []
        bar: Any = tqdm(self.stems, desc="aligning", unit="pair", name="umfuse.align")
        for stem in bar:
            place = align.find(*self.as_read(stem))
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
        infrared, visible = self.as_read(stem)
        source = (infrared.shape[-2], infrared.shape[-1])
        target = (visible.shape[-2], visible.shape[-1])
        if self.align is not None:
            infrared, visible = self.align.apply(self._places[stem], infrared, visible)
        elif source != target:
            resized = geometry.project_grid(geometry.resize_transform(target, source), target)
            infrared = geometry.sample(infrared, resized)[0]
        return {"infrared": infrared[0].contiguous(), "visible": visible[0].contiguous()}

    def as_read(self, stem: str) -> tuple[Tensor, Tensor]:
        """Returns a pair as its files have it, of sizes of their own; also one that was dropped.

        Args:
            stem: The name of the pair.

        Returns:
            Infrared ``(1, 1, h, w)`` and visible ``(1, 3, H, W)`` in [0, 1].
        """
        (ir_file, vis_file), (ir_range, vis_range) = self._files[stem], self._ranges
        infrared = images.read(ir_file, name="infrared", range=ir_range)
        return infrared.luma, images.read(vis_file, name="visible", range=vis_range).rgb


class Rendered(Dataset[Pair]):
    """Adds to every pair the ``"pseudo"`` infrared image (1, H, W) that a CPSTN makes of it.

    It is rendered once, from the whole picture as in use, where the network is, and kept on the CPU
    as long as there is room.

    Args:
        pairs: Pairs by number.
        network: The trained CPSTN.
        cache: Bytes of rendered images to keep in memory; those beyond it are rendered each time.
    """

    def __init__(self, pairs: Pairs, network: nn.Module, *, cache: int = ROOM) -> None:
        self.pairs, self.network = pairs, network
        self._rendered = _Cache(cache)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        """Returns one pair with its pseudo-infrared image."""
        pair = self.pairs[index]
        return {**pair, **self._rendered.get(index, lambda: self._render(pair["visible"]))}

    def _render(self, visible: Tensor) -> Pair:
        device = next((weight.device for weight in self.network.parameters()), visible.device)
        return {"pseudo": self.network(visible[None].to(device))[0].float().cpu()}


def hold_out(pairs: Pairs, share: float) -> tuple[Pairs, Pairs | None]:
    """Splits pairs into those to train on and those to validate on, evenly spread.

    Args:
        pairs: Pairs by number.
        share: Of the second, from 0 to below 1; 0 holds out none.

    Raises:
        ValueError: If there is no such share, or it is less than a pair.
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share that is held out must be in [0, 1), got {share}")
    if not share:
        return pairs, None
    step = max(2, round(1 / share))
    every = range(len(pairs))
    held = every[step // 2 :: step]
    if not held:
        raise ValueError(f"a share of {share} of {len(pairs)} pairs is none: hold out more, or 0")
    dataset = cast("Dataset[Pair]", pairs)
    rest = Subset(dataset, [index for index in every if index not in held])
    return rest, Subset(dataset, held)


class _Cache:
    """Images that took a while to make: the first ones are kept, up to a number of bytes."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._kept: dict[int, Pair] = {}

    def get(self, index: int, make: Callable[[], Pair]) -> Pair:
        """Returns what is kept under a number, or else what is made."""
        if index in self._kept:
            return dict(self._kept[index])
        with torch.inference_mode(mode=False), torch.no_grad():  # training can use what it keeps
            made = make()
        size = sum(image.numel() * image.element_size() for image in made.values())
        if size <= self._room:
            self._room -= size
            self._kept[index] = made
        return dict(made)

"""Pairs of two cameras that are not registered, brought on one grid before training.

What `Aligner` finds about a pair is a transform and, with a model, what is left after it: little
enough to keep. The infrared image is resampled once, from its own pixels, and both images are cut
to the largest rectangle that both cameras saw, so that whatever trains on the pair need not know.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, cast

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from umfuse import borders, files, filters, geometry, resampling, search
from umfuse.pipeline import Umfuse

logger = logging.getLogger(__name__)

CELLS = 64  # on the longer side of the mask in which the rectangle is sought
STRIDE = 4  # pixels of the visible grid in one of the displacement that is kept
SMALLEST = 32  # pixels: a rectangle with a smaller side is no pair to train on


class Place(NamedTuple):
    """Where an infrared image lies on the visible one of its pair.

    Attributes:
        transform: ``(3, 3)`` float64, pixel of the reduced visible image to infrared pixel.
        displacement: ``(1, 2, h, w)`` pixels of a grid a `STRIDE`-th of the reduced visible one,
            after the transform; zeros of ``(1, 2, 1, 1)`` from search alone.
        rectangle: ``(4,)``: top, left, height and width of what both cameras saw, in pixels of the
            reduced visible image.
        confidence: ``()`` in [0, 1]; low means "do not trust this".
    """

    transform: Tensor
    displacement: Tensor
    rectangle: Tensor
    confidence: Tensor


@dataclass(frozen=True, eq=False)
class Aligner:
    """Aligns pairs that are not registered, for `PairDataset`.

    What is left after it is a few pixels (the figures are in the README): terms that need no known
    displacement can train on that, such as Eq. 13.

    Attributes:
        model: Aligns with its whole pipeline; None uses search alone, which needs no weights.
        least: Confidence below which a pair is dropped.
        longest: Longer side in pixels to which larger visible images are reduced; None keeps them.
        folder: Where to keep what was found, so that the next run need not search again.
    """

    model: Umfuse | None = None
    least: float = 0.3
    longest: int | None = 640
    folder: str | os.PathLike[str] | None = None

    def find(self, infrared: Tensor, visible: Tensor) -> Place:
        """Finds the place of one pair, or looks it up.

        Args:
            infrared: ``(1, 1, h, w)`` in [0, 1], as the camera gave it.
            visible: ``(1, 3, H, W)`` in [0, 1].
        """
        # What is found outlives the caller's inference mode.
        with torch.inference_mode(mode=False), torch.no_grad():
            return self._find(infrared, visible)

    def _find(self, infrared: Tensor, visible: Tensor) -> Place:
        if self.folder is None:
            return self._search(infrared, visible)
        path = Path(self.folder) / f"{self._key(infrared, visible)}.safetensors"
        try:
            return Place(**safetensors.torch.load_file(path))
        except (OSError, SafetensorError, TypeError):
            logger.debug("%s is not there yet", path)
        place = self._search(infrared, visible)
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path) as file:
            file.write(safetensors.torch.save(place._asdict()))
        return place

    def usable(self, place: Place) -> bool:
        """Says whether a pair is aligned well enough, and overlaps enough, to train on."""
        return float(place.confidence) >= self.least and int(place.rectangle[2:].min()) >= SMALLEST

    def apply(self, place: Place, infrared: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the pair on one grid, cut to what both cameras saw.

        Args:
            place: What `find` gave for this pair.
            infrared: ``(1, 1, h, w)``.
            visible: ``(1, 3, H, W)``.

        Returns:
            ``(1, 1, height, width)`` and ``(1, 3, height, width)``.
        """
        visible = self._reduce(visible)
        size = (visible.shape[-2], visible.shape[-1])
        field = geometry.resize_field(place.displacement, size)
        coordinates = geometry.project(place.transform, geometry.to_coordinates(field))
        registered, _ = resampling.resample(infrared, coordinates)
        top, left, height, width = cast("list[int]", place.rectangle.tolist())
        rows, columns = slice(top, top + height), slice(left, left + width)
        return registered[..., rows, columns], visible[..., rows, columns]

    def _search(self, infrared: Tensor, visible: Tensor) -> Place:
        reduced = self._reduce(visible)
        size = (reduced.shape[-2], reduced.shape[-1])
        if self.model is None:
            found = search.find_transform(infrared, filters.luma(reduced))
            transform, confidence = found.transform, found.confidence
            displacement = torch.zeros(1, 2, 1, 1)
        else:
            device = self.model.device
            alignment, (found,) = self.model.register(infrared.to(device), reduced.to(device))
            transform, confidence = alignment.transform[0], found.confidence
            strided = (-(-size[0] // STRIDE), -(-size[1] // STRIDE))
            displacement = geometry.resize_field(alignment.field.cpu(), strided)
        coordinates = geometry.project(
            transform, geometry.to_coordinates(geometry.resize_field(displacement, size))
        )
        image, places = borders.inner(infrared, coordinates, borders.content(infrared))
        valid = geometry.inside(places, (image.shape[-2], image.shape[-1]))
        rectangle = torch.tensor(largest_rectangle(valid[0, 0]))
        return Place(transform, displacement, rectangle, torch.tensor(confidence))

    def _reduce(self, visible: Tensor) -> Tensor:
        height, width = visible.shape[-2:]
        longest = max(height, width)
        if self.longest is None or longest <= self.longest:
            return visible
        size = [max(8, round(side * self.longest / longest)) for side in (height, width)]
        return F.interpolate(visible, size, mode="bilinear", antialias=True)

    def _key(self, infrared: Tensor, visible: Tensor) -> str:
        """Returns a name for a pair and for how its place is found."""
        digest = hashlib.sha256(self._manner)
        for image in (infrared, visible):
            digest.update(str(tuple(image.shape)).encode())
            digest.update(image.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def _manner(self) -> bytes:
        """All that the result depends on beside the pair."""
        digest = hashlib.sha256()
        if self.model is not None:
            digest.update(json.dumps(self.model.config.to_dict(), sort_keys=True).encode())
            for name, value in self.model.state_dict().items():
                digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        version = importlib.metadata.version("umfuse")
        return f"{version} {self.longest} {digest.hexdigest()}".encode()


def largest_rectangle(valid: Tensor) -> tuple[int, int, int, int]:
    """Returns top, left, height and width of about the largest rectangle that is valid throughout.

    It is sought among whole cells of a `CELLS`-th of the longer side. Zeros where no cell is valid.

    Args:
        valid: ``(H, W)`` bool.
    """
    height, width = valid.shape
    side = -(-max(height, width) // CELLS)
    cells = -F.max_pool2d(-valid.float()[None], side, ceil_mode=True)[0]
    best, area = (0, 0, 0, 0), 0
    above = [0] * cells.shape[1]  # valid cells upwards from this one, of each column
    for row, line in enumerate(cast("list[list[float]]", cells.tolist())):
        above = [count + 1 if free else 0 for count, free in zip(above, line, strict=True)]
        for left in range(len(above)):
            tall = above[left]
            for right in range(left, len(above)):
                tall = min(tall, above[right])
                if not tall:
                    break
                down, across = min(height, (row + 1) * side), min(width, (right + 1) * side)
                top, start = (row + 1 - tall) * side, left * side
                if (down - top) * (across - start) > area:
                    area = (down - top) * (across - start)
                    best = (top, start, down - top, across - start)
    return best

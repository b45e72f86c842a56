"""`Rig`: two cameras that do not move against each other, frame after frame."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from umfuse import api, geometry, registering, resampling, search, sources
from umfuse.api import Device, Fusion, RegistrationLike, WeightsLike
from umfuse.images import Band, Channels, ImageLike, Picture, Range
from umfuse.networks.difn import global_means
from umfuse.pipeline import DOUBTFUL, Umfuse
from umfuse.registering import Judge
from umfuse.registration import Registration
from umfuse.search import Known

logger = logging.getLogger(__name__)

Numbers: TypeAlias = NDArray[np.float64]

# A fall of the evidence below this part of what it was is looked into if it lasts for some frames:
# 2 px cost about half of it, and one frame may show nothing.
FALLEN, FRAMES = 0.6, 3
GAIN = 10.0  # log-likelihood by which another alignment must be better than the one in use
NEAR = 0.3  # infrared pixels: alignments that differ by less are one
SLEW = 1e-4  # a frame: how far the brightness that DIFN is told may move


class Rig:
    """Fuses the frames of two cameras that do not move against each other.

    The first frames are registered one by one; the median of what they say, weighed by their
    confidence, is the alignment from then on, and a frame costs no more than resampling and fusion.
    Every few frames the pair is asked whether it still agrees. If it does not for a while, the
    alignment is found anew, and taken if it explains the pair clearly better. One frame that shows
    nothing, such as the closed shutter of a thermal camera, changes nothing.

    Which infrared values are black and white is settled by the first frames too, and the brightness
    that the network sees moves slowly: a hot object that enters leaves the rest as it was.

    Frames are given in order, all of one size.

    Args:
        frames: How many are registered to find the alignment.
        check_every: How many frames lie between two looks at whether it still holds.
        registration: An alignment to begin with, as in `umfuse.fuse`; then no frame is registered
            until it no longer holds.
        fov: As in `umfuse.register`.
        rotation: As in `umfuse.register`.
        mirror: As in `umfuse.register`.
        min_confidence: Frames whose alignment has less count for nothing; while there is no other,
            the infrared image is only resized.
        ir_range: As in `umfuse.register`. What is taken from the image is that of the first frames.
        vis_range: As in `umfuse.register`.
        nodata: As in `umfuse.register`.
        band: As in `umfuse.register`.
        vis_band: As in `umfuse.register`.
        channels: As in `umfuse.register`.
        weights: As in `umfuse.load`, or a model that was loaded before.
        device: As in `umfuse.load`; not together with a model.

    Raises:
        ValueError: If an option cannot be used.
        OSError: If the weights cannot be loaded.
    """

    def __init__(
        self,
        *,
        frames: int = 8,
        check_every: int = 25,
        registration: RegistrationLike | None = None,
        fov: float | tuple[float, float] | None = None,
        rotation: float | tuple[float, float] | None = None,
        mirror: bool | None = None,
        min_confidence: float = DOUBTFUL,
        ir_range: Range | None = None,
        vis_range: Range | None = None,
        nodata: float | None = None,
        band: int | None = None,
        vis_band: Band | None = None,
        channels: Channels = "rgb",
        weights: WeightsLike | None = None,
        device: Device | None = None,
    ) -> None:
        if frames < 1 or check_every < 1:
            raise ValueError(
                f"frames and check_every must be at least 1, got {frames} and {check_every}"
            )
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence must lie in [0, 1], got {min_confidence}")
        if isinstance(weights, Umfuse) and device is not None:
            raise ValueError("device is for weights that are loaded here: move the model instead")
        self.frames = frames
        self.check_every = check_every
        self.min_confidence = min_confidence
        self._known = Known(fov, rotation, mirror)
        self._reading: dict[str, Any] = {
            "ir_range": ir_range,
            "vis_range": vis_range,
            "nodata": nodata,
            "band": band,
            "vis_band": vis_band,
            "channels": channels,
        }
        self._model = weights if isinstance(weights, Umfuse) else api.load(weights, device=device)
        self._given = registration
        self._sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
        self._ranges: list[tuple[float, float]] = []
        self._levels: Tensor | None = None  # (1, 2, 1, 1), what DIFN is told
        self._placed: Registration | None = None
        self._coordinates: Tensor | None = None  # of `_placed`, on the device
        self._found: list[Registration] = []  # of the frames of a search that goes on
        self._gains: list[float] = []  # of their alignments over the one in use
        self._left = 0 if registration is not None else frames  # frames still to be registered
        self._usual: list[float] = []  # evidence of the first frames with this alignment
        self._fallen = 0  # frames in a row whose evidence was too low
        self._next = 0  # frames until the next look

    @property
    def registration(self) -> Registration | None:
        """The alignment in use; None before one is found. It may be saved, and given again."""
        return self._placed

    def fuse(self, ir: ImageLike, vis: ImageLike) -> Fusion:
        """Fuses the next frame.

        Args:
            ir: Infrared image, as `umfuse.fuse` takes it.
            vis: Visible image, as `umfuse.fuse` takes it.

        Raises:
            TypeError: If an image is of a kind that cannot be read.
            ValueError: If an image cannot be used, or has another size than the frames before.
            OSError: If a file cannot be read.
        """
        return self._fused(*self._looked(ir, vis))

    def look(self, ir: ImageLike, vis: ImageLike) -> None:
        """Does with a frame what `fuse` does, but does not fuse it.

        So the first frames of a recording can be looked at before the first is fused: then all of
        them have one alignment.

        Args:
            ir: Infrared image, as `umfuse.fuse` takes it.
            vis: Visible image, as `umfuse.fuse` takes it.

        Raises:
            TypeError: As `fuse`.
            ValueError: As `fuse`.
            OSError: As `fuse`.
        """
        self._told(*self._looked(ir, vis))

    def _looked(self, ir: ImageLike, vis: ImageLike) -> tuple[Picture, Picture]:
        infrared, visible, _ = sources.read(ir, vis, **self._reading)
        self._check(infrared, visible)
        infrared = self._ranged(infrared)
        if not any(search.is_constant(picture.luma) for picture in (infrared, visible)):
            if self._left:
                self._search(infrared, visible)
            elif self._next == 0:
                self._watch(infrared, visible)
            else:
                self._next -= 1
        return infrared, visible

    def _check(self, infrared: Picture, visible: Picture) -> None:
        sizes = infrared.size, visible.size
        if self._sizes is None:
            self._sizes = sizes
            if self._given is not None:
                self._use(api.as_registration(self._given, *sizes))
        elif sizes != self._sizes:
            raise ValueError(
                f"expected frames of {self._sizes[0]} and {self._sizes[1]} (height, width), as the "
                f"first ones, got {sizes[0]} and {sizes[1]}; begin another Rig for them"
            )

    def _ranged(self, infrared: Picture) -> Picture:
        """Returns a frame with the range of the first ones."""
        if len(self._ranges) < self.frames and not search.is_constant(infrared.luma):
            low = float(infrared.low)
            self._ranges.append((low, low + float(infrared.span)))
        if not self._ranges:
            return infrared
        low, high = (statistics.median(ends) for ends in zip(*self._ranges, strict=True))
        ends = torch.full_like(infrared.low, low), torch.full_like(infrared.span, high - low)
        return replace(infrared, low=ends[0], span=ends[1])

    def _search(self, infrared: Picture, visible: Picture) -> None:
        """Registers a frame, and uses the median of those that were."""
        found = registering.from_nothing(self._model, infrared, visible, self._known)
        self._left -= 1
        if found.confidence >= self.min_confidence:
            self._found.append(replace(found, _picture=None, _visible=None))
            if self._usual and self._placed is not None:  # the alignment in use is to be replaced
                evidence, _ = Judge(infrared, visible).of(self._placed)
                self._gains.append(found.log_likelihood - evidence)
        if not self._usual:
            if self._found:
                self._use(consensus(self._found))
        elif self._left == 0:
            better = self._gains and statistics.median(self._gains) > GAIN
            if better and self._placed is not None:
                merged = consensus(self._found)
                moved = np.linalg.norm(merged.coordinates - self._placed.coordinates, axis=-1)
                if float(np.median(moved)) > NEAR:
                    logger.warning("the cameras have moved: the alignment is found anew")
                    self._use(merged)
            self._usual = []  # what the pair shows now is usual
        if self._left == 0:
            if not self._found and self._placed is None:
                logger.warning(
                    "none of %d frames could be aligned: the infrared images are only resized",
                    self.frames,
                )
                self._left = self.frames
            self._found, self._gains, self._fallen, self._next = [], [], 0, 0

    def _watch(self, infrared: Picture, visible: Picture) -> None:
        """Asks a frame whether the alignment still holds."""
        assert self._placed is not None
        evidence, _ = Judge(infrared, visible).of(self._placed)
        if len(self._usual) < FRAMES:
            self._usual.append(evidence)
            return
        if evidence >= FALLEN * statistics.median(self._usual):
            self._fallen, self._next = 0, self.check_every - 1
            return
        self._fallen += 1  # and the next frame is asked, too
        if self._fallen >= FRAMES:
            self._left = self.frames

    def _use(self, registration: Registration) -> None:
        self._placed = registration
        self._coordinates = registration.tensor(self._model.device)

    def _fused(self, infrared: Picture, visible: Picture) -> Fusion:
        placed, coordinates = self._alignment(infrared, visible)
        device = self._model.device
        with torch.no_grad(), self._model.autocast(deep=visible.form.deep):
            fused = self._model.fuse_content(
                infrared.luma.to(device),
                visible.luma.to(device),
                coordinates,
                placed.content,
                None if infrared.missing is None else infrared.missing.to(device),
                self._told(infrared, visible),
            )
        registration = registering.holding(placed, infrared, visible)
        luma = fused[0, 0].cpu().numpy()
        return Fusion(visible.fused(fused), luma, registration, visible.form)

    def _alignment(self, infrared: Picture, visible: Picture) -> tuple[Registration, Tensor]:
        """Returns the alignment to use, and where it sends the visible pixels."""
        if self._placed is not None and self._coordinates is not None:
            return self._placed, self._coordinates
        placed = registering.resized(infrared.size, visible.size, self._known)
        return placed, placed.tensor(self._model.device)

    def _told(self, infrared: Picture, visible: Picture) -> Tensor:
        """Returns how bright DIFN is told that the images are, ``(1, 2, 1, 1)``."""
        # Every fourth pixel: a mean needs no more.
        coordinates = self._alignment(infrared, visible)[1][..., ::4, ::4]
        grey = visible.luma.to(coordinates.device)[..., ::4, ::4]
        if search.is_constant(infrared.luma):
            return global_means(grey, grey) if self._levels is None else self._levels
        moved, valid = resampling.resample(infrared.luma.to(grey.device), coordinates)
        levels = global_means(torch.where(valid, moved, grey), grey)
        if self._levels is not None:
            change = levels - self._levels
            share = 1 / (len(self._ranges) + 1)  # the mean of the first frames
            settled = len(self._ranges) == self.frames
            levels = self._levels + (change.clamp(-SLEW, SLEW) if settled else share * change)
        self._levels = levels
        return levels


def consensus(found: Sequence[Registration]) -> Registration:
    """Returns the median of registrations of frames of one rig, weighed by their confidence.

    The median is taken of where the points of a grid over the visible image are sent, each
    coordinate by itself; a homography is fitted to it, and what remains is the field.

    Args:
        found: At least one, of images of the same sizes. NaN as confidence counts as 1.
    """
    best = max(found, key=lambda one: np.nan_to_num(one.confidence, nan=1.0))
    if len(found) == 1:
        return best
    height, width = best.visible_size
    rows, columns = (max(17, max(one.field.shape[axis] for one in found)) for axis in (0, 1))
    # Of cells of a grid over the image, as a field has them.
    ys = (np.arange(rows) + 0.5) * height / rows - 0.5
    xs = (np.arange(columns) + 0.5) * width / columns - 0.5
    points = np.stack(np.meshgrid(xs, ys), -1)
    seen = np.stack([one.map_points(points) for one in found])
    weights = np.nan_to_num([one.confidence for one in found], nan=1.0)
    places = _weighted_median(seen, weights + 1e-9)
    as_tensors = (torch.from_numpy(one).movedim(-1, 0)[None] for one in (points, places))
    grid, target = as_tensors
    transform = geometry.fit_homography(grid, target)
    back = geometry.project(transform[0].inverse(), target)
    field = (back - grid)[0].movedim(0, -1).float().contiguous().numpy()
    return replace(best, transform=transform[0].numpy(), field=field)


def _weighted_median(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Returns the weighted median along the first axis; between two, their mean by weight."""
    order = np.argsort(values, axis=0)
    values = np.take_along_axis(values, order, axis=0)
    ranked = np.cumsum(weights[order], axis=0) - 0.5 * weights[order]
    half = 0.5 * weights.sum()
    after = np.clip((ranked < half).sum(0), 1, len(values) - 1)[None]
    low, high = (np.take_along_axis(values, at, axis=0)[0] for at in (after - 1, after))
    left, right = (np.take_along_axis(ranked, at, axis=0)[0] for at in (after - 1, after))
    share = np.clip((half - left) / np.maximum(right - left, 1e-12), 0, 1)
    return low + share * (high - low)

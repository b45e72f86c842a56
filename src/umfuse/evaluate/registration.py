"""How well infrared images are registered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor

from umfuse import api, draw, geometry, metrics, resampling
from umfuse.draw import Displayable
from umfuse.evaluate.dataset import read_displacement, read_homographies
from umfuse.evaluate.report import Metric, Scores
from umfuse.evaluate.scorer import Files, Ranges, by_head, check_size, described, numbers, shown
from umfuse.images import Picture
from umfuse.pipeline import Umfuse

BORDER = 8  # pixels on each side that are not the interior


class Truth(Protocol):
    """Where the pixels of ``ir`` are in the images that a method is given."""

    head: str
    metric: Metric

    def error(self, name: str, coordinates: Tensor) -> Tensor:
        """Returns the mean distance to the truth, pixels of the input.

        Args:
            name: Of the pair.
            coordinates: ``(1, 2, H, W)``, the pixel of the input that each pixel of ``ir`` is
                said to be at.

        Raises:
            ValueError: If there is no truth of this name or it is for another size.
            OSError: If it cannot be read.
        """
        ...


class Displacements:
    """The truth of deformed images: a field each, see `read_displacement`.

    Args:
        folder: Of the fields.
    """

    head = "EPE (px)"
    metric = described(metrics.end_point_error, "lower", pixels=True)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def error(self, name: str, coordinates: Tensor) -> Tensor:
        """Returns the end-point error where the truth holds; see `Truth.error`."""
        truth, valid = read_displacement(self.folder / f"{name}.npz")
        grid = geometry.identity_grid(coordinates.shape[-2], coordinates.shape[-1])
        return metrics.end_point_error(coordinates - grid, truth, valid)


class Homographies:
    """The truth of raw images: a transform each, see `read_homographies`.

    Args:
        path: Of the table.
    """

    head = "grid error (px)"
    metric = described(metrics.grid_error, "lower", pixels=True)

    def __init__(self, path: Path) -> None:
        self.path, self.transforms = path, read_homographies(path)

    def error(self, name: str, coordinates: Tensor) -> Tensor:
        """Returns the error on a grid of 9 x 9 points; see `Truth.error`."""
        if name not in self.transforms:
            raise ValueError(f"{self.path} does not hold {name}")
        size = (coordinates.shape[-2], coordinates.shape[-1])
        return metrics.grid_error(coordinates, self.transforms[name], size)


def truth_of(dataset: Path, input: str) -> Truth | None:
    """Returns the truth of a folder of a data set, None if there is none.

    Raises:
        ValueError: If it is damaged.
        OSError: If it cannot be read.
    """
    if input == "ir_warp" and (dataset / "displacement").is_dir():
        return Displacements(dataset / "displacement")
    if input == "ir_raw" and (dataset / "homography.json").is_file():
        return Homographies(dataset / "homography.json")
    return None


class _Placed(NamedTuple):
    """An infrared image on the grid of ``ir``."""

    picture: Picture
    coordinates: Tensor | None = None
    """``(1, 2, H, W)`` pixels of the input, where they are known."""
    confidence: float | None = None


class RegistrationScorer:
    """Compares a registered infrared image with ``ir``, and the map behind it with the truth.

    Args:
        model: Registers ``input`` to ``vis``; None takes ``result``.
        truth: Of ``input``, if there is one. A result is an image without a map, so the truth is of
            use with a model alone.
        ranges: Of the images.
    """

    def __init__(self, model: Umfuse | None, truth: Truth | None, *, ranges: Ranges) -> None:
        self.model = model
        self.ranges = ranges
        self.truth = truth = None if model is None else truth
        self.metrics = by_head(metrics.REGISTRATION)
        for head, metric in list(self.metrics.items()):
            interior = f"{metric.definition} Without {BORDER} pixels on each side."
            self.metrics[_interior(head)] = replace(metric, definition=interior)
        if truth is not None:
            self.metrics[truth.head] = truth.metric
        if model is not None:
            self.metrics["confidence"] = Metric("Trust in the alignment, from 0 to 1.", "higher")
        self.rank_by = "NCC" if truth is None else truth.head

    def score(self, name: str, files: Files) -> dict[str, Scores]:
        """Returns the scores of the registered image and of the input; see `Scorer.score`."""
        reference, both = self._place(files)
        scores = dict[str, Scores]()
        for label, placed in both.items():
            found = dict[str, Tensor | float]()
            for border, named in ((0, str), (BORDER, _interior)):
                for head, of in metrics.REGISTRATION.items():
                    found[named(head)] = of(placed.picture.luma, reference.luma, border=border)
            if self.truth is not None and placed.coordinates is not None:
                found[self.truth.head] = self.truth.error(name, placed.coordinates)
            if placed.confidence is not None:
                found["confidence"] = placed.confidence
            scores[label] = numbers(found)
        return scores

    def draw(self, name: str, files: Files, caption: str) -> Image.Image:
        """Returns the images, and checkerboards of them before and after; see `Scorer.draw`."""
        reference, placed = self._place(files)
        color = self.ranges.visible(files["vis"])
        grid = geometry.project_grid(
            geometry.resize_transform(reference.size, color.size), reference.size
        )
        visible = resampling.resample(color.rgb, grid)[0][0].movedim(0, -1).numpy()
        panels: list[tuple[str, Displayable]] = [
            (f"visible: {name}", visible),
            ("infrared, aligned", shown(reference)),
        ]
        if "input" in files:
            panels.insert(1, ("infrared, as it came", shown(self.ranges.infrared(files["input"]))))
        for label, title in (("input", "before"), ("result", f"after, {caption}")):
            if label in placed:
                board = draw.checkerboard(shown(placed[label].picture), visible)
                panels.append((title, board))
        known = [one.coordinates for one in placed.values() if one.coordinates is not None]
        if len(known) == 2:  # before and after
            moved = (known[1] - known[0])[0].movedim(0, -1).numpy()
            panels.append(("displacement", draw.flow_color(moved)))
        return draw.sheet(panels)

    def _place(self, files: Files) -> tuple[Picture, dict[str, _Placed]]:
        """Returns the reference, and the images that are compared with it."""
        reference = self.ranges.infrared(files["ir"])
        size = reference.size
        placed = dict[str, _Placed]()
        if "input" in files:
            moving = self.ranges.infrared(files["input"])
            if isinstance(self.truth, Displacements):
                check_size(moving, reference, "deformed")
            plain = geometry.project_grid(geometry.resize_transform(size, moving.size), size)
            placed["input"] = _Placed(self._resample(moving, plain, reference), plain)
            if self.model is not None:
                found = api.register(
                    files["input"],
                    files["vis"],
                    ir_range=self.ranges.ir,
                    vis_range=self.ranges.vis,
                    weights=self.model,
                )
                coordinates = torch.from_numpy(found.coordinates).movedim(-1, 0)[None]
                coordinates = _on_grid(coordinates, size)
                picture = self._resample(moving, coordinates, reference)
                placed["result"] = _Placed(picture, coordinates, found.confidence)
        if self.model is None:
            placed["result"] = _Placed(self.ranges.infrared(files["result"], like=reference))
            check_size(placed["result"].picture, reference, "registered")
        return reference, placed

    def _resample(self, moving: Picture, coordinates: Tensor, reference: Picture) -> Picture:
        """Returns an image on the grid of the reference, rounded as in a file."""
        values, _ = resampling.resample(moving.planes, coordinates)
        return self.ranges.infrared(moving.give_back(values), like=reference)


def _interior(head: str) -> str:
    return f"{head}, interior"


def _on_grid(coordinates: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns coordinates ``(1, 2, H, W)`` as seen from another grid over the same picture."""
    own = (coordinates.shape[-2], coordinates.shape[-1])
    if own == size:
        return coordinates
    return geometry.sample(
        coordinates, geometry.project_grid(geometry.resize_transform(size, own), size)
    )[0]

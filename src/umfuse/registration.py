"""The alignment of a pair as people keep it: a few numbers and a small field."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from typing_extensions import override

from umfuse import borders, certainty, draw, files, geometry, images, registration_file, resampling
from umfuse.borders import Box
from umfuse.images import AnyImage, ImageLike, Picture
from umfuse.resampling import Places

Method = Literal["resize", "search", "dense", "matcher", "given"]
Interpolation = Literal["bilinear", "nearest"]

INVERSE_STEPS = 12  # of the fixed point that inverts the field


@dataclass(frozen=True, eq=False, repr=False)
class Registration:
    """The alignment of an infrared image with a visible one of ``(H, W)`` pixels.

    A visible pixel first moves by the `field`, then `transform` sends it to the infrared image.
    What has the size of an image is computed when it is first asked for.

    Attributes:
        transform: ``(3, 3)`` float64, the global part: visible pixel (x, y, 1) to infrared pixel.
        field: ``(h, w, 2)`` float32, the rest: (x, y) in visible pixels, on a coarse grid over the
            visible image.
        infrared_size: Height and width of the infrared image.
        visible_size: Height and width of the visible image.
        method: How far it went: ``"resize"`` (no better alignment was found), ``"search"`` (the
            transform is the best explanation), ``"dense"`` (refined by the network), ``"matcher"``
            (from the points of another matcher), ``"given"`` (by the caller).
        confidence: In [0, 1]; low means "do not trust this alignment". NaN if it was given. Where
            it is below the ``min_confidence`` of `umfuse.register`, transform and field are those
            of plain resizing (or of the guess), and the numbers here say why.
        log_likelihood: Log-likelihood ratio of the transform against chance.
        runner_up: Log posterior of the best clearly different transform.
        correlation: Of the orientation features where the images overlap, in [-1, 1].
        content: (top, left, bottom, right), the infrared pixels between constant bars; None if the
            image has no bars.
    """

    transform: NDArray[np.float64]
    field: NDArray[np.float32]
    infrared_size: tuple[int, int]
    visible_size: tuple[int, int]
    method: Method = "given"
    confidence: float = math.nan
    log_likelihood: float = math.nan
    runner_up: float = math.nan
    correlation: float = math.nan
    _picture: Picture | None = None
    content: Box | None = None
    _visible: Tensor | None = None

    @classmethod
    def from_transform(
        cls,
        transform: ArrayLike | Tensor,
        infrared_size: tuple[int, int],
        visible_size: tuple[int, int],
    ) -> Registration:
        """Returns the registration that a transform is.

        Args:
            transform: ``(3, 3)``, visible pixel (x, y, 1) to infrared pixel.
            infrared_size: Height and width.
            visible_size: Height and width.

        Raises:
            ValueError: If the transform is no finite, invertible 3x3.
        """
        if isinstance(transform, Tensor):
            transform = transform.detach().cpu().numpy()
        matrix = np.array(transform, dtype=np.float64)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise ValueError(
                f"expected a finite 3x3 transform from visible to infrared pixels, got shape "
                f"{matrix.shape}"
            )
        with np.errstate(all="ignore"):
            scaled = matrix / matrix[2, 2]
        held = (np.abs(scaled) < registration_file.LARGEST).all()  # not if NaN
        if not held or abs(np.linalg.det(scaled)) < 1e-12:
            raise ValueError(f"the transform {matrix.tolist()} cannot be inverted in float32")
        empty = np.zeros((1, 1, 2), dtype=np.float32)
        return cls(scaled, empty, infrared_size, visible_size)

    @cached_property
    def infrared(self) -> AnyImage:
        """The infrared image on the visible grid, in the kind, dtype and units that came in.

        Beside the infrared image its border is repeated, also over bars (`content`). Pixels without
        data stay without: NaN, masked, or of the value that was said to be none.

        Raises:
            ValueError: If the registration was loaded or given: it holds no image.
        """
        if self._picture is None:
            raise ValueError(
                "this registration holds no infrared image: pass one to Registration.apply"
            )
        return self._resampled(self._picture)

    @cached_property
    def certainty(self) -> NDArray[np.float32]:
        """``(H, W)`` float32 in [0, 1], how much the images support the alignment at each pixel.

        Around each pixel they are compared as they lie on each other, and with the infrared one
        moved by up to 4 % of what both show: 1 where they agree as they lie and nowhere else, 0
        where they agree better elsewhere, where nothing is to be seen that could agree, and where
        no infrared data is. It is looked at with a sharpness of about a tenth of the picture.

        Raises:
            ValueError: If the registration was loaded or given: it holds no images.
        """
        if self._picture is None or self._visible is None:
            raise ValueError(
                "this registration holds no images to compare: register them, with initial= if "
                "you have this one already"
            )
        box, visible = self.content or Box(0, 0, *self.infrared_size), self._visible.cpu()
        looks = places(self, grid=(visible.shape[-2], visible.shape[-1])).between(None, box)
        image = resampling.sampled(borders.part(self._picture.luma.cpu(), box), looks)
        found = certainty.of(image, visible, _valid(looks, box, self._picture.missing))
        if found.shape[-2:] != self.visible_size:
            found = F.interpolate(found, self.visible_size, mode="bilinear")
            found *= torch.from_numpy(self.valid_mask)
        return found[0, 0].clamp(0, 1).numpy()

    @property
    def coordinates(self) -> NDArray[np.float32]:
        """``(H, W, 2)``, the (x, y) infrared pixel that each visible pixel looks at."""
        return _array(self.tensor())

    @property
    def displacement(self) -> NDArray[np.float32]:
        """``(H, W, 2)``, `coordinates` minus those of plain resizing, infrared pixels."""
        plain = geometry.resize_transform(self.visible_size, self.infrared_size)
        return _array(self.tensor().sub_(geometry.project_grid(plain, self.visible_size)))

    @property
    def valid_mask(self) -> NDArray[np.bool_]:
        """``(H, W)`` bool, where infrared data exists that is no bar.

        A registration that was loaded or given holds no image and knows of no pixels without data.
        """
        box = self.content or Box(0, 0, *self.infrared_size)
        missing = None if self._picture is None else self._picture.missing
        looks = places(self, "cpu" if missing is None else missing.device).between(None, box)
        return _valid(looks, box, missing)[0, 0].cpu().numpy()

    def tensor(self, device: torch.device | str = "cpu") -> Tensor:
        """Returns the coordinates as ``(1, 2, H, W)`` float32, for `umfuse.Umfuse.fuse`."""
        return places(self, device).whole()

    def apply(self, image: ImageLike, interpolation: Interpolation = "bilinear") -> AnyImage:
        """Resamples an image of the infrared camera on the visible grid.

        Another frame, a mask, a map of labels, a false-colour picture: whatever has the pixels of
        the infrared image.

        Args:
            image: Of `infrared_size`, of any kind that `umfuse.fuse` takes.
            interpolation: ``"nearest"`` keeps values as they are, for labels and masks.

        Returns:
            The kind and dtype that came in. Beside the infrared image its border is repeated:
            `valid_mask` says where. Pixels that are NaN or masked stay so.

        Raises:
            ValueError: If the image has another size, or there is no such interpolation.
        """
        if interpolation not in get_args(Interpolation):
            choices = ", ".join(get_args(Interpolation))
            raise ValueError(f"interpolation must be one of {choices}, got {interpolation!r}")
        picture = images.read(image, name="image", range="minmax")
        if picture.size != self.infrared_size:
            raise ValueError(
                f"expected an image of {self.infrared_size} (height, width), as the infrared one "
                f"that was registered, got {picture.size}"
            )
        return self._resampled(picture, interpolation)

    def map_points(self, points: ArrayLike) -> NDArray[np.float64]:
        """Returns the infrared pixels of visible ones.

        Args:
            points: ``(..., 2)``, (x, y) visible pixels, also between and beside them.
        """
        places = _points(points)
        flat = torch.from_numpy(places.reshape(1, -1, 1, 2)).movedim(-1, 1)
        moved = geometry.project(torch.from_numpy(self.transform), flat + self._offset(flat))
        return moved[0, :, :, 0].T.reshape(places.shape).numpy()

    def inverse_map_points(self, points: ArrayLike) -> NDArray[np.float64]:
        """Returns the visible pixels of infrared ones.

        Args:
            points: ``(..., 2)``, (x, y) infrared pixels, also between and beside them.
        """
        places = _points(points)
        flat = torch.from_numpy(places.reshape(1, -1, 1, 2)).movedim(-1, 1)
        moved = geometry.project(torch.from_numpy(np.linalg.inv(self.transform)), flat)
        visible = moved
        for _ in range(INVERSE_STEPS):
            visible = moved - self._offset(visible)
        return visible[0, :, :, 0].T.reshape(places.shape).numpy()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the registration, without the image, to an ``.npz``, completely or not at all.

        Args:
            path: Where to.

        Raises:
            ValueError: If the name does not end in ``.npz``.
            OSError: If the file cannot be written.
        """
        stored = {f.name: getattr(self, f.name) for f in fields(self) if f.name[0] != "_"}
        registration_file.write(path, stored)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Registration:
        """Reads what `save` has written.

        Raises:
            ValueError: If the file is none of these, or of a newer umfuse.
            OSError: If it cannot be opened.
        """
        stored = registration_file.read(path)
        try:
            sizes = stored["infrared_size"], stored["visible_size"]
            stored["transform"] = cls.from_transform(stored["transform"], *sizes).transform
        except files.ARRAY_ERRORS as error:
            raise registration_file.refused(path, error) from error
        return cls(**stored)

    def save_infrared(self, path: str | os.PathLike[str]) -> None:
        """Writes the registered infrared image to a file, completely or not at all.

        Args:
            path: The suffix gives the format; 16-bit images need PNG or TIFF.
        """
        image = self.infrared
        assert self._picture is not None
        self._picture.form.save(image, path)

    def __repr__(self) -> str:
        height, width = self.visible_size
        return (
            f"Registration({self.method}, confidence={self.confidence:.2f}, "
            f"{self.infrared_size[1]}x{self.infrared_size[0]} infrared on {width}x{height} visible)"
        )

    def _repr_png_(self) -> bytes | None:
        if self._picture is None:
            return None
        return draw.png(self._picture.form.shown(self.infrared))

    def _resampled(self, picture: Picture, interpolation: Interpolation = "bilinear") -> AnyImage:
        image, missing = borders.part(picture.planes, self.content), picture.missing
        looks = places(self, image.device).between(None, self.content)
        if missing is not None:
            missing = resampling.hidden(borders.part(missing, self.content), looks)
        values = resampling.sampled(image, looks, nearest=interpolation == "nearest")
        return picture.give_back(values, missing)

    def _offset(self, points: Tensor) -> Tensor:
        return geometry.field_at(_first(self.field), self.visible_size, points)


class RegistrationError(ValueError):
    """A pair whose alignment is not to be trusted.

    Attributes:
        registration: Plain resizing, or the guess that was given, with the confidence and numbers
            of what was found.
    """

    def __init__(self, message: str, registration: Registration) -> None:
        super().__init__(message)
        self.registration = registration

    @override
    def __reduce__(self) -> tuple[type[RegistrationError], tuple[str, Registration]]:
        return type(self), (str(self), self.registration)


def places(
    registration: Registration,
    device: torch.device | str = "cpu",
    grid: tuple[int, int] | None = None,
) -> Places:
    """Returns the coordinates of a registration as what computes them a part at a time.

    Args:
        registration: Whose.
        device: Where it is computed.
        grid: Height and width of a grid over the visible image; its own pixels by default.
    """
    field = _first(registration.field).to(device) if registration.field.any() else None
    transform, size = torch.from_numpy(registration.transform), registration.visible_size
    grid = grid or size

    def part(rows: slice, columns: slice) -> Tensor:
        points = geometry.part_of_grid(grid, rows, columns, device)
        if grid != size:
            points = geometry.project(geometry.resize_transform(grid, size), points)
        if field is not None:
            points = points + geometry.field_at(field, size, points)
        return geometry.project(transform, points)

    return Places(grid, part)


def _valid(looks: Places, box: Box, missing: Tensor | None) -> Tensor:
    """Returns where places between bars look at infrared data, ``(1, 1, h, w)`` bool."""
    valid = looks.inside(box.size)
    if missing is not None:
        valid &= ~resampling.hidden(borders.part(missing.to(valid.device), box), looks)
    return valid


def _first(field: NDArray[np.float32]) -> Tensor:
    """Returns a field ``(h, w, 2)`` as ``(1, 2, h, w)``."""
    return torch.from_numpy(field).movedim(-1, 0)[None]


def _points(points: ArrayLike) -> NDArray[np.float64]:
    places = np.array(points, dtype=np.float64)
    if places.ndim < 1 or places.shape[-1] != 2:
        raise ValueError(f"expected points (x, y) of shape (..., 2), got {places.shape}")
    return places


def _array(coordinates: Tensor) -> NDArray[np.float32]:
    return coordinates[0].movedim(0, -1).contiguous().numpy()

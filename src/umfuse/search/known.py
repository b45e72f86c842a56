"""What a caller knows of two cameras before a pair is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from umfuse import geometry

FOV_SLACK = 1.15  # a number for the field of view is right within this factor
ROTATION_SLACK = 5.0  # degrees within which a number for the rotation is right
WIDEST = 90.0  # degrees: beyond it a range has no one upright image


@dataclass(frozen=True)
class Known:
    """What a caller knows of two cameras. None is what nobody knows.

    Attributes:
        fov: Field of view of the visible camera over that of the infrared one, the ratio of what
            their frames show: a number, right within 15 percent, or the lowest and the highest.
        rotation: Degrees by which the infrared image is turned against the visible one, clockwise
            as one looks at it: a number, right within 5 degrees, or the lowest and the highest.
        mirror: Whether the infrared image has left and right exchanged. Its rotation is then the
            one that it has after they are exchanged back.

    Raises:
        ValueError: If they are not such numbers.
        TypeError: If `mirror` is neither True, False nor None.
    """

    fov: float | tuple[float, float] | None = None
    rotation: float | tuple[float, float] | None = None
    mirror: bool | None = None

    def __post_init__(self) -> None:
        if self.mirror not in (None, True, False):
            raise TypeError(f"mirror must be True, False or None, got {self.mirror!r}")
        if self.fovs[0] <= 0:
            raise ValueError(f"fov is a ratio and must be above 0, got {self.fov!r}")
        if self.rests[1] - self.rests[0] > WIDEST:
            raise ValueError(
                f"a range of rotation spans at most {WIDEST:g} degrees, got {self.rotation!r}"
            )

    def __bool__(self) -> bool:
        return self.fov is not None or self.rotation is not None or bool(self.mirror)

    @property
    def fovs(self) -> tuple[float, float]:
        """The lowest and the highest field of view, 1 and 1 where nobody knows."""
        if self.fov is None:
            return 1.0, 1.0
        low, high = _range("fov", self.fov)
        return (low, high) if low < high else (low / FOV_SLACK, high * FOV_SLACK)

    @property
    def turns(self) -> int:
        """Quarter turns, clockwise, that come nearest to the rotation."""
        return 0 if self.rotation is None else round(sum(_range("rotation", self.rotation)) / 180)

    @property
    def rests(self) -> tuple[float, float]:
        """The lowest and the highest rotation beside the quarter turns, degrees."""
        if self.rotation is None:
            return 0.0, 0.0
        low, high = (end - 90 * self.turns for end in _range("rotation", self.rotation))
        return (low, high) if low < high else (low - ROTATION_SLACK, high + ROTATION_SLACK)

    @property
    def middle(self) -> tuple[float, float]:
        """The field of view and the rest of the rotation in the middle of what is known."""
        return math.sqrt(self.fovs[0] * self.fovs[1]), sum(self.rests) / 2

    def upright(self, infrared: Tensor) -> Tensor:
        """Returns an infrared image ``(..., h, w)`` without its mirroring and quarter turns."""
        return (infrared.flip(-1) if self.mirror else infrared).rot90(self.turns, (-2, -1))

    def resized(self, visible: tuple[int, int], infrared: tuple[int, int]) -> Tensor:
        """Returns plain resizing of the upright image, scaled and turned as far as is known.

        Args:
            visible: Height and width.
            infrared: Height and width of the upright image.

        Returns:
            ``(3, 3)``, visible pixel to pixel of the upright image.
        """
        scale, degrees = self.middle
        centre = _middle(infrared)
        placed = geometry.similarity_transform(centre, centre, (scale, scale), degrees)
        return placed @ geometry.resize_transform(visible, infrared)

    def back(self, infrared: tuple[int, int]) -> Tensor:
        """Returns the transform ``(3, 3)`` from the pixels of the upright image to those it has.

        Args:
            infrared: Height and width of the image as it came.
        """
        centre, target = _middle(self._size(infrared)), _middle(infrared)
        turned = geometry.similarity_transform(centre, target, degrees=90 * self.turns)
        if self.mirror:
            turned[0] = (infrared[1] - 1) * turned[2] - turned[0]
        return turned

    def transform(self, visible: tuple[int, int], infrared: tuple[int, int]) -> Tensor:
        """Returns what is likeliest before the pair is looked at, plain resizing if nothing is.

        Args:
            visible: Height and width.
            infrared: Height and width of the image as it came.

        Returns:
            ``(3, 3)``, visible pixel to infrared pixel.
        """
        return self.back(infrared) @ self.resized(visible, self._size(infrared))

    def _size(self, infrared: tuple[int, int]) -> tuple[int, int]:
        """Returns height and width of the upright image."""
        height, width = infrared
        return (width, height) if self.turns % 2 else (height, width)


NOTHING = Known()


def _middle(size: tuple[int, int]) -> tuple[float, float]:
    return (size[1] - 1) / 2, (size[0] - 1) / 2


def _range(name: str, given: float | tuple[float, float]) -> tuple[float, float]:
    """Returns the ends of a range; those of a number are the number."""
    try:
        low, high = given if isinstance(given, (tuple, list)) else (given, given)
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"{name} must be a number or a range (low, high), got {given!r}")
    return low, high

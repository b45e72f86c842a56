"""The world in metres: its perspective, its haze, and what draws in it.

X is right, Y up, Z away from the camera; the screen is in heights of the visible frame, with the
origin in its middle.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from benchmarks.scenes.canvas import Canvas, Color, Material, Point

Point3: TypeAlias = tuple[float, float, float]
Thing: TypeAlias = tuple[float, Callable[[], None]]  # how far away, and what draws it
Wall: TypeAlias = Callable[[float, float], Point3]

HORIZON = -0.06
NEAREST = 1.2  # nothing is drawn nearer than this
_FOCAL = 0.95
_EYE = 2.3
_HAZE: Color = (186, 200, 214)

PAINTS: tuple[Color, ...] = (
    (150, 32, 34),
    (40, 70, 130),
    (210, 212, 214),
    (60, 64, 70),
    (176, 178, 160),
)


class World:
    """The measures of one street, and pens in metres for its canvas.

    Attributes:
        canvas: What is drawn on.
        rng: Where the street comes from. Numbers are taken in a fixed order, whatever the hour, so
            that night shows the same street.
        night: Whether it is night.
        shadows: Outlines on the screen of the shadows that fall by day.
        kerb: Where the road ends, from its middle.
        wall: Where the houses begin, from the middle of the road.
        sky_cooling: How much colder than by day the sky is.
        asphalt_heat: Temperature of the road.
    """

    def __init__(self, canvas: Canvas, rng: np.random.Generator, night: bool) -> None:
        self.canvas = canvas
        self.rng = rng
        self.night = night
        self.shadows: list[list[Point]] = []
        self.kerb = float(rng.uniform(3.6, 4.4))
        self.wall = self.kerb + float(rng.uniform(2.4, 3.2))
        self.sky_cooling = 5.0 if night else 0.0
        self.asphalt_heat = 15.0 if night else 18.0

    def seed(self) -> int:
        """A seed for one thing, so that drawing it takes no numbers from the street."""
        return int(self.rng.integers(0, 2**31, dtype=np.int64))

    def face(
        self,
        points: Sequence[Point3],
        color: Color | None = None,
        heat: float | None = None,
        material: Material | None = None,
        light: float | None = None,
    ) -> None:
        """Fills a polygon; what has a colour fades into the haze."""
        distance = max(min(point[2] for point in points), 0.0)
        if color is not None:
            # What stands in front of a lamp or of a rough surface hides it.
            color = mix(color, _HAZE, min(distance / 140, 0.6))
            material, light = material or Material.SMOOTH, light or 0.0
        self.canvas.polygon([project(point) for point in points], color, heat, material, light)

    def strip(
        self,
        left: float,
        right: float,
        near: float,
        far: float,
        color: Color | None = None,
        heat: float | None = None,
        material: Material | None = None,
    ) -> None:
        """Fills a rectangle on the ground."""
        self.canvas.polygon(ground_quad(left, right, near, far), color, heat, material)

    def disc(
        self, x: float, z: float, radii: Point, color: Color | None, heat: float | None
    ) -> None:
        """Fills an ellipse on the ground."""
        self.canvas.polygon(circle_on_ground(x, z, radii), color, heat)

    def ball(
        self,
        centre: Point3,
        radius: Point,
        color: Color | None,
        heat: float | None,
        material: Material | None = None,
    ) -> None:
        """Fills an ellipse that faces the camera; what has a colour fades into the haze."""
        light = None
        scale = _FOCAL / max(centre[2], NEAREST)
        if color is not None:
            color = mix(color, _HAZE, min(centre[2] / 140, 0.6))
            material, light = material or Material.SMOOTH, 0.0
        radii = (radius[0] * scale, radius[1] * scale)
        self.canvas.ellipse(project(centre), radii, color, heat, material, light)


def project(point: Point3) -> Point:
    """Metres -> screen coordinates."""
    x, y, z = point
    z = max(z, NEAREST)
    return _FOCAL * x / z, HORIZON + _FOCAL * (_EYE - y) / z


def mix(first: Color, second: Color, part: float) -> Color:
    """A colour between two: the first for a part of 0, the second for 1."""
    a, b, c = ((1 - part) * p + part * q for p, q in zip(first, second, strict=True))
    return a, b, c


def times(color: Color, factor: float) -> Color:
    """A colour, brighter or darker."""
    return color[0] * factor, color[1] * factor, color[2] * factor


def box(wall: Wall, left: float, right: float, bottom: float, top: float) -> list[Point3]:
    """A rectangle on a wall, which maps (along, height) to the world."""
    return [wall(left, bottom), wall(right, bottom), wall(right, top), wall(left, top)]


def upright(x: float, half: float, bottom: float, top: float, z: float) -> list[Point3]:
    """A rectangle that faces the camera."""
    return [(x - half, bottom, z), (x + half, bottom, z), (x + half, top, z), (x - half, top, z)]


def steps(start: float, stop: float, step: float) -> list[float]:
    """Numbers from `start` on, below `stop`."""
    return [start + k * step for k in range(max(math.ceil((stop - start) / step), 0))]


def ground_quad(left: float, right: float, near: float, far: float) -> list[Point]:
    """The outline of a rectangle on the ground, on the screen."""
    corners = [(left, 0.0, near), (right, 0.0, near), (right, 0.0, far), (left, 0.0, far)]
    return [project(corner) for corner in corners]


def circle_on_ground(x: float, z: float, radii: Point) -> list[Point]:
    """The outline of an ellipse on the ground, on the screen."""
    return [
        project((x + radii[0] * math.cos(t), 0.0, z + radii[1] * math.sin(t)))
        for t in steps(0, 2 * math.pi, math.pi / 14)
    ]

"""The land in metres, seen straight from above: its light, its weather, and what draws on it.

A surface is told by its colour, by how far the sun warms it above the air, and by how far a clear
sky cools it, so that the order of the temperatures differs between noon, dusk and night: bare soil
and roads are warm by day, water by night, and polished metal shows the cold of the sky at any hour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from benchmarks.scenes.canvas import Canvas, Color, Material, Point
from benchmarks.scenes.world import steps, times
from PIL import Image, ImageDraw

_REACH = 1.3  # of the world from its middle, in heights of the frame: all that a canvas shows


@dataclass(frozen=True)
class Surface:
    """A kind of ground or roof.

    Attributes:
        color: In full light.
        gain: By how many °C it is warmer than the air in full sun.
        cooling: By how many °C it looks colder than the air under a clear sky without sun.
        material: Its texture.
    """

    color: Color
    gain: float
    cooling: float
    material: Material = Material.SMOOTH


class Land:
    """The light and the weather over the land, and pens in metres for its canvas.

    Numbers are taken from `rng` in a fixed order, whatever the hour, so that night shows the same
    land.
    """

    def __init__(self, canvas: Canvas, rng: np.random.Generator, night: bool) -> None:
        self.canvas = canvas
        self.rng = rng
        self.night = night
        self.metres = float(rng.uniform(45, 85))  # that the height of the frame shows
        self.reach = _REACH * self.metres
        self.turn = float(rng.uniform(0, 2 * math.pi))
        sun, clear = rng.uniform(0.1, 1.0), rng.uniform(0.4, 1.0)
        self.sun, self.clear = 0.0 if night else float(sun), float(clear)
        self.air = 9.0 if night else 12.0 + 8.0 * self.sun
        azimuth, tangent = rng.uniform(0, 2 * math.pi), rng.uniform(0.6, 1.7)
        self.fall = (float(np.cos(azimuth) * tangent), float(np.sin(azimuth) * tangent))
        self.shadows: list[list[Point]] = []

    def place(self, point: Point) -> Point:
        """Metres -> screen coordinates."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        x, y = point[0] / self.metres, point[1] / self.metres
        return cos * x - sin * y, sin * x + cos * y

    def heat(self, surface: Surface, lit: float = 1.0) -> float:
        """How warm a surface looks that gets a part of the full sun."""
        cold = (1 - self.sun) * self.clear * surface.cooling
        return self.air + self.sun * surface.gain * lit - cold

    def fill(
        self,
        points: Sequence[Point],
        surface: Surface,
        tone: float = 1.0,
        *,
        warmer: float = 0.0,
        lit: float = 1.0,
        light: float = 0.0,
    ) -> None:
        """Fills a polygon with a surface, darker or brighter by `tone` and warmer than it is."""
        self.canvas.polygon(
            [self.place(point) for point in points],
            times(surface.color, tone),
            self.heat(surface, lit) + warmer,
            surface.material,
            light,
        )

    def line(
        self,
        points: Sequence[Point],
        width: float,
        surface: Surface,
        tone: float = 1.0,
        warmer: float = 0.0,
    ) -> None:
        """Draws a line as wide as `width` along points."""
        for start, end in pairwise(points):
            self.fill(bar(start, end, width), surface, tone, warmer=warmer)

    def felt(self, points: Sequence[Point], warmer: float) -> None:
        """Warms what lies in a polygon; its looks stay."""
        mask = Image.new("L", self.canvas.shape)
        outline = [self.canvas.pixel(self.place(point)) for point in points]
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        heat = np.asarray(self.canvas.heat) + np.float32(warmer)
        self.canvas.heat.paste(Image.fromarray(heat), mask=mask)

    def cast(self, outline: Sequence[Point], height: float) -> None:
        """Lets a prism of that outline throw its shadow."""
        dx, dy = (part * height for part in self.fall)
        moved = [(x + dx, y + dy) for x, y in outline]
        self.shadows.append([self.place(point) for point in moved])
        sides = (pairwise([*points, points[0]]) for points in (outline, moved))
        for (a, b), (c, d) in zip(*sides, strict=True):
            self.shadows.append([self.place(point) for point in (a, b, d, c)])


def randomness(at: Point) -> np.random.Generator:
    """The randomness of what stands at a place, whatever was drawn before."""
    return np.random.default_rng([int(1000 * abs(at[0])), int(1000 * abs(at[1]))])


def bar(start: Point, end: Point, width: float) -> list[Point]:
    """The outline of a straight line of some width."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy) or 1.0
    x, y = -dy / length * width / 2, dx / length * width / 2
    return [
        (start[0] + x, start[1] + y),
        (end[0] + x, end[1] + y),
        (end[0] - x, end[1] - y),
        (start[0] - x, start[1] - y),
    ]


def box(at: Point, half: Point, angle: float, centre: Point = (0.0, 0.0)) -> list[Point]:
    """A rectangle about a centre in the coordinates of a thing that lies somewhere, turned."""
    (u, v), (a, b) = centre, half
    return [on(at, angle, (u + i * a, v + j * b)) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


def on(at: Point, angle: float, point: Point) -> Point:
    """A point in the coordinates of a thing that lies somewhere, turned."""
    cos, sin = math.cos(angle), math.sin(angle)
    return at[0] + cos * point[0] - sin * point[1], at[1] + sin * point[0] + cos * point[1]


def blob(at: Point, radius: float, rng: np.random.Generator, rough: float = 0.18) -> list[Point]:
    """An uneven round outline."""
    phases = rng.uniform(0, 6.28, 3)
    outline: list[Point] = []
    for t in steps(0, 2 * math.pi, math.pi / 24):
        waves = sum(math.sin((k + 2) * t + phase) / (k + 1) for k, phase in enumerate(phases))
        outline.append(on(at, t, (radius * (1 + rough * waves), 0.0)))
    return outline

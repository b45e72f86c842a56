"""A rendered street, seen by a visible and a thermal camera that are not aligned, with exact truth.

One canvas holds what the world looks like and how warm it is. Each camera samples that canvas
through its own geometry, so the map from visible to infrared pixels is known exactly. Everything is
drawn here, from random numbers: no data is needed and none is copied. Some things are seen by one
camera alone, as in life: paint, signs and lettering only by the visible one; a person in the dark
of a doorway, a warm manhole cover and the tracks of tyres only by the thermal one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

__all__ = ["Scene", "render"]

Floats: TypeAlias = NDArray[np.floating[Any]]
Color: TypeAlias = tuple[float, float, float]
Point: TypeAlias = tuple[float, float]
Point3: TypeAlias = tuple[float, float, float]

_OVERSAMPLE = 2  # canvas pixels per visible pixel and axis
_INFRARED_OVERSAMPLE = 4  # samples per infrared pixel and axis
_MARGIN = 0.22  # how far the canvas reaches beyond the visible frame, as a part of it

# The world is in metres, X right, Y up, Z away from the camera; the screen is in heights of the
# visible frame, with the origin in its middle.
_FOCAL = 0.95
_EYE = 2.3
_HORIZON = -0.06
_NEAREST = 1.2  # nothing is drawn nearer than this

_CENTIKELVIN = 27315  # counts of a radiometric camera at 0 °C, 100 counts a kelvin


@dataclass(frozen=True, eq=False)
class Scene:
    """A misaligned pair and the truth about it.

    Attributes:
        infrared: Thermal counts, hundredths of a kelvin, uint16 (h, w).
        visible: Colour, uint8 (H, W, 3).
        transform: The map from visible pixel (x, y, 1) to infrared pixel, float64 (3, 3).
        coordinates: (x, y) in the infrared image that each visible pixel sees, float32 (H, W, 2).
        displacement: `coordinates` minus those of plain resizing, infrared pixels, float32 (H, W,
            2).
        valid: Where `coordinates` lie inside the infrared image, bool (H, W).
        aligned_infrared: The same counts seen by a thermal camera without blur and noise on the
            visible grid, uint16 (H, W).
    """

    infrared: NDArray[np.uint16]
    visible: NDArray[np.uint8]
    transform: NDArray[np.float64]
    coordinates: NDArray[np.float32]
    displacement: NDArray[np.float32]
    valid: NDArray[np.bool_]
    aligned_infrared: NDArray[np.uint16]


def render(
    seed: int = 0,
    size: tuple[int, int] = (480, 640),
    *,
    infrared_size: tuple[int, int] | None = None,
    strength: float = 1.0,
    night: bool = False,
) -> Scene:
    """A street scene as two cameras see it.

    The same arguments give the same pictures. Day and night of one seed share the street and the
    cameras; scenes of one size share the size of the infrared image.

    Args:
        seed: Which street and which pair of cameras.
        size: Height and width of the visible image, 64 to 4096 each.
        infrared_size: Height and width of the infrared image; by default 8/15 and 1/2 of `size`,
            which is 256 x 320 for 480 x 640.
        strength: Misalignment, from 0 (plain resizing aligns the pair exactly) to 1 (another field
            of view, a shift, a rotation and some perspective).
        night: Whether only lamps, windows and headlights light the visible image.

    Returns:
        The pair and the truth.

    Raises:
        ValueError: If a size, the strength or the seed is out of its bounds.
    """
    if infrared_size is None:
        infrared_size = (max(round(size[0] * 8 / 15), 32), max(round(size[1] / 2), 32))
    for name, (height, width), least in (("size", size, 64), ("infrared_size", infrared_size, 32)):
        if not (least <= height <= 4096 and least <= width <= 4096):
            raise ValueError(
                f"expected {name} to be (height, width) of {least} to 4096 each, "
                f"got {(height, width)}"
            )
    if not 0 <= strength <= 1:
        raise ValueError(f"expected a strength from 0 (aligned) to 1, got {strength}")
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, got {seed}")

    canvas = _Canvas(size)
    _Street(canvas, np.random.default_rng([seed, 0]), night).draw()
    color, heat = canvas.finish(np.random.default_rng([seed, 1]), night)

    transform = _rig(np.random.default_rng([seed, 2]), size, infrared_size, strength)
    coordinates = _coordinates(transform, size)
    displacement = coordinates - _coordinates(_resizing(size, infrared_size), size)
    x, y = coordinates[..., 0], coordinates[..., 1]
    inside_x = (x >= 0) & (x <= infrared_size[1] - 1)
    inside_y = (y >= 0) & (y <= infrared_size[0] - 1)
    return Scene(
        infrared=_infrared(
            canvas, heat, transform, infrared_size, np.random.default_rng([seed, 3])
        ),
        visible=_visible(canvas, color, np.random.default_rng([seed, 4]), night),
        transform=transform,
        coordinates=coordinates.astype(np.float32),
        displacement=displacement.astype(np.float32),
        valid=inside_x & inside_y,
        aligned_infrared=_counts(canvas.visible_window(heat)),
    )


# ---- the two cameras -----------------------------------------------------------------------------


def _resizing(size: tuple[int, int], infrared_size: tuple[int, int]) -> NDArray[np.float64]:
    """Plain resizing as a map between pixel centres."""
    ry, rx = infrared_size[0] / size[0], infrared_size[1] / size[1]
    return np.array([[rx, 0, (rx - 1) / 2], [0, ry, (ry - 1) / 2], [0, 0, 1]])


def _rig(
    rng: np.random.Generator, size: tuple[int, int], infrared_size: tuple[int, int], strength: float
) -> NDArray[np.float64]:
    """Visible pixel -> infrared pixel of a random pair of cameras."""
    height, width = size
    resizing = _resizing(size, infrared_size)
    zoom = np.exp(strength * np.log(rng.uniform(0.84, 1.0)))
    # Both cameras have square pixels; plain resizing does not keep them square.
    aspect = (resizing[1, 1] / resizing[0, 0]) ** (strength / 2)
    angle = strength * np.deg2rad(rng.uniform(1.0, 3.0) * rng.choice([-1, 1]))
    shift = strength * rng.uniform(0.015, 0.045, 2) * rng.choice([-1, 1], 2) * (width, height)
    tilt = strength * rng.uniform(-0.02, 0.02, 2) / (width, height)
    cos, sin = np.cos(angle), np.sin(angle)
    centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    moved = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [tilt[0], tilt[1], 1]])
    transform = (
        resizing
        @ centre
        @ np.diag([zoom * aspect, zoom / aspect, 1])
        @ moved
        @ np.linalg.inv(centre)
    )
    return transform / transform[2, 2]


def _coordinates(transform: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in transform)
    return np.stack([u / w, v / w], axis=-1)


def _counts(celsius: Floats) -> NDArray[np.uint16]:
    return np.clip(np.rint(celsius * 100 + _CENTIKELVIN), 0, 65535).astype(np.uint16)


def _infrared(
    canvas: _Canvas,
    heat: Floats,
    transform: NDArray[np.float64],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    height, width = size
    # PIL counts from pixel corners, so both sides move by half a pixel.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    samples = np.diag([_INFRARED_OVERSAMPLE, _INFRARED_OVERSAMPLE, 1])
    to_canvas = canvas.from_visible() @ half @ np.linalg.inv(samples @ half @ transform)
    to_canvas /= to_canvas[2, 2]
    seen = Image.fromarray(np.asarray(heat, dtype=np.float32)).transform(
        (width * _INFRARED_OVERSAMPLE, height * _INFRARED_OVERSAMPLE),
        Image.Transform.PERSPECTIVE,
        to_canvas.ravel()[:8].tolist(),
        Image.Resampling.BILINEAR,
    )
    celsius = _blur(_reduce(np.asarray(seen), _INFRARED_OVERSAMPLE), 0.55)
    celsius += rng.normal(0, 0.07, size)  # noise of the detector
    celsius += rng.normal(0, 0.05, (1, width))  # its columns have amplifiers of their own
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return _counts(celsius - 0.4 * (x**2 + y**2))  # a cooler rim, as uncooled cameras show


def _visible(
    canvas: _Canvas, color: Floats, rng: np.random.Generator, night: bool
) -> NDArray[np.uint8]:
    layers = [canvas.visible_window(color[..., channel]) for channel in range(3)]
    seen: Floats = np.stack(layers, axis=-1)
    y, x = np.mgrid[-1 : 1 : seen.shape[0] * 1j, -1 : 1 : seen.shape[1] * 1j]
    seen *= (1 - 0.07 * (x**2 + y**2))[..., None]
    seen += rng.normal(0, 4.0 if night else 2.0, seen.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)


def _reduce(image: Floats, factor: int) -> Floats:
    height, width = image.shape
    blocks = image.reshape(height // factor, factor, width // factor, factor)
    return blocks.mean(axis=(1, 3), dtype=np.float64)


def _blur(image: Floats, sigma: float) -> Floats:
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padding = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        padded = np.pad(image, padding, mode="edge")
        parts = [
            weight
            * (padded[k : k + len(image)] if axis == 0 else padded[:, k : k + image.shape[1]])
            for k, weight in enumerate(weights)
        ]
        image = np.sum(parts, axis=0)
    return image


# ---- the canvas ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Material:
    """What a surface adds to its plain colour and temperature."""

    index: int
    grain: float  # visible texture, part of the brightness
    grain_heat: float  # thermal texture, °C
    fine: float = 0.5  # part of the visible texture that is pixel-sized


@dataclass(frozen=True)
class _Materials:
    smooth: _Material = _Material(0, 0.012, 0.08)
    asphalt: _Material = _Material(1, 0.085, 0.6, 0.7)
    concrete: _Material = _Material(2, 0.06, 0.5)
    grass: _Material = _Material(3, 0.22, 1.0, 0.5)
    facade: _Material = _Material(4, 0.055, 0.6, 0.35)
    glass: _Material = _Material(5, 0.10, 0.7, 0.05)
    leaves: _Material = _Material(6, 0.16, 0.6, 0.5)
    cloth: _Material = _Material(7, 0.05, 0.5, 0.3)
    sky: _Material = _Material(8, 0.02, 0.3, 0.0)


_MATERIALS = _Materials()


class _Canvas:
    """Colour, temperature, material and lamplight of the world, finer than both cameras."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.height, self.width = size
        self.pad_y, self.pad_x = (round(side * _MARGIN) for side in size)
        shape = (
            (self.width + 2 * self.pad_x) * _OVERSAMPLE,
            (self.height + 2 * self.pad_y) * _OVERSAMPLE,
        )
        self.shape = shape
        self.color = Image.new("RGB", shape)
        self.heat = Image.new("F", shape)
        self.material = Image.new("L", shape)
        self.light = Image.new("L", shape)  # what shines
        self.pools = Image.new("L", shape)  # what is shone upon
        self._brushes = [
            ImageDraw.Draw(layer) for layer in (self.color, self.heat, self.material, self.light)
        ]

    def from_visible(self) -> NDArray[np.float64]:
        """Corner coordinates in the visible image -> corner coordinates on the canvas."""
        k = _OVERSAMPLE
        return np.array([[k, 0, k * self.pad_x], [0, k, k * self.pad_y], [0, 0, 1.0]])

    def visible_window(self, layer: Floats) -> Floats:
        """What a camera without blur and noise sees of a layer on the visible grid."""
        top, left = self.pad_y * _OVERSAMPLE, self.pad_x * _OVERSAMPLE
        height, width = self.height * _OVERSAMPLE, self.width * _OVERSAMPLE
        return _reduce(layer[top : top + height, left : left + width], _OVERSAMPLE)

    def pixel(self, point: Point) -> Point:
        """Screen coordinates -> canvas pixels."""
        k = self.height * _OVERSAMPLE
        return point[0] * k + self.shape[0] / 2, point[1] * k + self.shape[1] / 2

    def _fills(
        self,
        color: Color | None,
        heat: float | None,
        material: _Material | None,
        light: float | None,
    ) -> list[tuple[ImageDraw.ImageDraw, Any]]:
        fills: list[Any] = [
            None if color is None else tuple(int(min(max(c, 0), 255)) for c in color),
            heat,
            None if material is None else material.index,
            None if light is None else int(255 * light),
        ]
        return [
            (brush, fill)
            for brush, fill in zip(self._brushes, fills, strict=True)
            if fill is not None
        ]

    def polygon(
        self,
        points: Sequence[Point],
        color: Color | None = None,
        heat: float | None = None,
        material: _Material | None = None,
        light: float | None = None,
    ) -> None:
        """Fills a polygon in screen coordinates; layers without a value stay as they are."""
        pixels = [self.pixel(point) for point in points]
        for brush, fill in self._fills(color, heat, material, light):
            brush.polygon(pixels, fill=fill)

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        color: Color | None = None,
        heat: float | None = None,
        material: _Material | None = None,
        light: float | None = None,
    ) -> None:
        """Fills an upright ellipse in screen coordinates."""
        left, top = self.pixel((centre[0] - radii[0], centre[1] - radii[1]))
        right, bottom = self.pixel((centre[0] + radii[0], centre[1] + radii[1]))
        box = (left, top, max(right, left), max(bottom, top))
        for brush, fill in self._fills(color, heat, material, light):
            brush.ellipse(box, fill=fill)

    def shade(self, polygons: Sequence[Sequence[Point]], depth: float) -> None:
        """Darkens the colours so far by soft shadows; temperatures stay."""
        mask = Image.new("L", self.shape)
        brush = ImageDraw.Draw(mask)
        for polygon in polygons:
            brush.polygon([self.pixel(point) for point in polygon], fill=int(255 * depth))
        mask = mask.filter(ImageFilter.BoxBlur(self.height * _OVERSAMPLE / 300))
        black = Image.new("RGB", self.shape, (14, 18, 34))
        self.color.paste(black, mask=mask)

    def gradient(self, top: float, bottom: float, stops: Sequence[tuple[Color, float]]) -> None:
        """Fills rows between two screen heights with (colour, temperature) from stop to stop."""
        first, last = (int(self.pixel((0, y))[1]) for y in (top, bottom))
        at = np.linspace(0, len(stops) - 1, max(last - first, 1))
        table = np.array([(*color, heat) for color, heat in stops])
        rows = np.stack(
            [np.interp(at, np.arange(len(stops)), table[:, k]) for k in range(4)], axis=-1
        )
        for row, (red, green, blue, heat) in enumerate(rows):
            box = (0, first + row, self.shape[0], first + row)
            self._brushes[0].line(box, fill=(int(red), int(green), int(blue)))
            self._brushes[1].line(box, fill=float(heat))

    def pool(self, polygon: Sequence[Point], light: float) -> None:
        """Lets lamplight fall on a polygon in screen coordinates."""
        points = [self.pixel(point) for point in polygon]
        ImageDraw.Draw(self.pools).polygon(points, fill=int(255 * light))

    def clouds(self, rng: np.random.Generator) -> None:
        """Lays clouds, bright and warmer than the sky, over the colours and temperatures so far."""
        cover = np.zeros((self.shape[1], self.shape[0]), dtype=np.float32)
        for cells, weight in ((4, 1.0), (9, 0.6), (20, 0.35), (44, 0.2)):
            grid = rng.standard_normal((2 * cells, cells), dtype=np.float32)
            small = Image.fromarray(grid * np.float32(weight))
            cover += np.asarray(small.resize(self.shape, Image.Resampling.BICUBIC))
        cover = np.clip((cover - 0.25) * 0.75, 0, 0.85)
        mask = Image.fromarray((cover * 255).astype(np.uint8))
        self.color.paste(Image.new("RGB", self.shape, (238, 240, 242)), mask=mask)
        self.heat.paste(Image.fromarray(np.asarray(self.heat) + 6 * cover))

    def finish(self, rng: np.random.Generator, night: bool) -> tuple[Floats, Floats]:
        """Colour (H, W, 3) in 0..255 and temperature (H, W) in °C, with texture and light."""
        coarse = self._noise(rng, 5) * 0.6 + self._noise(rng, 17) * 0.8
        fine = self._noise(rng, 1)
        warm = self._noise(rng, 4) * 0.7 + self._noise(rng, 23) * 0.9
        material = np.asarray(self.material)
        grain, grain_heat, part = self._tables()
        share = part[material]
        texture = 1 + grain[material] * (share * fine + (1 - share) * coarse)
        color = np.asarray(self.color, dtype=np.float32) * texture[..., None]
        heat = np.asarray(self.heat) + grain_heat[material] * warm
        if night:
            color = self._at_night(color)
        return color, heat

    def _at_night(self, color: Floats) -> Floats:
        lamp = np.array([1.0, 0.84, 0.58], dtype=np.float32)
        ambient = np.array([0.15, 0.17, 0.24], dtype=np.float32)
        light = np.asarray(self.light, dtype=np.float32) / 255
        halo = self._soft(self.light, self.height / 30)
        lit = np.clip(0.7 * self._soft(self.pools, self.height / 30) + 1.5 * halo, 0, 1)
        shining = np.minimum(200 * light + 60 * halo, 230)
        return color * (ambient + lit[..., None] * lamp) + shining[..., None] * lamp

    def _soft(self, layer: Image.Image, radius: float) -> Floats:
        """The layer in [0, 1], blurred, at a quarter of the cost in each direction."""
        small = layer.resize((self.shape[0] // 4, self.shape[1] // 4), Image.Resampling.BOX)
        soft = small.filter(ImageFilter.GaussianBlur(radius * _OVERSAMPLE / 4))
        return np.asarray(soft.resize(self.shape, Image.Resampling.BILINEAR), np.float32) / 255

    def _tables(self) -> tuple[Floats, Floats, Floats]:
        known: list[_Material] = [getattr(_MATERIALS, f.name) for f in fields(_MATERIALS)]
        known.sort(key=lambda material: material.index)
        rows = np.array([(m.grain, m.grain_heat, m.fine) for m in known], dtype=np.float32)
        return rows[:, 0], rows[:, 1], rows[:, 2]

    def _noise(self, rng: np.random.Generator, cell: float) -> Floats:
        """Smooth noise of unit spread; `cell` in thousandths of the height of the frame."""
        cell *= self.height * _OVERSAMPLE / 480
        width, height = (max(round(side / cell), 2) for side in self.shape)
        small = Image.fromarray(rng.standard_normal((height, width), dtype=np.float32))
        noise = np.asarray(small.resize(self.shape, Image.Resampling.BICUBIC))
        return np.clip(noise, -2.5, 2.5)


# ---- the street ----------------------------------------------------------------------------------


def _project(point: Point3) -> Point:
    x, y, z = point
    z = max(z, _NEAREST)
    return _FOCAL * x / z, _HORIZON + _FOCAL * (_EYE - y) / z


def _mix(first: Color, second: Color, part: float) -> Color:
    a, b, c = ((1 - part) * p + part * q for p, q in zip(first, second, strict=True))
    return a, b, c


def _times(color: Color, factor: float) -> Color:
    return color[0] * factor, color[1] * factor, color[2] * factor


_HAZE: Color = (186, 200, 214)
_WALLS: tuple[Color, ...] = (
    (176, 132, 104),
    (196, 180, 150),
    (150, 96, 80),
    (168, 170, 172),
    (204, 196, 176),
    (128, 120, 112),
)
_CLOTHES: tuple[Color, ...] = (
    (60, 70, 110),
    (150, 50, 46),
    (70, 96, 70),
    (180, 170, 150),
    (52, 52, 58),
    (196, 140, 60),
)
_PAINTS: tuple[Color, ...] = (
    (150, 32, 34),
    (40, 70, 130),
    (210, 212, 214),
    (60, 64, 70),
    (176, 178, 160),
)


class _Street:
    """A street between houses, drawn from far to near.

    Random numbers are taken in a fixed order, whatever the hour, so that night shows the same
    street.
    """

    def __init__(self, canvas: _Canvas, rng: np.random.Generator, night: bool) -> None:
        self.canvas = canvas
        self.rng = rng
        self.night = night
        self.shadows: list[list[Point]] = []
        self.kerb = float(rng.uniform(3.6, 4.4))
        self.wall = self.kerb + float(rng.uniform(2.4, 3.2))
        self.sky_cooling = 5.0 if night else 0.0
        self.asphalt_heat = 15.0 if night else 18.0

    def draw(self) -> None:
        """Draws everything."""
        self._sky()
        self._ground()
        houses = self._houses()
        things = [*self._trees(), *self._posts(), *self._cars(), *self._people()]
        if not self.night:
            self.canvas.shade(self.shadows, 0.6)
        # No house hides anything on the street, so houses come first; the rest from far to near.
        for group in (houses, things):
            for _, draw in sorted(group, key=lambda thing: -thing[0]):
                draw()
        self._wires()

    def _seed(self) -> int:
        return int(self.rng.integers(0, 2**31, dtype=np.int64))

    # -- pieces in world coordinates

    def _face(
        self,
        points: Sequence[Point3],
        color: Color | None = None,
        heat: float | None = None,
        material: _Material | None = None,
        light: float | None = None,
    ) -> None:
        distance = max(min(point[2] for point in points), 0.0)
        if color is not None:
            # What stands in front of a lamp or of a rough surface hides it.
            color = _mix(color, _HAZE, min(distance / 140, 0.6))
            material, light = material or _MATERIALS.smooth, light or 0.0
        self.canvas.polygon([_project(point) for point in points], color, heat, material, light)

    def _strip(
        self,
        left: float,
        right: float,
        near: float,
        far: float,
        color: Color | None = None,
        heat: float | None = None,
        material: _Material | None = None,
    ) -> None:
        """A rectangle on the ground."""
        points = [(left, 0.0, near), (right, 0.0, near), (right, 0.0, far), (left, 0.0, far)]
        self.canvas.polygon([_project(point) for point in points], color, heat, material)

    def _disc(
        self, x: float, z: float, radii: Point, color: Color | None, heat: float | None
    ) -> None:
        self.canvas.polygon(_circle_on_ground(x, z, radii), color, heat)

    def _ball(
        self,
        centre: Point3,
        radius: Point,
        color: Color | None,
        heat: float | None,
        material: _Material | None = None,
        light: float | None = None,
    ) -> None:
        scale = _FOCAL / max(centre[2], _NEAREST)
        if color is not None:
            color = _mix(color, _HAZE, min(centre[2] / 140, 0.6))
            material, light = material or _MATERIALS.smooth, light or 0.0
        radii = (radius[0] * scale, radius[1] * scale)
        self.canvas.ellipse(_project(centre), radii, color, heat, material, light)

    # -- far away

    def _sky(self) -> None:
        cooling = self.sky_cooling
        self.canvas.gradient(
            -1.0,
            _HORIZON + 0.01,
            [
                ((74, 124, 196), -5 - cooling),
                ((120, 164, 216), 0 - cooling),
                ((206, 218, 226), 7 - cooling / 2),
            ],
        )
        self.canvas.clouds(self.rng)
        for layer, (color, rise, heat) in enumerate(
            [((142, 160, 178), 0.085, 7.0), ((106, 130, 118), 0.045, 9.0)]
        ):
            x = np.linspace(-1.6, 1.6, 90)
            phase = self.rng.uniform(0, 6.28, 4)
            ridge = sum(
                np.sin(x * (3 + 2.7 * k) * (1 + layer) + phase[k]) / (k + 1) for k in range(4)
            )
            top = _HORIZON - rise * (0.55 + 0.25 * np.asarray(ridge))
            outline = [*zip(x.tolist(), top.tolist(), strict=True), (1.6, 0.2), (-1.6, 0.2)]
            self.canvas.polygon(outline, color, heat, _MATERIALS.concrete, 0.0)

    # -- the ground

    def _ground(self) -> None:
        kerb, wall, warm = self.kerb, self.wall, self.asphalt_heat
        far = 300.0
        self._strip(-200, 200, _NEAREST, far, (104, 122, 70), 12.0, _MATERIALS.grass)
        self._strip(-wall, wall, _NEAREST, far, (158, 154, 148), warm - 2.2, _MATERIALS.concrete)
        for side in (-1, 1):
            for z in _steps(2, 60, 1.5):  # joints between the slabs
                self._strip(
                    side * kerb, side * wall, z, z * 1.004 + 0.02, (122, 118, 112), warm - 2.8
                )
        self._strip(
            -kerb - 0.25,
            kerb + 0.25,
            _NEAREST,
            far,
            (186, 184, 178),
            warm - 3.4,
            _MATERIALS.concrete,
        )
        self._strip(-kerb, kerb, _NEAREST, far, (88, 88, 92), warm, _MATERIALS.asphalt)
        for _ in range(5):  # repaired patches, a little warmer because darker
            x, z = self.rng.uniform(-kerb + 0.6, kerb - 1.8), self.rng.uniform(4, 30)
            size = self.rng.uniform(0.7, 2.2, 2)
            self._strip(x, x + size[0], z, z + 2 * size[1], (66, 66, 70), warm + 1.4)
        white: Color = (222, 222, 214)
        for z in _steps(_NEAREST, 90, 6.0):  # paint: seen, hardly felt
            self._strip(-0.09, 0.09, z, z + 3, white)
        for side in (-1, 1):
            self._strip(side * (kerb - 0.32), side * (kerb - 0.2), _NEAREST, 120, white)
        zebra = float(self.rng.uniform(12, 18))
        for x in _steps(-kerb + 0.4, kerb - 0.5, 1.0):
            self._strip(x, x + 0.5, zebra, zebra + 3, white, warm - 0.7)
        for _ in range(3):
            x, z = self.rng.uniform(-kerb + 0.8, kerb - 0.8), self.rng.uniform(5, 14)
            self._disc(x, z, (0.42, 0.42), (78, 78, 82), warm + self.rng.uniform(5, 9))
            self._disc(x, z, (0.30, 0.30), (84, 82, 84), None)

    # -- houses

    def _houses(self) -> list[_Thing]:
        things: list[_Thing] = []
        for side in (-1, 1):
            z = float(self.rng.uniform(1.5, 3.0))
            while z < 75:
                length = float(self.rng.uniform(7, 15))
                height = float(self.rng.uniform(5.5, 12.5))
                color = _WALLS[int(self.rng.integers(len(_WALLS)))]
                seed = self._seed()
                things.append(
                    (z + 0.2, partial(self._house, side, z, z + length, height, color, seed))
                )
                if side < 0:
                    reach = -self.wall + 0.45 * height
                    self.shadows.append(
                        [
                            _project(p)
                            for p in _ground_quad(-self.wall, reach, z + 1, z + length + 1)
                        ]
                    )
                z += length + float(self.rng.choice([0.0, 0.0, 2.5, 5.0]))
        return things

    def _house(
        self, side: int, near: float, far: float, height: float, color: Color, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        x, outer = side * self.wall, side * (self.wall + 16)
        sunlit = side > 0 and not self.night
        bright = _times(color, 1.08 if sunlit else 0.78)
        heat = float(rng.uniform(12.5, 15.5)) + (4.0 if sunlit else 0.0)
        front = _times(color, 0.9)
        facade = _MATERIALS.facade

        def along(u: float, y: float) -> Point3:
            return x, y, u

        def across(u: float, y: float) -> Point3:
            return x + side * u, y, near

        self._face(_box(across, 0, abs(outer - x), 0, height), front, heat - 1.5, facade)
        self._face(_box(along, near, far, 0, height), bright, heat, facade)
        for wall, start, end, tone in ((across, 0.0, 16.0, 0.9), (along, near, far, 1.0)):
            self._face(_box(wall, start, end, 0, 0.7), _times(color, 0.55 * tone), heat + 1)
            self._face(
                _box(wall, start, end, height - 0.35, height), _times(color, 0.5 * tone), heat - 3
            )
            for y in _steps(3.0, height - 1, 3.0):  # the edge of each floor lets heat out
                self._face(_box(wall, start, end, y, y + 0.22), _times(color, 0.8 * tone), heat + 2)
            self._windows(wall, start, end, height, heat, rng)
        # A warm flue behind the plaster is felt alone, lettering is seen alone.
        u = float(rng.uniform(near + 1, far - 1))
        self._face(_box(along, u, u + 0.35, 0.7, height - 0.4), None, heat + 3.5)
        if rng.random() < 0.6:
            self._letters(along, near + 0.8, far - 0.6, 2.75, rng)

    def _windows(
        self,
        wall: _Wall,
        start: float,
        end: float,
        height: float,
        heat: float,
        rng: np.random.Generator,
    ) -> None:
        step = float(rng.uniform(2.2, 3.0))
        dark = _times((96, 112, 130), float(rng.uniform(0.5, 0.9)))
        for floor in range(int((height - 0.8) / 3.0)):
            bottom = floor * 3.0 + 1.0
            for u in _steps(start + 0.7, end - 1.2, step):
                lit, leaky, door = rng.random(3)
                if floor == 0 and door < 0.2:
                    self._face(_box(wall, u, u + 1.1, 0, 2.3), (72, 48, 34), heat + 2)
                    continue
                glass_heat = 7.5 - self.sky_cooling / 4 + (4.5 if leaky < 0.25 else 0.0)
                glow = 0.75 if lit < 0.3 else 0.0
                glass = _mix(dark, (226, 196, 140), 0.6) if glow else dark
                self._face(
                    _box(wall, u - 0.12, u + 1.22, bottom - 0.14, bottom + 1.55),
                    (222, 218, 208),
                    heat - 1,
                )
                self._face(
                    _box(wall, u, u + 1.1, bottom, bottom + 1.42),
                    glass,
                    glass_heat,
                    _MATERIALS.glass,
                    glow,
                )
                self._face(
                    _box(wall, u + 0.51, u + 0.59, bottom, bottom + 1.42),
                    (214, 210, 200),
                    heat - 2,
                )

    def _letters(
        self, wall: _Wall, start: float, end: float, bottom: float, rng: np.random.Generator
    ) -> None:
        """A board with strokes like lettering, in paint alone."""
        end = min(end, start + 5.5)
        self._face(_box(wall, start, end, bottom, bottom + 0.75), _PAINTS[int(rng.integers(2))])
        for u in _steps(start + 0.25, end - 0.5, 0.55):
            bars = rng.random(4) < 0.65
            boxes = [
                (u, u + 0.09, 0.13, 0.62),
                (u + 0.26, u + 0.35, 0.13, 0.62),
                (u, u + 0.35, 0.53, 0.62),
                (u, u + 0.35, 0.33, 0.42),
            ]
            bars[0] |= not bars.any()
            for (a, b, low, high), drawn in zip(boxes, bars, strict=True):
                if drawn:
                    self._face(_box(wall, a, b, bottom + low, bottom + high), (236, 230, 210))

    # -- trees, posts, wires

    def _trees(self) -> list[_Thing]:
        things: list[_Thing] = []
        for side in (-1, 1):
            for z in _steps(float(self.rng.uniform(7, 12)), 70, float(self.rng.uniform(9, 14))):
                x = side * (self.kerb + 0.9)
                at = z + float(self.rng.uniform(-1.5, 1.5))
                size = float(self.rng.uniform(0.8, 1.25))
                seed = self._seed()
                things.append((at, partial(self._tree, x, at, size, seed)))
                self.shadows.append(_circle_on_ground(x + 1.6, at + 0.6, (1.7 * size, 1.1 * size)))
        for _ in range(6):  # hedges in front of the houses
            side, z = int(self.rng.choice([-1, 1])), float(self.rng.uniform(5, 40))
            seed = self._seed()
            things.append((z, partial(self._hedge, side * (self.wall - 0.5), z, seed)))
        return things

    def _tree(self, x: float, z: float, size: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        trunk = [(x - 0.14, 0.0, z), (x + 0.14, 0.0, z), (x + 0.09, 2.9, z), (x - 0.09, 2.9, z)]
        self._face(trunk, (86, 66, 50), 12.5, _MATERIALS.concrete)
        crown = 2.6 + 1.35 * size
        self._leaves(rng, (x, crown, z), (1.45 * size, 1.35 * size), 300)

    def _hedge(self, x: float, z: float, seed: int) -> None:
        self._leaves(np.random.default_rng(seed), (x, 0.55, z), (0.75, 0.5), 110)

    def _leaves(self, rng: np.random.Generator, centre: Point3, reach: Point, count: int) -> None:
        hue = rng.uniform(0, 1)
        green = _mix((74, 104, 48), (110, 118, 44), float(hue))
        angle = rng.uniform(0, 2 * np.pi, count)
        radius = np.sqrt(rng.random(count))
        lobes = 1 + 0.18 * np.sin(3 * angle + rng.uniform(0, 6))
        for dx, dy, part in zip(
            np.cos(angle) * radius * lobes,
            np.sin(angle) * radius * lobes,
            rng.random(count),
            strict=True,
        ):
            # Lit from the upper left; the inside is dark, and as warm as the air.
            light = 0.62 + 0.34 * float(dy - dx) * 0.7 + 0.3 * float(part)
            heat = 10.0 + 1.2 * float(dy - dx) * (not self.night) + 1.4 * float(part)
            spot = (centre[0] + reach[0] * float(dx), centre[1] + reach[1] * float(dy), centre[2])
            leaf = float(rng.uniform(0.07, 0.21)) * reach[0] / 1.2
            self._ball(spot, (leaf, leaf * 0.85), _times(green, light), heat, _MATERIALS.leaves)

    def _posts(self) -> list[_Thing]:
        things: list[_Thing] = []
        for side, first in ((-1, 9.0), (1, 15.0)):
            for z in _steps(first + float(self.rng.uniform(-2, 2)), 75, 17.0):
                things.append((z, partial(self._lamp, side, z)))
        for _ in range(2):
            side, z = int(self.rng.choice([-1, 1])), float(self.rng.uniform(7, 16))
            paint = _PAINTS[int(self.rng.integers(2))]
            things.append((z, partial(self._sign, side * (self.kerb + 0.45), z, paint)))
        return things

    def _lamp(self, side: int, z: float) -> None:
        x = side * (self.kerb + 0.5)
        reach = x - side * 1.5
        pole: Color = (92, 98, 100)
        self._face(_upright(x, 0.09, 0, 5.6, z), pole, 11.0)
        arm = [(x, 5.45, z), (reach, 5.75, z), (reach, 5.85, z), (x, 5.6, z)]
        self._face(arm, pole, 10.0)
        head = [
            (reach - 0.32, 5.68, z),
            (reach + 0.32, 5.68, z),
            (reach + 0.2, 5.88, z),
            (reach - 0.2, 5.88, z),
        ]
        self._face(head, (226, 224, 214), 31.0 if self.night else 14.0, light=1.0)
        self.canvas.pool(_circle_on_ground(reach, z, (4.0, 4.5)), 1.0)

    def _sign(self, x: float, z: float, paint: Color) -> None:
        self._face(_upright(x, 0.04, 0, 2.2, z), (150, 152, 152), 11.5)
        self._ball((x, 2.45, z), (0.36, 0.36), paint, 9.5)
        self._ball((x, 2.45, z), (0.26, 0.26), (232, 230, 226), None)
        self._face(_upright(x, 0.16, 2.38, 2.52, z), paint, None)

    def _wires(self) -> None:
        for height in self.rng.uniform(6.0, 7.5, 3):
            ends = self.rng.uniform(14, 30, 2)
            for k in range(24):
                a, b = k / 24, (k + 1) / 24
                upper = [self._wire(float(height), ends, part) for part in (a, b)]
                lower = [(px, py + 0.0022) for px, py in reversed(upper)]
                self.canvas.polygon([*upper, *lower], (58, 60, 66), 6.0)

    def _wire(self, height: float, ends: Floats, part: float) -> Point:
        x = (2 * part - 1) * self.wall
        z = float(ends[0] + (ends[1] - ends[0]) * part)
        return _project((x, height - 0.5 * (1 - (2 * part - 1) ** 2), z))

    # -- cars

    def _cars(self) -> list[_Thing]:
        things: list[_Thing] = []
        lane = self.kerb / 2
        plans = [
            (lane, float(self.rng.uniform(8, 11)), True, True),
            (-lane, float(self.rng.uniform(15, 24)), True, False),
            (lane * 0.98, float(self.rng.uniform(26, 36)), True, True),
            (-self.kerb + 1.05, float(self.rng.uniform(6.5, 9)), False, True),
            (self.kerb - 1.0, float(self.rng.uniform(17, 21)), False, True),
        ]
        for x, z, running, away in plans:
            paint = _PAINTS[int(self.rng.integers(len(_PAINTS)))]
            things.append((z, partial(self._car, x, z, paint, running, away)))
            self.shadows.append(
                [_project(p) for p in _ground_quad(x - 0.95, x + 1.7, z - 0.1, z + 4.5)]
            )
            if running and away:  # the tyres have warmed the road behind
                for wheel in (-0.7, 0.7):
                    left, right = x + wheel - 0.13, x + wheel + 0.13
                    self._strip(left, right, _NEAREST, z + 0.5, None, self.asphalt_heat + 1.6)
        return things

    def _car(self, x: float, z: float, paint: Color, running: bool, away: bool) -> None:
        """A car from behind (`away`) or from the front: a prism over its side profile."""
        rear = [
            (0.0, 0.32),
            (0.0, 0.92),
            (0.5, 1.0),
            (1.0, 1.45),
            (2.7, 1.45),
            (3.35, 1.0),
            (4.3, 0.85),
            (4.3, 0.32),
        ]
        profile = rear if away else [(4.3 - u, y) for u, y in reversed(rear)]
        half, side = 0.88, (1 if x < 0 else -1)
        body = 15.0 if running else 12.0
        glass: Color = (44, 54, 64)
        engine = 33.0 if running else 12.0
        warm_rim = 25.0 if running else 12.0

        self._strip(x - half, x + half, z + 0.1, z + 4.2, (30, 30, 34), 27.0 if running else 15.5)
        flank = [(x + side * half, y, z + u) for u, y in profile]
        self._face(flank, _times(paint, 0.72), body, _MATERIALS.smooth)
        low = 1.02
        cabin = [(u, y) for u, y in profile if y > 0.95]
        pane = [(u + 0.12 * np.sign(cabin[1][0] - u), max(min(y, 1.38), low)) for u, y in cabin]
        self._face(
            [(x + side * (half + 0.01), y, z + float(u)) for u, y in pane],
            glass,
            9.0,
            _MATERIALS.glass,
        )
        for u in (0.85, 3.45):
            wheel = [
                (
                    x + side * (half + 0.02),
                    0.32 + 0.32 * math.sin(t),
                    z + u + 0.32 * math.cos(t),
                )
                for t in _steps(0, 2 * math.pi, math.pi / 10)
            ]
            self._face(wheel, (34, 34, 36), warm_rim)
            hub = [(p[0], 0.32 + (p[1] - 0.32) * 0.5, z + u + (p[2] - z - u) * 0.5) for p in wheel]
            self._face(hub, (150, 152, 156), warm_rim + 6 * running)
        # The slopes from far to near: each covers the one behind.
        slopes = list(pairwise(profile[1:]))[:5]
        for (u0, y0), (u1, y1) in reversed(slopes):
            pane_like = abs(y1 - y0) > 0.25
            tone = 1.0 if abs(y1 - y0) < 0.05 else 0.9
            bonnet = (not away) and u1 <= 1.2
            heat = engine if bonnet or (away and u0 > 3) else 9.5 if pane_like else body - 1
            inset = 0.12 if pane_like else 0.0
            quad = [
                (x - half + inset, y0, z + u0),
                (x + half - inset, y0, z + u0),
                (x + half - inset, y1, z + u1),
                (x - half + inset, y1, z + u1),
            ]
            self._face(
                quad,
                glass if pane_like else _times(paint, tone),
                heat,
                _MATERIALS.glass if pane_like else _MATERIALS.smooth,
            )
        top = profile[1][1]
        self._face(
            _upright(x, half, 0.32, top, z),
            paint,
            (22.0 if not away else 16.0) if running else 12.0,
        )
        self._face(
            _upright(x, half * 0.98, 0.30, 0.50, z), _times(paint, 0.45), 17.0 if running else 12.5
        )
        for lamp in (-0.68, 0.68):
            color: Color = (190, 30, 26) if away else (240, 238, 226)
            light = (0.5 if away else 1.0) if running else 0.0
            self._face(
                _upright(x + lamp, 0.15, top - 0.28, top - 0.1, z),
                color,
                19.0 if running else 11.0,
                light=light,
            )
            self._face(
                _upright(x + lamp, 0.14, 0.02, 0.34, z + 0.02), (30, 30, 32), warm_rim + 3 * running
            )
        self._face(_upright(x, 0.26, 0.54, 0.68, z), (228, 226, 210), None)
        if running and away:
            self._ball((x + 0.5, 0.3, z - 0.02), (0.09, 0.07), (40, 40, 42), 58.0)
        if running:
            self.canvas.pool(
                [
                    _project(p)
                    for p in _ground_quad(
                        x - 1.6, x + 1.6, z + 6 if away else z - 7, z + 14 if away else z - 1
                    )
                ],
                0.8,
            )

    # -- people

    def _people(self) -> list[_Thing]:
        things: list[_Thing] = []
        pavement = self.kerb + 1.2
        plans = [
            (-pavement, float(self.rng.uniform(7.5, 9.5))),
            (pavement, float(self.rng.uniform(8, 12))),
            (pavement + 0.5, float(self.rng.uniform(12, 15))),
            (-pavement - 0.4, float(self.rng.uniform(13, 20))),
            (float(self.rng.uniform(-1.5, 1.5)), float(self.rng.uniform(13, 18))),
            (pavement + 0.2, float(self.rng.uniform(20, 30))),
        ]
        for x, z in plans:
            seed = self._seed()
            things.append((z, partial(self._person, x, z, seed)))
            self.shadows.append(_circle_on_ground(x + 0.9, z + 0.15, (0.95, 0.16)))
        side = int(self.rng.choice([-1, 1]))
        z = float(self.rng.uniform(9, 12))
        seed = self._seed()
        things.append((z, partial(self._shelter, side * (self.wall - 0.6), z, seed)))
        return things

    def _person(self, x: float, z: float, seed: int, hidden: bool = False) -> None:
        rng = np.random.default_rng(seed)
        size = float(rng.uniform(0.92, 1.06))
        coat, trousers = (_CLOTHES[int(k)] for k in rng.integers(len(_CLOTHES), size=2))
        skin = _mix((226, 178, 146), (110, 74, 54), float(rng.random()))
        if hidden:
            coat = trousers = skin = (17, 18, 21)
        stride, lean = float(rng.uniform(0.08, 0.24)), float(rng.choice([-1, 1]))

        def limb(top: Point, bottom: Point, widths: Point, color: Color, heat: float) -> None:
            (x0, y0), (x1, y1) = top, bottom
            points = [
                (x + x0 * size - widths[0], y0 * size, z),
                (x + x0 * size + widths[0], y0 * size, z),
                (x + x1 * size + widths[1], y1 * size, z),
                (x + x1 * size - widths[1], y1 * size, z),
            ]
            self._face(points, color, heat, _MATERIALS.cloth)

        dark = _times(trousers, 0.8)
        limb((-0.08, 0.92), (-stride, 0.05), (0.10, 0.065), dark, 24.0)
        limb((0.08, 0.92), (stride, 0.05), (0.10, 0.065), trousers, 24.5)
        for foot in (-stride, stride):
            limb((foot, 0.09), (foot + 0.05 * lean, 0.0), (0.07, 0.11), (30, 28, 28), 19.0)
        limb((-0.21, 1.42), (-0.26 - stride / 2, 0.88), (0.06, 0.045), _times(coat, 0.75), 26.0)
        limb((0.0, 1.42), (0.0, 0.84), (0.22 * size, 0.17 * size), coat, 26.5)
        self._ball((x, 1.42 * size, z), (0.22 * size, 0.09 * size), coat, 27.0, _MATERIALS.cloth)
        limb((0.21, 1.42), (0.24 + stride / 2, 0.9), (0.06, 0.045), _times(coat, 0.9), 26.5)
        for hand in (-0.27 - stride / 2, 0.25 + stride / 2):
            self._ball((x + hand * size, 0.84 * size, z), (0.055, 0.06), skin, 31.5)
        limb((0.0, 1.56), (0.0, 1.44), (0.06, 0.08), skin, 34.0)
        self._ball((x, 1.66 * size, z), (0.105 * size, 0.135 * size), skin, 34.0, _MATERIALS.cloth)
        hair = (24, 20, 18) if hidden else _times((110, 84, 60), float(rng.uniform(0.3, 1.2)))
        self._ball((x, 1.735 * size, z), (0.11 * size, 0.075 * size), hair, 28.0)

    def _shelter(self, x: float, z: float, seed: int) -> None:
        """A kiosk with a dark inside, and in it a person that only the thermal camera sees."""
        self._face(_upright(x, 1.05, 0, 2.6, z + 0.6), (120, 124, 110), 12.5, _MATERIALS.concrete)
        self._face(_upright(x, 0.85, 0, 2.25, z + 0.5), (17, 18, 21), 13.5, _MATERIALS.smooth)
        self._person(x + 0.1, z + 0.4, seed, hidden=True)
        self._face(_upright(x, 1.2, 2.5, 2.72, z), (84, 70, 56), 9.0)
        for post in (-1.05, 1.05):
            self._face(_upright(x + post, 0.05, 0, 2.5, z), (84, 70, 56), 11.0)


_Thing: TypeAlias = tuple[float, Callable[[], None]]
_Wall: TypeAlias = Callable[[float, float], Point3]


def _box(wall: _Wall, left: float, right: float, bottom: float, top: float) -> list[Point3]:
    """A rectangle on a wall, which maps (along, height) to the world."""
    return [wall(left, bottom), wall(right, bottom), wall(right, top), wall(left, top)]


def _upright(x: float, half: float, bottom: float, top: float, z: float) -> list[Point3]:
    """A rectangle that faces the camera."""
    return [(x - half, bottom, z), (x + half, bottom, z), (x + half, top, z), (x - half, top, z)]


def _steps(start: float, stop: float, step: float) -> list[float]:
    return [start + k * step for k in range(max(math.ceil((stop - start) / step), 0))]


def _ground_quad(left: float, right: float, near: float, far: float) -> list[Point3]:
    return [(left, 0.0, near), (right, 0.0, near), (right, 0.0, far), (left, 0.0, far)]


def _circle_on_ground(x: float, z: float, radii: Point) -> list[Point]:
    return [
        _project((x + radii[0] * math.cos(t), 0.0, z + radii[1] * math.sin(t)))
        for t in _steps(0, 2 * math.pi, math.pi / 14)
    ]

"""What the world looks like and how warm it is: layers to draw on, their texture and the light."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats: TypeAlias = NDArray[np.floating[Any]]
Color: TypeAlias = tuple[float, float, float]
Point: TypeAlias = tuple[float, float]

MARGIN = 0.22  # how far the canvas reaches beyond the visible frame, as a part of it
_OVERSAMPLE = 2  # canvas pixels per visible pixel and axis


class Material(Enum):
    """What a surface adds to its plain colour and temperature.

    The values are the texture of its brightness, as a part of it, that of its temperature, in °C,
    and the part of the visible texture that is pixel-sized.
    """

    SMOOTH = (0.012, 0.08, 0.5)
    ASPHALT = (0.085, 0.6, 0.7)
    CONCRETE = (0.06, 0.5, 0.5)
    GRASS = (0.22, 1.0, 0.5)
    FACADE = (0.055, 0.6, 0.35)
    GLASS = (0.10, 0.7, 0.05)
    LEAVES = (0.16, 0.6, 0.5)
    CLOTH = (0.05, 0.5, 0.3)


_MATERIALS = list(Material)  # their order is their value in the layer of materials


class Canvas:
    """Colour, temperature, material and lamplight of the world, finer than both cameras."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.height, self.width = size
        self.pad_y, self.pad_x = (round(side * MARGIN) for side in size)
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
        return reduce(layer[top : top + height, left : left + width], _OVERSAMPLE)

    def pixel(self, point: Point) -> Point:
        """Screen coordinates -> canvas pixels."""
        k = self.height * _OVERSAMPLE
        return point[0] * k + self.shape[0] / 2, point[1] * k + self.shape[1] / 2

    def _fills(
        self,
        color: Color | None,
        heat: float | None,
        material: Material | None,
        light: float | None,
    ) -> list[tuple[ImageDraw.ImageDraw, Any]]:
        fills: list[Any] = [
            None if color is None else tuple(int(min(max(c, 0), 255)) for c in color),
            heat,
            None if material is None else _MATERIALS.index(material),
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
        material: Material | None = None,
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
        material: Material | None = None,
        light: float | None = None,
    ) -> None:
        """Fills an upright ellipse in screen coordinates."""
        left, top = self.pixel((centre[0] - radii[0], centre[1] - radii[1]))
        right, bottom = self.pixel((centre[0] + radii[0], centre[1] + radii[1]))
        box = (left, top, max(right, left), max(bottom, top))
        for brush, fill in self._fills(color, heat, material, light):
            brush.ellipse(box, fill=fill)

    def shade(
        self, polygons: Sequence[Sequence[Point]], depth: float, cooling: float = 0.0
    ) -> None:
        """Darkens the colours so far by soft shadows, and cools by some °C what is in full ones."""
        mask = Image.new("L", self.shape)
        brush = ImageDraw.Draw(mask)
        for polygon in polygons:
            brush.polygon([self.pixel(point) for point in polygon], fill=int(255 * depth))
        mask = mask.filter(ImageFilter.BoxBlur(self.height * _OVERSAMPLE / 300))
        black = Image.new("RGB", self.shape, (14, 18, 34))
        self.color.paste(black, mask=mask)
        if cooling:
            dark = np.asarray(mask, dtype=np.float32) / 255
            self.heat.paste(Image.fromarray(np.asarray(self.heat) - np.float32(cooling) * dark))

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
        table = np.array([each.value for each in _MATERIALS], dtype=np.float32)
        grain, grain_heat, share = np.moveaxis(table[material], -1, 0)
        texture = 1 + grain * (share * fine + (1 - share) * coarse)
        color = np.asarray(self.color, dtype=np.float32) * texture[..., None]
        heat = np.asarray(self.heat) + grain_heat * warm
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

    def _noise(self, rng: np.random.Generator, cell: float) -> Floats:
        """Smooth noise of unit spread; `cell` in thousandths of the height of the frame."""
        cell *= self.height * _OVERSAMPLE / 480
        width, height = (max(round(side / cell), 2) for side in self.shape)
        small = Image.fromarray(rng.standard_normal((height, width), dtype=np.float32))
        noise = np.asarray(small.resize(self.shape, Image.Resampling.BICUBIC))
        return np.clip(noise, -2.5, 2.5)


def reduce(image: Floats, factor: int) -> Floats:
    """The means (H / factor, W / factor) of blocks of pixels."""
    height, width = image.shape
    blocks = image.reshape(height // factor, factor, width // factor, factor)
    return blocks.mean(axis=(1, 3), dtype=np.float64)

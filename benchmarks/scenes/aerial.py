"""Farmland straight from above, as a drone sees it: fields, roads, roofs, trees and a pond."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from benchmarks.scenes.canvas import Canvas, Color, Material, Point
from benchmarks.scenes.land import Land, Surface, bar, blob, box, on, randomness
from benchmarks.scenes.world import PAINTS, mix, steps, times

_GRASS = Surface((104, 126, 66), 5, 5, Material.GRASS)
_SOIL = Surface((124, 98, 74), 15, 1, Material.CONCRETE)
_GRAVEL = Surface((168, 158, 138), 13, -1, Material.CONCRETE)
_ASPHALT = Surface((92, 92, 96), 19, -4, Material.ASPHALT)
_CONCRETE = Surface((176, 174, 168), 11, -2, Material.CONCRETE)
_WATER = Surface((54, 74, 82), -2, -6)
_LEAVES = Surface((74, 100, 48), 1.5, 1, Material.LEAVES)
_METAL = Surface((186, 190, 194), -6, 15)
_PANEL = Surface((34, 42, 66), 22, 9, Material.GLASS)
_GLASS = Surface((120, 136, 150), -2, 8, Material.GLASS)
_WHITE = Surface((226, 226, 220), 15, -2)
_FIELDS = (
    _GRASS,
    _SOIL,
    Surface((96, 76, 58), 9, 0.5, Material.CONCRETE),  # wet
    Surface((196, 172, 104), 10, 4, Material.GRASS),  # ripe
    Surface((76, 118, 58), 2, 3, Material.LEAVES),  # growing
    Surface((206, 190, 78), 3, 3, Material.LEAVES),  # in flower
)
_ROOFS = (
    Surface((158, 86, 62), 20, 4, Material.FACADE),
    Surface((128, 66, 54), 21, 4, Material.FACADE),
    Surface((88, 90, 98), 24, 6, Material.FACADE),
    Surface((150, 140, 124), 16, 5, Material.FACADE),
)


def draw(canvas: Canvas, rng: np.random.Generator, night: bool) -> None:
    """Draws everything, from the ground up."""
    land = Land(canvas, rng, night)
    _fields(land)
    _pipe(land)
    _pond(land)
    road = _road(land)
    houses = _plots(land, road)
    trees = _trees(land, road)
    cars, people = _cars(land, road), _people(land, road)
    sun = min(2 * land.sun, 1.0)
    canvas.shade(land.shadows, 0.62 * sun, cooling=1.5 * land.sun)
    for x, y, angle in cars:
        _car(land, (x, y), angle)
    for at in people:
        _person(land, at)
    for at, half, angle, barn in houses:
        _house(land, at, half, angle, barn)
    for at, radius in trees:
        _tree(land, at, radius)
    _lamps(land, road)


def _fields(land: Land) -> None:
    reach = land.reach
    land.fill(box((0, 0), (reach, reach), 0), _GRASS)
    parts = [(-reach, -reach, reach, reach)]
    while parts:
        left, top, right, bottom = parts.pop()
        width, height = right - left, bottom - top
        cut = float(land.rng.uniform(0.35, 0.65))
        if max(width, height) > 0.75 * land.metres or min(width, height) > 0.5 * land.metres:
            if width > height:
                middle = left + cut * width
                parts += [(left, top, middle, bottom), (middle, top, right, bottom)]
            else:
                middle = top + cut * height
                parts += [(left, top, right, middle), (left, middle, right, bottom)]
            continue
        _field(land, (left, top, right, bottom))


def _field(land: Land, bounds: tuple[float, float, float, float]) -> None:
    rng = np.random.default_rng(int(land.rng.integers(2**31)))
    kind = _FIELDS[int(rng.integers(len(_FIELDS)))]
    kind = replace(kind, color=times(kind.color, float(rng.uniform(0.88, 1.12))))
    left, top, right, bottom = bounds
    margin = float(rng.uniform(0.6, 1.6))
    at = ((left + right) / 2, (top + bottom) / 2)
    half = ((right - left) / 2 - margin, (bottom - top) / 2 - margin)
    angle = 0.0 if half[0] > half[1] else math.pi / 2
    along, across = max(half), min(half)
    land.fill(box(at, (along, across), angle), kind)
    for _ in range(int(rng.integers(1, 4))):  # moist or thin places
        spot = on(at, angle, (rng.uniform(-0.7, 0.7) * along, rng.uniform(-0.7, 0.7) * across))
        wet = float(rng.uniform(0.1, 0.25))
        radius = min(float(rng.uniform(2, 5)), across * 0.28)
        land.fill(blob(spot, radius, rng), kind, 1 - wet, warmer=-8 * wet * land.sun)
    if kind is _GRASS or (kind.color[1] > kind.color[0] * 1.15 and rng.random() < 0.4):
        return
    row = float(rng.uniform(0.8, 2.2))
    deep = float(rng.uniform(0.1, 0.24))
    for v in steps(-across + row, across, row):  # a furrow's far side is darker, and less warmed
        land.fill(box(at, (along, row * 0.22), angle, (0, v)), kind, 1 - deep, lit=0.85)
    for v in steps(-across + 4, across - 1, float(rng.uniform(10, 16))):  # the tractor's tracks
        for wheel in (-0.9, 0.9):
            land.fill(box(at, (along, 0.25), angle, (0, v + wheel)), _SOIL, 0.95)


def _pond(land: Land) -> None:
    rng, far = land.rng, 0.62 * land.metres
    at = (float(rng.uniform(-far, far)), float(rng.uniform(-far, far)))
    radius = float(rng.uniform(0.06, 0.13)) * land.metres
    seed = int(rng.integers(2**31))
    for size, surface in ((1.16, _LEAVES), (1.07, _SOIL), (1.0, _WATER)):
        land.fill(blob(at, size * radius, np.random.default_rng(seed)), surface)


def _road(land: Land) -> list[Point]:
    """Lays the road and a track that leaves it; returns the middle of the road."""
    rng, reach = land.rng, land.reach
    bend, phase = rng.uniform(0.01, 0.05) * land.metres, rng.uniform(0, 6.28)
    middle = float(rng.uniform(-0.2, 0.2)) * land.metres
    road: list[Point] = [
        (x, middle + float(bend * math.sin(x / land.metres * 2.6 + phase)))
        for x in steps(-reach, reach + 2, 2.0)
    ]
    track = float(rng.uniform(-0.5, 0.5)) * land.metres
    start = min(road, key=lambda point: abs(point[0] - track))
    drift = float(rng.uniform(-0.3, 0.3))
    for side in (-1, 1):
        way = [(start[0] + drift * y, start[1] + side * y) for y in steps(0, reach * 1.5, 3.0)]
        land.line(way, 3.0, _GRAVEL)
        land.line(way, 0.8, _GRASS)  # grows between the wheels
    half = float(rng.uniform(2.7, 3.4))
    land.line(road, 2 * half + 2.4, _GRASS, 1.1)
    land.line(road, 2 * half, _ASPHALT)
    for side in (-1, 1):
        edge = [(x, y + side * (half - 0.3)) for x, y in road]
        land.line(edge, 0.16, _WHITE)
    for first, second in zip(road[::3], road[1::3], strict=False):
        land.line([first, second], 0.16, _WHITE)
    for _ in range(6):  # repaired patches
        x, y = road[int(rng.integers(len(road)))]
        size = (float(rng.uniform(0.6, 2.0)), float(rng.uniform(0.4, 1.0)))
        land.fill(box((x, y + float(rng.uniform(-1.5, 1.5))), size, 0), _ASPHALT, 0.75, warmer=1)
    for x, y in road[4::9]:  # the warm covers of the sewer
        land.fill(blob((x, y - 1.2), 0.4, np.random.default_rng(0), 0.0), _ASPHALT, 0.8, warmer=4)
    for x, y in road[2::10]:
        land.canvas.pool([land.place(p) for p in blob((x, y), 7, np.random.default_rng(0))], 0.9)
    return road


def _pipe(land: Land) -> None:
    """A buried heating pipe, only felt, and a pipe on supports, which both cameras see."""
    rng, far = land.rng, land.reach
    for buried in (True, False):
        x, slope = float(rng.uniform(-0.5, 0.5)) * land.metres, float(rng.uniform(-0.3, 0.3))
        ends = [(x - slope * far, -far), (x + slope * far, far)]
        if rng.random() < 0.5:
            continue
        if buried:
            land.felt(bar(*ends, 0.9), 2.5)
        else:
            land.line(ends, 0.6, _METAL, warmer=10)
            land.line(ends, 0.2, _METAL, 0.8, warmer=10)
            land.cast(bar(*ends, 0.6), 0.8)


def _plots(land: Land, road: list[Point]) -> list[tuple[Point, Point, float, bool]]:
    """Lays gardens and yards along the road; returns the buildings on them."""
    rng = land.rng
    houses: list[tuple[Point, Point, float, bool]] = []
    for side in (-1, 1):
        x = -land.reach + float(rng.uniform(0, 20))
        while x < land.reach:
            wide, deep = float(rng.uniform(15, 24)), float(rng.uniform(17, 26))
            near = min(road, key=lambda point: abs(point[0] - x - wide / 2))
            angle, barn = float(rng.uniform(-0.12, 0.12)), bool(rng.random() < 0.3)
            at = (x + wide / 2, near[1] + side * (6.5 + deep / 2))
            half = (float(rng.uniform(4.5, 6.5)), float(rng.uniform(3.4, 4.6)))
            turned = angle + math.pi / 2 * float(rng.integers(2))
            if rng.random() < 0.62:
                yard = _GRAVEL if barn else _GRASS
                land.fill(box(at, (wide / 2 - 0.5, deep / 2), angle), yard, 1.04)
                drive = (at[0] + wide * 0.32, near[1])
                land.line([drive, (drive[0], at[1])], 3.0, _CONCRETE if barn else _GRAVEL)
                bed = on(at, angle, (-wide * 0.3, side * deep * 0.33))
                land.fill(box(bed, (wide * 0.14, deep * 0.1), angle), _SOIL)
                terrace = on(at, angle, (0.0, side * (half[1] + 2)))
                land.fill(box(terrace, (3.2, 3.4), angle), _CONCRETE)
                if barn:
                    half = (half[0] * 1.35, half[1] * 1.25)
                houses.append((at, half, turned, barn))
                land.cast(box(at, half, turned), 5.0)
            x += wide + float(rng.choice([0.0, 4.0, 16.0]))
    return houses


def _house(land: Land, at: Point, half: Point, angle: float, barn: bool) -> None:
    rng = randomness(at)
    along, across = half
    roof = _METAL if barn and rng.random() < 0.6 else _ROOFS[int(rng.integers(len(_ROOFS)))]
    roof = replace(roof, color=times(roof.color, float(rng.uniform(0.85, 1.15))))
    land.fill(box(at, (along + 0.2, across + 0.2), angle), _METAL, 0.8)  # gutters
    for side in (-1, 1):
        lit = -(land.fall[0] * -math.sin(angle) + land.fall[1] * math.cos(angle)) * side
        tone = 1 + 0.28 * min(land.sun * 2, 1) * max(min(lit, 1), -1)
        warm = 0.65 + 0.4 * max(min(lit, 1), -1)

        def part(
            half: Point,
            centre: Point,
            surface: Surface,
            tint: float,
            warmer: float = 0.0,
            light: float = 0.0,
            side: int = side,
            tone: float = tone,
            warm: float = warm,
        ) -> None:
            outline = box(at, half, angle, (centre[0], side * centre[1]))
            land.fill(outline, surface, tint * tone, lit=warm, warmer=warmer, light=light)

        part((along, across / 2), (0, across / 2), roof, 1.0)
        course = 1.1 if roof.gain < 0 else 0.55
        for v in steps(course, across, course):
            part((along, 0.06), (0, v), roof, 0.86, -0.4)
        for u in steps(-along + 1.5, along - 1, float(rng.uniform(2.4, 3.6))):
            what, shine = rng.random(2)
            if what < 0.3:  # a skylight in its frame
                part((0.5, 0.65), (u, across * 0.5), _METAL, 0.7)
                glow = 0.8 * float(land.night and shine < 0.5)
                part((0.36, 0.5), (u, across * 0.5), _GLASS, 1.0, 3.0, glow)
        if rng.random() < 0.4 and lit > 0:
            for u in steps(-along * 0.7, along * 0.6, 1.75):
                for v in (0.3, 0.68):
                    part((0.8, across * 0.17), (u + 0.8, across * v), _PANEL, 1.0)
    land.line([on(at, angle, (s * along, 0)) for s in (-1, 1)], 0.3, roof, 0.8, 1.5)
    for _ in range(int(rng.integers(1, 3))):
        stack = on(at, angle, (float(rng.uniform(-0.7, 0.7)) * along, across * 0.15))
        land.fill(box(stack, (0.42, 0.42), angle), _ROOFS[1], 0.9, warmer=3)
        warm = 22.0 if rng.random() < 0.5 else 4.0
        land.fill(box(stack, (0.22, 0.22), angle), _ASPHALT, 0.4, warmer=warm)


def _trees(land: Land, road: list[Point]) -> list[tuple[Point, float]]:
    """Plants single trees, rows by the road and hedges; returns their crowns."""
    rng, reach = land.rng, land.reach
    crowns = [
        ((float(x), float(y)), float(rng.uniform(1.6, 3.8)))
        for x, y in rng.uniform(-reach, reach, (int(rng.integers(25, 50)), 2))
    ]
    for x, y in road[:: int(rng.integers(4, 7))]:
        crowns.append(((x, y + 5.4), float(rng.uniform(1.5, 2.4))))
    for _ in range(int(rng.integers(3, 6))):
        start, angle = rng.uniform(-reach, reach, 2), float(rng.choice([0, math.pi / 2]))
        for u in steps(0, float(rng.uniform(15, 40)), 1.3):
            at = on((float(start[0]), float(start[1])), angle, (u, float(rng.uniform(-0.3, 0.3))))
            crowns.append((at, float(rng.uniform(0.8, 1.3))))
    clear = [
        (at, radius)
        for at, radius in crowns
        if min(math.dist(at, point) for point in road) > 4.2 + radius / 2
    ]
    for at, radius in clear:
        land.cast(blob(at, radius * 0.9, np.random.default_rng(1)), 1.6 * radius)
    return clear


def _tree(land: Land, at: Point, radius: float) -> None:
    rng = randomness(at)
    color = mix((66, 96, 46), (116, 118, 54), float(rng.random()))
    count = int(14 + 9 * radius**2)
    slope = math.hypot(*land.fall)
    for angle, far, part in rng.uniform((0, 0, 0), (2 * math.pi, 1, 1), (count, 3)):
        spot = on(at, float(angle), (radius * math.sqrt(far) * 0.92, 0))
        # The side of the sun is lit; a leaf is as warm as the air, a gap in the crown as dark.
        toward = -sum(f * (s - a) for f, s, a in zip(land.fall, spot, at, strict=True))
        lit = toward / (slope * radius)
        tone = 0.72 + 0.34 * part + 0.3 * min(2 * land.sun, 1) * lit
        centre, size = land.place(spot), float(rng.uniform(0.25, 0.55)) / land.metres
        heat = land.heat(_LEAVES) + 1.2 * land.sun * lit + 1.2 * (part - 0.5)
        land.canvas.ellipse(centre, (size, size), times(color, tone), heat, Material.LEAVES, 0.0)


def _cars(land: Land, road: list[Point]) -> list[tuple[float, float, float]]:
    """Puts cars on the road and beside it; their shadows are cast at once."""
    rng, cars = land.rng, list[tuple[float, float, float]]()
    for k in rng.permutation(len(road) - 1)[: int(rng.integers(5, 9))]:
        (x, y), (u, v) = road[k], road[k + 1]
        lane = float(rng.choice([-1.5, 1.5, -4.6]))
        cars.append((x, y + lane, math.atan2(v - y, u - x) + math.pi * (lane > 0)))
        land.cast(box((x, y + lane), (2.1, 0.85), cars[-1][2]), 1.2)
    return cars


def _car(land: Land, at: Point, angle: float) -> None:
    rng = randomness(at)
    paint, running = PAINTS[int(rng.integers(len(PAINTS)))], bool(rng.random() < 0.6)
    body = Surface(paint, 24 * (1 - sum(paint) / 765), 7)
    land.fill(box(at, (2.15, 0.9), angle), body, 0.8)
    land.fill(box(at, (2.1, 0.82), angle), body)
    land.fill(box(at, (0.75, 0.78), angle, (1.3, 0)), body, 0.95, warmer=14.0 * running)
    land.fill(box(at, (1.35, 0.74), angle, (-0.45, 0)), _GLASS, 0.4)
    land.fill(box(at, (0.75, 0.72), angle, (-0.4, 0)), body, 1.06)
    for side in (-0.55, 0.55):
        shine = 0.9 if running and land.night else 0.0
        land.fill(box(at, (0.12, 0.18), angle, (2.05, side)), _WHITE, light=shine)
    if running:
        beam = box(at, (5, 1.6), angle, (7, 0))
        land.canvas.pool([land.place(point) for point in beam], 0.8)


def _people(land: Land, road: list[Point]) -> list[Point]:
    """Where people walk and cattle stands; their shadows are cast at once."""
    rng = land.rng
    people = [(x, y + 4.2) for x, y in road[3 :: int(rng.integers(7, 14))]]
    herd = rng.uniform(-0.6, 0.6, 2) * land.metres
    people += [(float(x), float(y)) for x, y in herd + rng.normal(0, 6, (8, 2))]
    for at in people:
        land.cast(box(at, (0.3, 0.3), 0), 1.6)
    return people


def _person(land: Land, at: Point) -> None:
    rng = randomness(at)
    angle = float(rng.uniform(0, 6.28))
    coat: Color = mix((190, 70, 50), (50, 60, 90), float(rng.random()))
    warmth = 28.0 - land.air
    for half, color in (((0.26, 0.45), coat), ((0.15, 0.15), (70, 52, 40))):
        surface = Surface(color, 0, 0, Material.CLOTH)
        land.fill(box(at, half, angle), surface, warmer=warmth)


def _lamps(land: Land, road: list[Point]) -> None:
    """Puts lamps along the road, warm and bright at night."""
    for x, y in road[2::10]:
        land.line([(x, y - 4.0), (x, y - 2.4)], 0.16, _METAL, 0.6)
        head = box((x, y - 2.2), (0.2, 0.45), 0)
        land.fill(head, _WHITE, warmer=14.0 * land.night, light=1.0)

"""The street and what stands in it: sky, ground, houses, trees, posts and wires."""

from __future__ import annotations

from functools import partial

import numpy as np
from benchmarks.scenes.canvas import Color, Floats, Material, Point
from benchmarks.scenes.traffic import cars, people
from benchmarks.scenes.world import (
    HORIZON,
    NEAREST,
    PAINTS,
    Point3,
    Thing,
    Wall,
    World,
    box,
    circle_on_ground,
    ground_quad,
    mix,
    project,
    steps,
    times,
    upright,
)

_WALLS: tuple[Color, ...] = (
    (176, 132, 104),
    (196, 180, 150),
    (150, 96, 80),
    (168, 170, 172),
    (204, 196, 176),
    (128, 120, 112),
)


def draw(world: World) -> None:
    """Draws everything, from far to near."""
    _sky(world)
    _ground(world)
    houses = _houses(world)
    things = [*_trees(world), *_posts(world), *cars(world), *people(world)]
    if not world.night:
        world.canvas.shade(world.shadows, 0.6)
    # No house hides anything on the street, so houses come first; the rest from far to near.
    for group in (houses, things):
        for _, draw_thing in sorted(group, key=lambda thing: -thing[0]):
            draw_thing()
    _wires(world)


def _sky(world: World) -> None:
    cooling = world.sky_cooling
    world.canvas.gradient(
        -1.0,
        HORIZON + 0.01,
        [
            ((74, 124, 196), -5 - cooling),
            ((120, 164, 216), 0 - cooling),
            ((206, 218, 226), 7 - cooling / 2),
        ],
    )
    world.canvas.clouds(world.rng)
    for layer, (color, rise, heat) in enumerate(
        [((142, 160, 178), 0.085, 7.0), ((106, 130, 118), 0.045, 9.0)]
    ):
        x = np.linspace(-1.6, 1.6, 90)
        phase = world.rng.uniform(0, 6.28, 4)
        ridge = sum(np.sin(x * (3 + 2.7 * k) * (1 + layer) + phase[k]) / (k + 1) for k in range(4))
        top = HORIZON - rise * (0.55 + 0.25 * np.asarray(ridge))
        outline = [*zip(x.tolist(), top.tolist(), strict=True), (1.6, 0.2), (-1.6, 0.2)]
        world.canvas.polygon(outline, color, heat, Material.CONCRETE, 0.0)


def _ground(world: World) -> None:
    kerb, wall, warm = world.kerb, world.wall, world.asphalt_heat
    far = 300.0
    world.strip(-200, 200, NEAREST, far, (104, 122, 70), 12.0, Material.GRASS)
    world.strip(-wall, wall, NEAREST, far, (158, 154, 148), warm - 2.2, Material.CONCRETE)
    for side in (-1, 1):
        for z in steps(2, 60, 1.5):  # joints between the slabs
            world.strip(side * kerb, side * wall, z, z * 1.004 + 0.02, (122, 118, 112), warm - 2.8)
    world.strip(
        -kerb - 0.25,
        kerb + 0.25,
        NEAREST,
        far,
        (186, 184, 178),
        warm - 3.4,
        Material.CONCRETE,
    )
    world.strip(-kerb, kerb, NEAREST, far, (88, 88, 92), warm, Material.ASPHALT)
    for _ in range(5):  # repaired patches, a little warmer because darker
        x, z = world.rng.uniform(-kerb + 0.6, kerb - 1.8), world.rng.uniform(4, 30)
        size = world.rng.uniform(0.7, 2.2, 2)
        world.strip(x, x + size[0], z, z + 2 * size[1], (66, 66, 70), warm + 1.4)
    white: Color = (222, 222, 214)
    for z in steps(NEAREST, 90, 6.0):  # paint: seen, hardly felt
        world.strip(-0.09, 0.09, z, z + 3, white)
    for side in (-1, 1):
        world.strip(side * (kerb - 0.32), side * (kerb - 0.2), NEAREST, 120, white)
    zebra = float(world.rng.uniform(12, 18))
    for x in steps(-kerb + 0.4, kerb - 0.5, 1.0):
        world.strip(x, x + 0.5, zebra, zebra + 3, white, warm - 0.7)
    for _ in range(3):
        x, z = world.rng.uniform(-kerb + 0.8, kerb - 0.8), world.rng.uniform(5, 14)
        world.disc(x, z, (0.42, 0.42), (78, 78, 82), warm + world.rng.uniform(5, 9))
        world.disc(x, z, (0.30, 0.30), (84, 82, 84), None)


def _houses(world: World) -> list[Thing]:
    things: list[Thing] = []
    for side in (-1, 1):
        z = float(world.rng.uniform(1.5, 3.0))
        while z < 75:
            length = float(world.rng.uniform(7, 15))
            height = float(world.rng.uniform(5.5, 12.5))
            color = _WALLS[int(world.rng.integers(len(_WALLS)))]
            seed = world.seed()
            things.append(
                (z + 0.2, partial(_house, world, side, z, z + length, height, color, seed))
            )
            if side < 0:
                reach = -world.wall + 0.45 * height
                world.shadows.append(ground_quad(-world.wall, reach, z + 1, z + length + 1))
            z += length + float(world.rng.choice([0.0, 0.0, 2.5, 5.0]))
    return things


def _house(
    world: World, side: int, near: float, far: float, height: float, color: Color, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x, outer = side * world.wall, side * (world.wall + 16)
    sunlit = side > 0 and not world.night
    bright = times(color, 1.08 if sunlit else 0.78)
    heat = float(rng.uniform(12.5, 15.5)) + (4.0 if sunlit else 0.0)
    front = times(color, 0.9)
    facade = Material.FACADE

    def along(u: float, y: float) -> Point3:
        return x, y, u

    def across(u: float, y: float) -> Point3:
        return x + side * u, y, near

    world.face(box(across, 0, abs(outer - x), 0, height), front, heat - 1.5, facade)
    world.face(box(along, near, far, 0, height), bright, heat, facade)
    for wall, start, end, tone in ((across, 0.0, 16.0, 0.9), (along, near, far, 1.0)):
        world.face(box(wall, start, end, 0, 0.7), times(color, 0.55 * tone), heat + 1)
        world.face(box(wall, start, end, height - 0.35, height), times(color, 0.5 * tone), heat - 3)
        for y in steps(3.0, height - 1, 3.0):  # the edge of each floor lets heat out
            world.face(box(wall, start, end, y, y + 0.22), times(color, 0.8 * tone), heat + 2)
        _windows(world, wall, start, end, height, heat, rng)
    # A warm flue behind the plaster is felt alone, lettering is seen alone.
    u = float(rng.uniform(near + 1, far - 1))
    world.face(box(along, u, u + 0.35, 0.7, height - 0.4), None, heat + 3.5)
    if rng.random() < 0.6:
        _letters(world, along, near + 0.8, far - 0.6, 2.75, rng)


def _windows(
    world: World,
    wall: Wall,
    start: float,
    end: float,
    height: float,
    heat: float,
    rng: np.random.Generator,
) -> None:
    step = float(rng.uniform(2.2, 3.0))
    dark = times((96, 112, 130), float(rng.uniform(0.5, 0.9)))
    for floor in range(int((height - 0.8) / 3.0)):
        bottom = floor * 3.0 + 1.0
        for u in steps(start + 0.7, end - 1.2, step):
            lit, leaky, door = rng.random(3)
            if floor == 0 and door < 0.2:
                world.face(box(wall, u, u + 1.1, 0, 2.3), (72, 48, 34), heat + 2)
                continue
            glass_heat = 7.5 - world.sky_cooling / 4 + (4.5 if leaky < 0.25 else 0.0)
            glow = 0.75 if lit < 0.3 else 0.0
            glass = mix(dark, (226, 196, 140), 0.6) if glow else dark
            world.face(
                box(wall, u - 0.12, u + 1.22, bottom - 0.14, bottom + 1.55),
                (222, 218, 208),
                heat - 1,
            )
            world.face(
                box(wall, u, u + 1.1, bottom, bottom + 1.42),
                glass,
                glass_heat,
                Material.GLASS,
                glow,
            )
            world.face(
                box(wall, u + 0.51, u + 0.59, bottom, bottom + 1.42),
                (214, 210, 200),
                heat - 2,
            )


def _letters(
    world: World, wall: Wall, start: float, end: float, bottom: float, rng: np.random.Generator
) -> None:
    """A board with strokes like lettering, in paint alone."""
    end = min(end, start + 5.5)
    world.face(box(wall, start, end, bottom, bottom + 0.75), PAINTS[int(rng.integers(2))])
    for u in steps(start + 0.25, end - 0.5, 0.55):
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
                world.face(box(wall, a, b, bottom + low, bottom + high), (236, 230, 210))


def _trees(world: World) -> list[Thing]:
    things: list[Thing] = []
    for side in (-1, 1):
        for z in steps(float(world.rng.uniform(7, 12)), 70, float(world.rng.uniform(9, 14))):
            x = side * (world.kerb + 0.9)
            at = z + float(world.rng.uniform(-1.5, 1.5))
            size = float(world.rng.uniform(0.8, 1.25))
            seed = world.seed()
            things.append((at, partial(_tree, world, x, at, size, seed)))
            world.shadows.append(circle_on_ground(x + 1.6, at + 0.6, (1.7 * size, 1.1 * size)))
    for _ in range(6):  # hedges in front of the houses
        side, z = int(world.rng.choice([-1, 1])), float(world.rng.uniform(5, 40))
        seed = world.seed()
        things.append((z, partial(_hedge, world, side * (world.wall - 0.5), z, seed)))
    return things


def _tree(world: World, x: float, z: float, size: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trunk = [(x - 0.14, 0.0, z), (x + 0.14, 0.0, z), (x + 0.09, 2.9, z), (x - 0.09, 2.9, z)]
    world.face(trunk, (86, 66, 50), 12.5, Material.CONCRETE)
    crown = 2.6 + 1.35 * size
    _leaves(world, rng, (x, crown, z), (1.45 * size, 1.35 * size), 300)


def _hedge(world: World, x: float, z: float, seed: int) -> None:
    _leaves(world, np.random.default_rng(seed), (x, 0.55, z), (0.75, 0.5), 110)


def _leaves(
    world: World, rng: np.random.Generator, centre: Point3, reach: Point, count: int
) -> None:
    hue = rng.uniform(0, 1)
    green = mix((74, 104, 48), (110, 118, 44), float(hue))
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
        heat = 10.0 + 1.2 * float(dy - dx) * (not world.night) + 1.4 * float(part)
        spot = (centre[0] + reach[0] * float(dx), centre[1] + reach[1] * float(dy), centre[2])
        leaf = float(rng.uniform(0.07, 0.21)) * reach[0] / 1.2
        world.ball(spot, (leaf, leaf * 0.85), times(green, light), heat, Material.LEAVES)


def _posts(world: World) -> list[Thing]:
    things: list[Thing] = []
    for side, first in ((-1, 9.0), (1, 15.0)):
        for z in steps(first + float(world.rng.uniform(-2, 2)), 75, 17.0):
            things.append((z, partial(_lamp, world, side, z)))
    for _ in range(2):
        side, z = int(world.rng.choice([-1, 1])), float(world.rng.uniform(7, 16))
        paint = PAINTS[int(world.rng.integers(2))]
        things.append((z, partial(_sign, world, side * (world.kerb + 0.45), z, paint)))
    return things


def _lamp(world: World, side: int, z: float) -> None:
    x = side * (world.kerb + 0.5)
    reach = x - side * 1.5
    pole: Color = (92, 98, 100)
    world.face(upright(x, 0.09, 0, 5.6, z), pole, 11.0)
    arm = [(x, 5.45, z), (reach, 5.75, z), (reach, 5.85, z), (x, 5.6, z)]
    world.face(arm, pole, 10.0)
    head = [
        (reach - 0.32, 5.68, z),
        (reach + 0.32, 5.68, z),
        (reach + 0.2, 5.88, z),
        (reach - 0.2, 5.88, z),
    ]
    world.face(head, (226, 224, 214), 31.0 if world.night else 14.0, light=1.0)
    world.canvas.pool(circle_on_ground(reach, z, (4.0, 4.5)), 1.0)


def _sign(world: World, x: float, z: float, paint: Color) -> None:
    world.face(upright(x, 0.04, 0, 2.2, z), (150, 152, 152), 11.5)
    world.ball((x, 2.45, z), (0.36, 0.36), paint, 9.5)
    world.ball((x, 2.45, z), (0.26, 0.26), (232, 230, 226), None)
    world.face(upright(x, 0.16, 2.38, 2.52, z), paint, None)


def _wires(world: World) -> None:
    for height in world.rng.uniform(6.0, 7.5, 3):
        ends = world.rng.uniform(14, 30, 2)
        for k in range(24):
            a, b = k / 24, (k + 1) / 24
            upper = [_wire(world, float(height), ends, part) for part in (a, b)]
            lower = [(px, py + 0.0022) for px, py in reversed(upper)]
            world.canvas.polygon([*upper, *lower], (58, 60, 66), 6.0)


def _wire(world: World, height: float, ends: Floats, part: float) -> Point:
    x = (2 * part - 1) * world.wall
    z = float(ends[0] + (ends[1] - ends[0]) * part)
    return project((x, height - 0.5 * (1 - (2 * part - 1) ** 2), z))

"""What comes and goes in the street: cars and people."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import numpy as np
from benchmarks.scenes.canvas import Color, Material, Point
from benchmarks.scenes.world import (
    NEAREST,
    PAINTS,
    Thing,
    World,
    circle_on_ground,
    ground_quad,
    mix,
    steps,
    times,
    upright,
)

_CLOTHES: tuple[Color, ...] = (
    (60, 70, 110),
    (150, 50, 46),
    (70, 96, 70),
    (180, 170, 150),
    (52, 52, 58),
    (196, 140, 60),
)


def cars(world: World) -> list[Thing]:
    """The cars of the street; their shadows and the warm tracks of their tyres are laid at once."""
    things: list[Thing] = []
    lane = world.kerb / 2
    plans = [
        (lane, float(world.rng.uniform(8, 11)), True, True),
        (-lane, float(world.rng.uniform(15, 24)), True, False),
        (lane * 0.98, float(world.rng.uniform(26, 36)), True, True),
        (-world.kerb + 1.05, float(world.rng.uniform(6.5, 9)), False, True),
        (world.kerb - 1.0, float(world.rng.uniform(17, 21)), False, True),
    ]
    for x, z, running, away in plans:
        paint = PAINTS[int(world.rng.integers(len(PAINTS)))]
        things.append((z, partial(_car, world, x, z, paint, running, away)))
        world.shadows.append(ground_quad(x - 0.95, x + 1.7, z - 0.1, z + 4.5))
        if running and away:  # the tyres have warmed the road behind
            for wheel in (-0.7, 0.7):
                left, right = x + wheel - 0.13, x + wheel + 0.13
                world.strip(left, right, NEAREST, z + 0.5, None, world.asphalt_heat + 1.6)
    return things


def _car(world: World, x: float, z: float, paint: Color, running: bool, away: bool) -> None:
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

    world.strip(x - half, x + half, z + 0.1, z + 4.2, (30, 30, 34), 27.0 if running else 15.5)
    flank = [(x + side * half, y, z + u) for u, y in profile]
    world.face(flank, times(paint, 0.72), body, Material.SMOOTH)
    low = 1.02
    cabin = [(u, y) for u, y in profile if y > 0.95]
    pane = [(u + 0.12 * np.sign(cabin[1][0] - u), max(min(y, 1.38), low)) for u, y in cabin]
    world.face(
        [(x + side * (half + 0.01), y, z + float(u)) for u, y in pane],
        glass,
        9.0,
        Material.GLASS,
    )
    for u in (0.85, 3.45):
        wheel = [
            (
                x + side * (half + 0.02),
                0.32 + 0.32 * math.sin(t),
                z + u + 0.32 * math.cos(t),
            )
            for t in steps(0, 2 * math.pi, math.pi / 10)
        ]
        world.face(wheel, (34, 34, 36), warm_rim)
        hub = [(p[0], 0.32 + (p[1] - 0.32) * 0.5, z + u + (p[2] - z - u) * 0.5) for p in wheel]
        world.face(hub, (150, 152, 156), warm_rim + 6 * running)
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
        world.face(
            quad,
            glass if pane_like else times(paint, tone),
            heat,
            Material.GLASS if pane_like else Material.SMOOTH,
        )
    top = profile[1][1]
    world.face(
        upright(x, half, 0.32, top, z),
        paint,
        (22.0 if not away else 16.0) if running else 12.0,
    )
    world.face(
        upright(x, half * 0.98, 0.30, 0.50, z), times(paint, 0.45), 17.0 if running else 12.5
    )
    for lamp in (-0.68, 0.68):
        color: Color = (190, 30, 26) if away else (240, 238, 226)
        light = (0.5 if away else 1.0) if running else 0.0
        world.face(
            upright(x + lamp, 0.15, top - 0.28, top - 0.1, z),
            color,
            19.0 if running else 11.0,
            light=light,
        )
        world.face(
            upright(x + lamp, 0.14, 0.02, 0.34, z + 0.02), (30, 30, 32), warm_rim + 3 * running
        )
    world.face(upright(x, 0.26, 0.54, 0.68, z), (228, 226, 210), None)
    if running and away:
        world.ball((x + 0.5, 0.3, z - 0.02), (0.09, 0.07), (40, 40, 42), 58.0)
    if running:
        world.canvas.pool(
            ground_quad(x - 1.6, x + 1.6, z + 6 if away else z - 7, z + 14 if away else z - 1),
            0.8,
        )


def people(world: World) -> list[Thing]:
    """The people of the street, one of them in the dark; their shadows are laid at once."""
    things: list[Thing] = []
    pavement = world.kerb + 1.2
    plans = [
        (-pavement, float(world.rng.uniform(7.5, 9.5))),
        (pavement, float(world.rng.uniform(8, 12))),
        (pavement + 0.5, float(world.rng.uniform(12, 15))),
        (-pavement - 0.4, float(world.rng.uniform(13, 20))),
        (float(world.rng.uniform(-1.5, 1.5)), float(world.rng.uniform(13, 18))),
        (pavement + 0.2, float(world.rng.uniform(20, 30))),
    ]
    for x, z in plans:
        seed = world.seed()
        things.append((z, partial(_person, world, x, z, seed)))
        world.shadows.append(circle_on_ground(x + 0.9, z + 0.15, (0.95, 0.16)))
    side = int(world.rng.choice([-1, 1]))
    z = float(world.rng.uniform(9, 12))
    seed = world.seed()
    things.append((z, partial(_shelter, world, side * (world.wall - 0.6), z, seed)))
    return things


def _person(world: World, x: float, z: float, seed: int, hidden: bool = False) -> None:
    rng = np.random.default_rng(seed)
    size = float(rng.uniform(0.92, 1.06))
    coat, trousers = (_CLOTHES[int(k)] for k in rng.integers(len(_CLOTHES), size=2))
    skin = mix((226, 178, 146), (110, 74, 54), float(rng.random()))
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
        world.face(points, color, heat, Material.CLOTH)

    dark = times(trousers, 0.8)
    limb((-0.08, 0.92), (-stride, 0.05), (0.10, 0.065), dark, 24.0)
    limb((0.08, 0.92), (stride, 0.05), (0.10, 0.065), trousers, 24.5)
    for foot in (-stride, stride):
        limb((foot, 0.09), (foot + 0.05 * lean, 0.0), (0.07, 0.11), (30, 28, 28), 19.0)
    limb((-0.21, 1.42), (-0.26 - stride / 2, 0.88), (0.06, 0.045), times(coat, 0.75), 26.0)
    limb((0.0, 1.42), (0.0, 0.84), (0.22 * size, 0.17 * size), coat, 26.5)
    world.ball((x, 1.42 * size, z), (0.22 * size, 0.09 * size), coat, 27.0, Material.CLOTH)
    limb((0.21, 1.42), (0.24 + stride / 2, 0.9), (0.06, 0.045), times(coat, 0.9), 26.5)
    for hand in (-0.27 - stride / 2, 0.25 + stride / 2):
        world.ball((x + hand * size, 0.84 * size, z), (0.055, 0.06), skin, 31.5)
    limb((0.0, 1.56), (0.0, 1.44), (0.06, 0.08), skin, 34.0)
    world.ball((x, 1.66 * size, z), (0.105 * size, 0.135 * size), skin, 34.0, Material.CLOTH)
    hair = (24, 20, 18) if hidden else times((110, 84, 60), float(rng.uniform(0.3, 1.2)))
    world.ball((x, 1.735 * size, z), (0.11 * size, 0.075 * size), hair, 28.0)


def _shelter(world: World, x: float, z: float, seed: int) -> None:
    """A kiosk with a dark inside, and in it a person that only the thermal camera sees."""
    world.face(upright(x, 1.05, 0, 2.6, z + 0.6), (120, 124, 110), 12.5, Material.CONCRETE)
    world.face(upright(x, 0.85, 0, 2.25, z + 0.5), (17, 18, 21), 13.5, Material.SMOOTH)
    _person(world, x + 0.1, z + 0.4, seed, hidden=True)
    world.face(upright(x, 1.2, 2.5, 2.72, z), (84, 70, 56), 9.0)
    for post in (-1.05, 1.05):
        world.face(upright(x + post, 0.05, 0, 2.5, z), (84, 70, 56), 11.0)

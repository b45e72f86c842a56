"""A rendered scene, seen by a visible and a thermal camera that are not aligned, with exact truth.

A street, the data of the tests and of `umfuse demo`: ``python -m benchmarks.scenes``; or land from
above, that fine-tuning is measured on. A development tool.

One canvas holds what the world looks like and how warm it is. Each camera samples that canvas
through its own geometry, so the map from visible to infrared pixels is known exactly. Everything is
drawn here, from random numbers: no data is needed and none is copied. Some things are seen by one
camera alone, as in life: paint, signs and lettering only by the visible one; a person in the dark
of a doorway, a warm manhole cover and the tracks of tyres only by the thermal one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from benchmarks.scenes import aerial, cameras, street
from benchmarks.scenes.canvas import Canvas
from benchmarks.scenes.world import World
from numpy.typing import NDArray
from torch import Tensor

from umfuse import geometry

__all__ = ["Scene", "render"]


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
        valid: Where `coordinates` lie on a pixel of the infrared image, bool (H, W).
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
    view: Literal["street", "aerial"] = "street",
) -> Scene:
    """A scene as two cameras see it.

    The same arguments give the same pictures. Day and night of one seed share the scene and the
    cameras; scenes of one size share the size of the infrared image.

    Args:
        seed: Which street or land and which pair of cameras.
        size: Height and width of the visible image, 64 to 4096 each.
        infrared_size: Height and width of the infrared image; by default 8/15 and 1/2 of `size`,
            which is 256 x 320 for 480 x 640.
        strength: Misalignment, from 0 (plain resizing aligns the pair exactly) to 1 (another field
            of view, a shift, a rotation and some perspective).
        night: Whether only lamps, windows and headlights light the visible image.
        view: A street from the pavement, or farmland straight from above.

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

    canvas = Canvas(size)
    rng = np.random.default_rng([seed, 0])
    if view == "aerial":
        aerial.draw(canvas, rng, night)
    else:
        street.draw(World(canvas, rng, night))
    color, heat = canvas.finish(np.random.default_rng([seed, 1]), night)

    transform = cameras.rig(np.random.default_rng([seed, 2]), size, infrared_size, strength)
    coordinates = cameras.coordinates(transform, size)
    displacement = coordinates - cameras.coordinates(cameras.resizing(size, infrared_size), size)
    return Scene(
        infrared=cameras.infrared(
            canvas, heat, transform, infrared_size, np.random.default_rng([seed, 3])
        ),
        visible=cameras.visible(canvas, color, np.random.default_rng([seed, 4]), night),
        transform=transform,
        coordinates=_channels_last(coordinates),
        displacement=_channels_last(displacement),
        valid=geometry.inside(coordinates, infrared_size)[0, 0].numpy(),
        aligned_infrared=cameras.counts(canvas.visible_window(heat)),
    )


def _channels_last(field: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(field[0].movedim(0, -1).float().numpy())

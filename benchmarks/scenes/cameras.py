"""The two cameras: how they are mounted, and what their lenses and detectors make of the canvas."""

from __future__ import annotations

import numpy as np
import torch
from benchmarks.scenes.canvas import Canvas, Floats, reduce
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from umfuse import filters, geometry

_INFRARED_OVERSAMPLE = 4  # samples per infrared pixel and axis
_CENTIKELVIN = 27315  # counts of a radiometric camera at 0 °C, 100 counts a kelvin


def resizing(size: tuple[int, int], infrared_size: tuple[int, int]) -> NDArray[np.float64]:
    """Plain resizing as a map between pixel centres."""
    return geometry.resize_transform(size, infrared_size).numpy()


def rig(
    rng: np.random.Generator, size: tuple[int, int], infrared_size: tuple[int, int], strength: float
) -> NDArray[np.float64]:
    """Visible pixel -> infrared pixel of a random pair of cameras."""
    height, width = size
    resized = resizing(size, infrared_size)
    zoom = np.exp(strength * np.log(rng.uniform(0.84, 1.0)))
    # Both cameras have square pixels; plain resizing does not keep them square.
    aspect = (resized[1, 1] / resized[0, 0]) ** (strength / 2)
    angle = strength * np.deg2rad(rng.uniform(1.0, 3.0) * rng.choice([-1, 1]))
    shift = strength * rng.uniform(0.015, 0.045, 2) * rng.choice([-1, 1], 2) * (width, height)
    tilt = strength * rng.uniform(-0.02, 0.02, 2) / (width, height)
    cos, sin = np.cos(angle), np.sin(angle)
    centre = np.array([[1, 0, (width - 1) / 2], [0, 1, (height - 1) / 2], [0, 0, 1]])
    moved = np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [tilt[0], tilt[1], 1]])
    transform = (
        resized
        @ centre
        @ np.diag([zoom * aspect, zoom / aspect, 1])
        @ moved
        @ np.linalg.inv(centre)
    )
    return transform / transform[2, 2]


def coordinates(transform: NDArray[np.float64], size: tuple[int, int]) -> Tensor:
    """(x, y) in the infrared image that each visible pixel sees, float64 (1, 2, H, W)."""
    grid = geometry.identity_grid(*size, dtype=torch.float64)
    return geometry.project(torch.from_numpy(transform), grid)


def counts(celsius: Floats) -> NDArray[np.uint16]:
    """Temperatures in °C as a radiometric camera counts them."""
    return np.clip(np.rint(celsius * 100 + _CENTIKELVIN), 0, 65535).astype(np.uint16)


def infrared(
    canvas: Canvas,
    heat: Floats,
    transform: NDArray[np.float64],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """The counts (h, w) of the thermal camera, with its blur and noise."""
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
    sharp = torch.from_numpy(reduce(np.asarray(seen), _INFRARED_OVERSAMPLE))
    celsius = filters.blur(sharp[None, None], 0.55)[0, 0].numpy()
    celsius += rng.normal(0, 0.07, size)  # noise of the detector
    celsius += rng.normal(0, 0.05, (1, width))  # its columns have amplifiers of their own
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return counts(celsius - 0.4 * (x**2 + y**2))  # a cooler rim, as uncooled cameras show


def visible(
    canvas: Canvas, color: Floats, rng: np.random.Generator, night: bool
) -> NDArray[np.uint8]:
    """The colours (H, W, 3) of the visible camera, with its noise."""
    layers = [canvas.visible_window(color[..., channel]) for channel in range(3)]
    seen: Floats = np.stack(layers, axis=-1)
    y, x = np.mgrid[-1 : 1 : seen.shape[0] * 1j, -1 : 1 : seen.shape[1] * 1j]
    seen *= (1 - 0.07 * (x**2 + y**2))[..., None]
    seen += rng.normal(0, 4.0 if night else 2.0, seen.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)

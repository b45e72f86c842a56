"""Pictures for people: displacement as colour, checkerboards, overlays and titled sheets.

Images come as NumPy arrays, (H, W) or (H, W, 3), or as PIL images. 8-bit pixels are shown as they
are, floats in [0, 1] too, and everything else (16-bit counts, degrees) is stretched between
percentiles 1 and 99 for display.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

__all__ = [
    "Displayable",
    "checkerboard",
    "flow_color",
    "overlay",
    "png",
    "registration_sheet",
    "sheet",
]

Displayable: TypeAlias = Image.Image | NDArray[Any]

PREVIEW = 1024  # pixels
_PAPER = (24, 26, 30)
_INK = (232, 234, 238)


def flow_color(displacement: NDArray[Any], max_px: float | None = None) -> Image.Image:
    """A displacement field as an RGB picture: hue is the direction, saturation the length.

    White is no displacement, full colour is `max_px` or more, grey is NaN. Red points right,
    yellow-green down, cyan left, violet up, as the wheel in the corner shows; the number beside it
    is `max_px`.

    Args:
        displacement: (x, y) in pixels, (H, W, 2).
        max_px: Length of full colour; the longest of the field by default.

    Raises:
        ValueError: If the field has another shape or `max_px` is not positive.
    """
    field = np.asarray(displacement, dtype=np.float64)
    if field.ndim != 3 or field.shape[2] != 2 or field.size == 0:
        raise ValueError(f"expected a displacement of shape (H, W, 2), got {field.shape}")
    if max_px is None:
        lengths = np.hypot(field[..., 0], field[..., 1])
        finite = lengths[np.isfinite(lengths)]
        # A field of zeros is white, not rounding noise in full colour.
        max_px = max(float(finite.max()) if finite.size else 0.0, 1e-3)
    if not max_px > 0:
        raise ValueError(
            f"expected max_px to be positive, got {max_px}; leave it out for the maximum"
        )
    picture = Image.fromarray(_direction_color(field / max_px))
    _legend(picture, max_px)
    return picture


def _direction_color(field: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Vectors of length 0 to 1 as colours, uint8 (H, W, 3)."""
    x, y = field[..., 0], field[..., 1]
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(known, x, 0), np.where(known, y, 0)
    sector = (np.arctan2(y, x) / (2 * np.pi) * 6)[..., None]
    pure = np.clip(np.abs((sector + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    saturation = np.clip(np.hypot(x, y), 0, 1)[..., None]
    color = np.where(known[..., None], 1 - saturation * (1 - pure), 0.5)
    return np.rint(color * 255).astype(np.uint8)


def _legend(picture: Image.Image, max_px: float) -> None:
    """Draws the wheel and its number into the lower left corner, if there is room."""
    radius = min(picture.size) // 16
    if radius < 6:
        return
    turn = np.linspace(-1, 1, 2 * radius + 1)
    wheel = np.stack(np.meshgrid(turn, turn), axis=-1)
    inside = Image.fromarray(((np.hypot(wheel[..., 0], wheel[..., 1]) <= 1) * 255).astype(np.uint8))
    font = ImageFont.load_default(size=max(radius * 0.7, 9))
    text = f"{max_px:.3g} px"
    brush = ImageDraw.Draw(picture)
    top = picture.height - 2 * radius - 8
    right = 2 * radius + 14 + int(brush.textlength(text, font=font))
    brush.rectangle((0, top - 4, right, picture.height), fill=_PAPER)
    picture.paste(Image.fromarray(_direction_color(wheel)), (4, top), inside)
    brush.text((2 * radius + 9, top + radius), text, fill=_INK, font=font, anchor="lm")


def png(image: Displayable | Tensor) -> bytes:
    """An image as it is shown, as a PNG of at most `PREVIEW` pixels a side."""
    if isinstance(image, Tensor):
        planes = image.detach()[0] if image.ndim == 4 else image.detach()
        planes = planes.float() if planes.is_floating_point() else planes
        image = (planes if planes.ndim == 2 else planes.movedim(0, -1)).cpu().numpy()
    picture = Image.fromarray(_display(image))
    picture.thumbnail((PREVIEW, PREVIEW))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def checkerboard(a: Displayable, b: Displayable, cells: int = 8) -> Image.Image:
    """Two aligned images in alternating squares: edges that break at the borders are misaligned.

    Args:
        a: Shown in the upper left square.
        b: Of the same size.
        cells: Squares along the longer side.

    Raises:
        ValueError: If the sizes differ or `cells` is less than 2.
    """
    first, second = _same_size(a, b)
    if cells < 2:
        raise ValueError(f"expected at least 2 cells, got {cells}")
    height, width = first.shape[:2]
    side = math.ceil(max(height, width) / cells)
    y, x = np.ogrid[:height, :width]
    odd = ((y // side + x // side) % 2 == 1)[..., None]
    return Image.fromarray(np.where(odd, second, first))


def overlay(infrared: Displayable, visible: Displayable) -> Image.Image:
    """Both images in one: infrared in magenta, visible in green, grey where they agree.

    Raises:
        ValueError: If the sizes differ.
    """
    warm, seen = (Image.fromarray(image).convert("L") for image in _same_size(infrared, visible))
    return Image.merge("RGB", (warm, seen, warm))


def sheet(
    panels: Sequence[tuple[str, Displayable]], columns: int = 3, max_width: int = 640
) -> Image.Image:
    """Titled images side by side, in panels of equal size.

    Each image keeps its aspect. The panels have the shape of the widest image, and at most
    `max_width` pixels of width.

    Args:
        panels: Titles and images, row by row.
        columns: Panels in a row.
        max_width: Largest width of a panel, pixels.

    Raises:
        ValueError: If there is no panel, or `columns` or `max_width` is too small.
    """
    if not panels:
        raise ValueError("expected at least one panel, got none")
    if columns < 1 or max_width < 16:
        raise ValueError(
            f"expected at least 1 column and a max_width of 16, got {columns} and {max_width}"
        )
    pictures = [Image.fromarray(_display(image)) for _, image in panels]
    widest = max(pictures, key=lambda picture: picture.width)
    width = min(widest.width, max_width)
    height = max(round(widest.height * width / widest.width), 1)
    gap, title = max(width // 80, 3), max(width // 20, 14)
    font = ImageFont.load_default(size=title * 0.7)
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    paper = Image.new(
        "RGB",
        (columns * (width + gap) + gap, rows * (height + title + gap) + gap),
        _PAPER,
    )
    brush = ImageDraw.Draw(paper)
    for number, ((text, _), picture) in enumerate(zip(panels, pictures, strict=True)):
        row, column = divmod(number, columns)
        left, top = gap + column * (width + gap), gap + row * (height + title + gap)
        brush.text((left + 2, top + title / 2), text, fill=_INK, font=font, anchor="lm")
        scale = min(width / picture.width, height / picture.height)
        size = (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1))
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        corner = (left + (width - size[0]) // 2, top + title + (height - size[1]) // 2)
        paper.paste(picture, corner)
    return paper


def registration_sheet(
    infrared: Displayable,
    visible: Displayable,
    infrared_resized: Displayable,
    infrared_registered: Displayable,
    displacement: NDArray[Any],
    fused: Displayable | None = None,
) -> Image.Image:
    """A before/after picture of a registration, on one sheet.

    Args:
        infrared: As it came, of any size.
        visible: As it came.
        infrared_resized: Infrared resized to the size of `visible`, the state before.
        infrared_registered: Infrared on the visible grid, the state after.
        displacement: (x, y) in pixels, (H, W, 2).
        fused: The fused image, if there is one.

    Returns:
        Infrared, visible, displacement; checkerboards before and after; fused.

    Raises:
        ValueError: If the resized or the registered image differs from `visible` in size.
    """
    # Thinned to the panel before it is drawn, so that the legend stays legible.
    step = max(math.ceil(displacement.shape[1] / 640), 1)
    panels: list[tuple[str, Displayable]] = [
        ("infrared", infrared),
        ("visible", visible),
        ("displacement", flow_color(displacement[::step, ::step])),
        ("before: infrared resized", checkerboard(infrared_resized, visible)),
        ("after: infrared registered", checkerboard(infrared_registered, visible)),
    ]
    if fused is not None:
        panels.append(("fused", fused))
    return sheet(panels)


def _same_size(a: Displayable, b: Displayable) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    first, second = _display(a), _display(b)
    if first.shape != second.shape:
        raise ValueError(
            f"expected two images of one size, got {first.shape[1]} x {first.shape[0]} and "
            f"{second.shape[1]} x {second.shape[0]}; resize one of them first"
        )
    return first, second


def _display(image: Displayable) -> NDArray[np.uint8]:
    """Any image as it is shown, uint8 (H, W, 3)."""
    if isinstance(image, Image.Image):
        deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
        image = np.asarray(image if deep or image.mode == "L" else image.convert("RGB"))
    if not isinstance(image, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"expected a NumPy array or a PIL image, got {type(image).__name__}; "
            "for a tensor pass tensor.movedim(-3, -1).cpu().numpy()"
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim == 3 and image.shape[2] == 4:  # opacity, which paper has none of
        image = image[..., :3]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or image.size == 0:
        raise ValueError(f"expected an image (H, W) or (H, W, 3), got shape {image.shape}")
    if image.dtype == np.bool_:
        image = image * np.uint8(255)
    if image.dtype != np.uint8:
        image = _stretch(image)
    grey = image.ndim == 2
    return np.repeat(image[..., None], 3, axis=2) if grey else np.ascontiguousarray(image)


def _stretch(image: NDArray[Any]) -> NDArray[np.uint8]:
    values = image.astype(np.float64)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(image.shape, dtype=np.uint8)
    low, high = 0.0, 1.0
    if image.dtype.kind != "f" or finite.min() < -1e-3 or finite.max() > 1 + 1e-3:
        low, high = np.percentile(finite, (1, 99)).tolist()
    values = np.nan_to_num((values - low) / max(high - low, 1e-12), nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)

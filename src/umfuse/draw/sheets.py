"""Titled images side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray
from PIL import Image, ImageDraw

from umfuse.draw.certainty import certainty_color
from umfuse.draw.displacement import flow_color
from umfuse.draw.pairs import checkerboard
from umfuse.draw.paper import INK, PAPER, letters
from umfuse.draw.shown import Displayable, shown


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
    pictures = [Image.fromarray(shown(image)) for _, image in panels]
    widest = max(pictures, key=lambda picture: picture.width)
    width = min(widest.width, max_width)
    height = max(round(widest.height * width / widest.width), 1)
    gap, title = max(width // 80, 3), max(width // 20, 14)
    font = letters(title * 0.7)
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    paper = Image.new(
        "RGB",
        (columns * (width + gap) + gap, rows * (height + title + gap) + gap),
        PAPER,
    )
    brush = ImageDraw.Draw(paper)
    for number, ((text, _), picture) in enumerate(zip(panels, pictures, strict=True)):
        row, column = divmod(number, columns)
        left, top = gap + column * (width + gap), gap + row * (height + title + gap)
        brush.text((left + 2, top + title / 2), text, fill=INK, font=font, anchor="lm")
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
    certainty: NDArray[Any] | None = None,
) -> Image.Image:
    """A before/after picture of a registration, on one sheet.

    Args:
        infrared: As it came, of any size.
        visible: As it came.
        infrared_resized: Infrared resized to the size of `visible`, the state before.
        infrared_registered: Infrared on the visible grid, the state after.
        displacement: (x, y) in pixels, (H, W, 2).
        fused: The fused image, if there is one.
        certainty: In [0, 1], (H, W), of the alignment, if it is known; NaN where nothing is.

    Returns:
        Infrared, visible, displacement; checkerboards before and after; fused. A certainty ends
        the first row, and the registered infrared image stands before fused then.

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
    if certainty is not None:
        seen = certainty_color(certainty[::step, ::step], visible)
        panels.insert(3, ("certainty, over visible", seen))
        panels.append(("infrared registered", infrared_registered))
    if fused is not None:
        panels.append(("fused", fused))
    return sheet(panels, columns=3 if certainty is None else 4)

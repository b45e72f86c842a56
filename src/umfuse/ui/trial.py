"""What the page does with a pair: fuses it, and makes pictures, words and files of the result."""

from __future__ import annotations

import io
import logging
import math
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from typing_extensions import override

from umfuse import api, borders, draw, images, resampling, sources
from umfuse.images import Picture
from umfuse.pipeline import Umfuse
from umfuse.registration import Registration
from umfuse.ui import points as points_
from umfuse.ui import uploads, words
from umfuse.ui.points import Pair
from umfuse.ui.words import Words

SIDE = 1024  # pixels of a picture on the page, at most


class Trial(NamedTuple):
    """The result of a pair.

    Attributes:
        words: What is said of its alignment.
        notes: What the log says of the images, as they were read.
        pictures: JPEGs of at most `SIDE` pixels a side, by name. ``infrared`` is as it came, all
            others are on the grid of the visible image: ``visible``, ``before`` and ``after``
            (infrared, resized and registered), ``fused``, ``checkerboard_before``,
            ``checkerboard_after``, ``displacement``, ``certainty``.
        files: Contents of what can be kept, by the name of the file.
    """

    words: Words
    notes: list[str]
    pictures: dict[str, bytes]
    files: dict[str, bytes]


def attempt(
    model: Umfuse, infrared: Path, visible: Path | None, pairs: Sequence[Pair] | None = None
) -> Trial:
    """Aligns and fuses a pair.

    Args:
        model: What does it.
        infrared: File of the infrared image, or a FLIR radiometric JPEG that holds both.
        visible: File of the visible image; None for such a JPEG.
        pairs: Three places in both images, which the alignment begins with.

    Raises:
        TypeError: As `umfuse.fuse`.
        ValueError: The same; also if an image is too large for the page.
        OSError: If a file cannot be read.
    """
    for path, name in ((infrared, "infrared"), (visible, "visible")):
        if path is not None:
            uploads.check(path, name)
    with _Notes() as notes:
        moving, fixed, placing = sources.read(infrared, visible)
    for picture, name in ((moving, "infrared"), (fixed, "visible")):
        uploads.check_size(picture.size, name)
    initial = None if pairs is None else points_.transform(pairs, moving.size, fixed.size)
    fusion = api.fuse(infrared, visible, initial=initial, weights=model, on_failure="return")
    registration = fusion.registration
    assert registration is not None  # the pair was aligned here
    start: words.Start = "search" if placing is None else "camera"
    return Trial(
        words.of(registration, start if pairs is None else "points"),
        notes,
        _pictures(moving, fixed, fusion, registration),
        _files(fusion, registration),
    )


class _Notes(logging.Handler):
    """Collects the warnings that this thread has from umfuse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self.thread = threading.get_ident()

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.said.append(record.getMessage())

    def __enter__(self) -> list[str]:
        logging.getLogger("umfuse").addHandler(self)
        return self.said

    def __exit__(self, *_: object) -> None:
        logging.getLogger("umfuse").removeHandler(self)


def _pictures(
    moving: Picture, fixed: Picture, fusion: api.Fusion, registration: Registration
) -> dict[str, bytes]:
    infrared, visible = _shown(moving.luma), _shown(fixed.rgb)
    before = infrared.resize(visible.size)
    placed = borders.inner(moving.luma, registration.tensor(), registration.content)
    after = _shown(resampling.resample(*placed)[0])
    # Where the infrared camera saw nothing its border goes on, which is nothing to look at.
    seen = Image.fromarray(registration.valid_mask.astype(np.uint8) * 255).resize(visible.size)
    step = math.ceil(max(fixed.size) / SIDE)
    # Without infrared data nothing is to be said of it.
    certainty = np.where(registration.valid_mask, registration.certainty, np.float32("nan"))
    pictures = {
        "infrared": infrared,
        "visible": visible,
        "before": before,
        "after": Image.composite(after, Image.new("L", after.size), seen),
        "fused": _shown(images.read(fusion.image, range="dtype").rgb),
        "checkerboard_before": draw.checkerboard(before, visible),
        "checkerboard_after": Image.composite(draw.checkerboard(after, visible), visible, seen),
        "displacement": draw.flow_color(registration.displacement[::step, ::step]),
        "certainty": draw.certainty_color(certainty[::step, ::step], visible),
    }
    return {name: _jpeg(picture) for name, picture in pictures.items()}


def _shown(planes: Tensor) -> Image.Image:
    """Returns planes ``(1, 1 or 3, H, W)`` in [0, 1] as a picture for the page."""
    pixels = planes[0].mul(255).round().byte().movedim(0, -1).numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=90)
    return content.getvalue()


def _files(fusion: api.Fusion, registration: Registration) -> dict[str, bytes]:
    # A PNG holds no floats, which are written as the brightness that they were made of.
    deep = isinstance(fusion.image, Image.Image) and fusion.image.mode == "F"
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("fused.png", "registration.npz")]
        fusion.save(paths[0], grey16=deep)
        registration.save(paths[1])
        return {path.name: path.read_bytes() for path in paths}

"""The two pictures of a pair: two images, or one file of a camera that takes both."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from umfuse import images
from umfuse.files import Array, radiometric
from umfuse.images import Band, Channels, ImageLike, Picture, Range


def read(
    ir: ImageLike,
    vis: ImageLike | None,
    *,
    ir_range: Range | None = None,
    vis_range: Range | None = None,
    nodata: float | None = None,
    band: int | None = None,
    vis_band: Band | None = None,
    channels: Channels = "rgb",
) -> tuple[Picture, Picture, Array | None]:
    """The pictures of a pair, and how its camera places one on the other, if it says so.

    Args:
        ir: Infrared image, as `images.read` takes it.
        vis: Visible image; None if `ir` is the path of a FLIR radiometric JPEG that holds a photo.
        ir_range: As `range` of `images.read`.
        vis_range: The same; by default all values that its type can hold.
        nodata: As there, of the infrared image.
        band: As there, of the infrared image.
        vis_band: The same, of the visible image.
        channels: As there, of both.

    Returns:
        Infrared, visible, and for a file that holds both ``(3, 3)`` from visible to infrared pixel.

    Raises:
        TypeError: As `images.read`, or if there is no visible image.
        ValueError: The same, or if one of them is a batch.
        OSError: As `images.read`.
    """
    placing = None
    if vis is None:
        ir, vis, placing = _both(ir)
        ir_range = ir_range or "percentile"
    infrared = images.read(
        ir,
        name="infrared",
        range=ir_range,
        option="ir_range",
        nodata=nodata,
        band=band,
        channels=channels,
    )
    visible = images.read(
        vis,
        name="visible",
        range=vis_range or "dtype",
        option="vis_range",
        band=vis_band,
        channels=channels,
    )
    for name, picture in (("infrared", infrared), ("visible", visible)):
        if len(picture.values) != 1:
            raise ValueError(
                f"{name}: expected one image, got a batch of {len(picture.values)}; loop over it, "
                "or call infer of the model of umfuse.load() with tensors"
            )
    return infrared, visible, placing


def _both(source: ImageLike) -> tuple[Image.Image, Image.Image, Array | None]:
    """Returns the temperatures and the photo of a FLIR radiometric JPEG, and their placing."""
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(
            "visible: expected an image, got None; only the path of a FLIR radiometric JPEG stands "
            "for both images"
        )
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"infrared: expected an image file, but {path} is none; check it")
    if radiometric.maker(path) != "FLIR":
        raise ValueError(
            f"visible: expected an image beside {path}, which is no FLIR radiometric JPEG: pass "
            "the visible image too"
        )
    found = radiometric.thermogram(path, "infrared")
    if found.photo is None:
        raise ValueError(
            f"visible: {path} holds temperatures, but no photo: pass the visible image too"
        )
    pair = Image.fromarray(found.celsius), Image.fromarray(found.photo)
    for image in pair:
        found.said.put(image)
    return (*pair, found.placing)

"""The pictures of a pair that is done: sheet, flicker, and what the page of the run shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from umfuse.cli.jobs import Job

if TYPE_CHECKING:
    from umfuse.api import Fusion, Registration
    from umfuse.images import Band, Range

PREVIEW = 1600  # pixels of the longer side of a picture on the page


def write(
    pair: Job,
    result: Fusion | Registration,
    registration: Registration | None,
    *,
    ir_range: Range | None = None,
    vis_range: Range | None = None,
    nodata: float | None = None,
    band: int | None = None,
    vis_band: Band | None = None,
) -> None:
    """Writes those pictures of a pair that its job names.

    Args:
        pair: Its files.
        result: What became of it.
        registration: Its alignment; None if it was fused as it came.
        ir_range: How its images are read, as in `umfuse.fuse`; so the others.
        vis_range: As there.
        nodata: As there.
        band: As there.
        vis_band: As there.

    Raises:
        OSError: If a picture cannot be written.
        ValueError: If the format of a picture is unknown.
    """
    if not (pair.sheet or pair.flicker or pair.preview):
        return

    import numpy as np
    from PIL import Image

    from umfuse import borders, draw, files, images, registering, resampling, sources
    from umfuse.api import Fusion

    infrared, visible, _ = sources.read(
        pair.infrared,
        pair.visible,
        ir_range=ir_range,
        vis_range=vis_range,
        nodata=nodata,
        band=band,
        vis_band=vis_band,
    )
    height, width = visible.size
    before = infrared.luma[0, 0].numpy()
    resized = np.asarray(Image.fromarray(before).resize((width, height)))
    after, displacement = resized, np.zeros((height, width, 2), dtype=np.float32)
    if registration is not None:
        seen = borders.inner(infrared.luma, registration.tensor(), registration.content)
        moved, _ = resampling.resample(*seen)
        after, displacement = moved[0, 0].numpy(), registration.displacement
    rgb = visible.rgb[0].movedim(0, -1).numpy()
    if pair.flicker is not None:
        with files.replacing(pair.flicker) as file:
            file.write(draw.flicker(after, rgb))
    if pair.sheet is None and pair.preview is None:
        return
    fused = certainty = None
    if registration is not None:
        held = registering.holding(registration, infrared, visible)
        # Where there is no infrared image nothing is to be said of it.
        certainty = np.where(held.valid_mask, held.certainty, np.float32("nan"))
    if isinstance(result, Fusion):
        fused = images.read(result.image, range=vis_range or "dtype").rgb[0].movedim(0, -1).numpy()
    picture = draw.registration_sheet(before, rgb, resized, after, displacement, fused, certainty)
    if pair.sheet is not None:
        images.save(picture, pair.sheet)
    if pair.preview is not None:
        picture.thumbnail((PREVIEW, PREVIEW))
        with files.replacing(pair.preview) as file:
            picture.save(file, "JPEG", quality=80)

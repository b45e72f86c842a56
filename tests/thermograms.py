"""Radiometric JPEGs of a camera that is not there: the files, and what flyr would find in them."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

import umfuse
from umfuse.files import radiometric

RATIO, SHIFT = 1.6, (10, -6)  # of the camera
SIZE = (120, 160)  # of its thermal image
FLIR = (0xE1, b"FLIR\0" + bytes(40))  # a segment


def jpeg(path: Path, *segments: tuple[int, bytes], image=None) -> Path:
    """Writes a JPEG that has more segments than its picture needs."""
    picture = io.BytesIO()
    image = np.full((60, 80), 128, np.uint8) if image is None else image
    Image.fromarray(image).save(picture, "JPEG", quality=95)
    whole = picture.getvalue()
    more = b"".join(
        bytes((0xFF, kind)) + (len(held) + 2).to_bytes(2, "big") + held for kind, held in segments
    )
    path.write_bytes(whole[:2] + more + whole[2:])
    return path


def street(scene) -> SimpleNamespace:
    """What `flyr.unpack` gives: the middle of a rendered street, and all of it as the photo."""
    height, width = scene.visible.shape[:2]
    placing = radiometric.factory_placing(SIZE, (height, width), RATIO, SHIFT)
    warm = np.asarray(scene.aligned_infrared).astype(np.float32) / 100 - 273.15
    back = umfuse.Registration.from_transform(np.linalg.inv(placing), (height, width), SIZE)
    return SimpleNamespace(
        celsius=np.asarray(back.apply(warm), dtype=np.float64),
        optical=scene.visible,
        pip_info=SimpleNamespace(real_to_ir=RATIO, offset_x=SHIFT[0], offset_y=SHIFT[1]),
        placing=placing,
    )

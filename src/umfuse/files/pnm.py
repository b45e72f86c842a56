"""PGM and PPM of more than 8 bits, which Pillow scales or reduces."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from umfuse.files.arrays import Array, as_pil

# Width, height and the greatest value; comments may stand between them.
_HEADER = re.compile(rb"P([2356])" + 3 * rb"(?:\s|#[^\r\n]*[\r\n])+(\d+)" + rb"\s")


def is_deep(header: bytes) -> bool:
    """Whether a file of this beginning is a PGM or PPM that Pillow would not leave as it is."""
    found = _HEADER.match(header)
    return found is not None and 255 < int(found[4]) < 65536


def read(data: bytes) -> Image.Image | Array:
    """The counts of a deep PGM or PPM as they are stored, uint16.

    Args:
        data: The whole file.

    Raises:
        ValueError: If it is truncated.
    """
    found = _HEADER.match(data)
    assert found is not None
    width, height = int(found[2]), int(found[3])
    shape = (height, width, 3) if found[1] in b"36" else (height, width)
    count, body = int(np.prod(shape)), data[found.end() :]
    if found[1] in b"56":
        counts = np.frombuffer(body, ">u2", count)
    else:
        counts = np.array(re.sub(rb"#[^\r\n]*", b"", body).split()[:count], dtype=int)
    return as_pil(counts.reshape(shape).astype(np.uint16))

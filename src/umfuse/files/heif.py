"""HEIC through pillow-heif, if the extra `heif` is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image

from umfuse.files import metadata
from umfuse.files.arrays import Array, as_pil
from umfuse.files.metadata import Metadata
from umfuse.files.refused import Refused

_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}


def is_heif(header: bytes) -> bool:
    """Whether a file of this beginning is HEIC; AVIF, which Pillow reads, is not."""
    size = min(int.from_bytes(header[:4], "big"), len(header))
    brands = {header[at : at + 4] for at in range(8, size, 4)}
    return header[4:8] == b"ftyp" and not _BRANDS.isdisjoint(brands)


def read(file: BinaryIO, path: Path) -> tuple[Image.Image | Array, Metadata]:
    """The first image of a HEIC file, upright; more than 8 bits as an array, uint16.

    Beside it what the file says.

    Raises:
        Refused: Without the extra `heif`.
    """
    image = _opened(file, path)
    said = metadata.stored(image.info)
    # Copied, because the memory is the library's and goes with `image`.
    return as_pil(np.array(image)) if "16" in image.mode else image.to_pillow(), said


def size(path: Path) -> tuple[int, int]:
    """Height and width of the first image of a HEIC file.

    Raises:
        Refused: Without the extra `heif`.
    """
    with path.open("rb") as file:
        width, height = _opened(file, path).size
    return height, width


def _opened(file: BinaryIO, path: Path) -> Any:  # noqa: ANN401  (no complete type stubs)
    """The first image of a HEIC file, not decoded yet."""
    try:
        import pillow_heif
    except ImportError as error:
        raise Refused(
            f"{path} is HEIC, which needs pillow-heif: pip install 'umfuse[heif]', or convert it "
            "to PNG"
        ) from error
    return cast("Any", pillow_heif).open_heif(file, convert_hdr_to_8bit=False)

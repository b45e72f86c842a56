"""What a visitor may send: how many bytes, how many pixels, which kinds of file."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from umfuse.files import measuring

MAX_BYTES = 64 * 2**20
"""Of both images together."""
MAX_PIXELS = 20_000_000
"""Of one image: to fuse so many takes about 40 s on one core, and 4 GB of memory."""

_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")  # EPS, and EPS with a preview


def suffix_of(name: str) -> str:
    """Returns the suffix of a visitor's name of a file, or none if it is an odd one."""
    found = re.search(r"\.[A-Za-z0-9]{1,5}\Z", name)
    return found[0].lower() if found else ""


def check(path: Path, name: str) -> None:
    """Looks at the head of a file, before anything decodes it.

    What is no image passes: the reader says it better.

    Args:
        path: The file.
        name: What to call the image in errors.

    Raises:
        ValueError: If it has too many pixels, or is a program, which Pillow lets Ghostscript run.
    """
    with path.open("rb") as file:
        if file.read(4) in _POSTSCRIPT:
            raise ValueError(f"{name}: PostScript is a program, no image; convert it to PNG")
    try:
        size = measuring.size(path)
    except Image.DecompressionBombError:
        raise ValueError(too_large(name)) from None
    check_size(size or (0, 0), name)


def check_size(size: tuple[int, int], name: str) -> None:
    """Raises ValueError if an image of this height and width has too many pixels."""
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(too_large(name, size))


def too_large(name: str, size: tuple[int, int] | None = None) -> str:
    """Returns what is said of an image that has too many pixels."""
    of = f" ({size[1]} x {size[0]})" if size else ""
    return (
        f"{name}: more than {MAX_PIXELS / 1e6:.0f} megapixels{of}, which is too large for this "
        "page; make it smaller, or use the command umfuse fuse"
    )

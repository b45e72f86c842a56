"""Which image files are read exactly: `python -m benchmarks.files --page docs/files.md`.

Each kind of file is written by another library with pixels that are known, read by
`umfuse.images.read` and compared: by Pillow alone, with the extra `tiff`, and with the extra
`heif`. "exact" is every number as it was written, "error" an error that says what to do; there is
no third. Grey levels of 8 x 8 blocks are what JPEG keeps.

- files: kinds that differ in one column only share a row.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import itertools
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from benchmarks import data
from numpy.typing import NDArray
from PIL import Image

from umfuse import images

Array = NDArray[Any]

HEIGHT, WIDTH, BLOCK = 24, 40, 8
ORIENTATION = 274  # EXIF and TIFF
MODULES = ("tifffile", "imagecodecs", "pillow_heif")  # of the extras
EXTRAS = {
    "Pillow alone": (),
    "`umfuse[tiff]`": ("tifffile", "imagecodecs"),
    "`umfuse[heif]`": ("pillow_heif",),
}
HEADERS = ("format", "depth", "channels", "layout", "compression", *EXTRAS)


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        format: Its name.
        depth: Of the numbers in it.
        channels: What they are.
        layout: How they lie in the file.
        compression: How they are compressed.
        write: Returns the bytes of a file, and what is to be read of it, ``(H, W)`` or
            ``(H, W, 3)``.
        band: Which band is read.
    """

    format: str
    depth: str
    channels: str
    layout: str
    compression: str
    write: Callable[[], tuple[bytes, Array]]
    band: int | None = None


def pixels(dtype: str, channels: int = 1, *, blocks: bool = False) -> Array:
    """Returns noise over all values of a type, ``(H, W)`` or ``(H, W, C)``."""
    generator = np.random.default_rng(0)
    side = BLOCK if blocks else 1
    shape = (HEIGHT // side, WIDTH // side, channels)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        noise = generator.uniform(-50, 150, shape).astype(kind)
    elif kind.kind == "b":
        noise = generator.random(shape) < 0.5
    else:
        limits = np.iinfo(kind)
        noise = generator.integers(limits.min, int(limits.max) + 1, shape, kind)
    noise = noise.repeat(side, 0).repeat(side, 1)
    return noise[..., 0] if channels == 1 else noise


def outcome(kind: Kind, modules: tuple[str, ...]) -> str:
    """Returns how a file of a kind is read if these modules of the extras are installed."""
    content, expected = kind.write()
    # Read as a path: what a file is must be seen from its contents, but for videos.
    with tempfile.TemporaryDirectory() as folder, only(modules):
        path = Path(folder) / "image"
        path.write_bytes(content)
        try:
            picture = images.read(path, range="minmax", band=kind.band)
        except ValueError as error:
            return "error" if "truncated or damaged" not in str(error) else f"WRONG: {error}"
    values = picture.planes[0].movedim(0, -1).numpy()
    wanted = expected.reshape(*expected.shape[:2], -1).astype(np.float32)
    return "exact" if np.array_equal(values, wanted) else "WRONG"


@contextlib.contextmanager
def only(modules: tuple[str, ...]) -> Generator[None]:
    """Hides the modules of the extras, but for some."""
    hidden = dict.fromkeys(set(MODULES) - set(modules))
    # Modules of tifffile import imagecodecs when they are used.
    with mock.patch.dict(sys.modules, hidden):
        yield


# ---- TIFF ---------------------------------------------------------------------------


def tiff_kinds() -> Iterator[Kind]:
    """Yields TIFFs: each depth and channels, in each layout, compressed in each way."""
    channels = {"grey": 1, "grey + alpha": 2, "RGB": 3, "RGBA": 4, "5 bands": 5}
    for dtype, (name, count) in itertools.product(DTYPES, channels.items()):
        if dtype == "bool" and count > 1:
            continue
        band = 1 if count == 5 else None
        for layout, placed in LAYOUTS.items():
            if placed.get("planar") and count == 1:
                continue
            for compression, squeezed in _compressions(dtype, layout):
                write = functools.partial(_tiff, dtype, count, **placed, **squeezed)
                yield Kind("TIFF", _depth(dtype), name, layout, compression, write, band)
    yield Kind("TIFF", "12 bits", "grey", "strips", "none", _tiff_of_12_bits)
    yield Kind("TIFF", "uint8", "grey", "strips", "JPEG", _tiff_jpeg)
    for dtype in ("uint8", "uint16"):
        write = functools.partial(_tiff, dtype, 1, photometric="miniswhite")
        yield Kind("TIFF", dtype, "grey, 0 is white", "strips", "none", write)
    for orientation, (name, count) in itertools.product((3, 6), (("grey", 1), ("RGB", 3))):
        for dtype in ("uint8", "uint16", "float32"):
            write = functools.partial(_tiff, dtype, count, orientation=orientation)
            yield Kind("TIFF", dtype, name, "turned", "none", write)
    for dtype in ("uint8", "uint16", "uint32", "float32"):
        write = functools.partial(_pages, dtype)
        yield Kind("TIFF", dtype, "grey", "page 1 of 3", "none", write, 1)


DTYPES = (
    *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32"),
    *("float16", "float32", "float64"),
)
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 5},
    "planar": {"planar": True},
    "tiles": {"tile": (16, 16)},
    "big-endian": {"byteorder": ">", "rowsperstrip": 5},
    "big-endian planar": {"byteorder": ">", "planar": True},
    "BigTIFF": {"bigtiff": True},
    "big-endian BigTIFF": {"byteorder": ">", "bigtiff": True},
}
WAYS = ("none", "LZW", "deflate", "zstd")
FEW = {"tiles": WAYS[::2], "BigTIFF": WAYS[:1], "big-endian BigTIFF": WAYS[:1]}


def _depth(dtype: str) -> str:
    return "1 bit" if dtype == "bool" else dtype


def _compressions(dtype: str, layout: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for way in FEW.get(layout, WAYS):
        if dtype == "bool" and way not in ("none", "LZW"):
            continue  # not every tifffile writes it
        yield way, {"compression": way}
        if way != "none" and dtype != "bool":
            predictor = 3 if dtype.startswith("float") else 2
            yield f"{way} + p", {"compression": way, "predictor": predictor}


def _tiff(
    dtype: str,
    channels: int,
    *,
    compression: str = "none",
    planar: bool = False,
    orientation: int = 1,
    photometric: str | None = None,
    **options: Any,
) -> tuple[bytes, Array]:
    import tifffile

    array = pixels(dtype, channels)
    if compression != "none":
        options["compression"] = {"deflate": "adobe_deflate"}.get(compression, compression.lower())
    if channels > 1:
        options["planarconfig"] = "separate" if planar else "contig"
    if channels in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    if orientation != 1:
        options["extratags"] = [(ORIENTATION, 3, 1, orientation, True)]
    stored = np.moveaxis(array, -1, 0) if planar else array
    photometric = photometric or ("rgb" if channels in (3, 4) else "minisblack")
    file = io.BytesIO()
    tifffile.imwrite(file, stored, photometric=photometric, **options)
    if photometric == "miniswhite":
        array = np.iinfo(dtype).max - array
    if dtype == "bool":
        array = array * np.uint8(255)
    array = array[..., 1] if channels == 5 else looked_at(array)
    return file.getvalue(), shown(array, orientation)


def _tiff_of_12_bits() -> tuple[bytes, Array]:
    array = pixels("uint16") >> 4
    pairs = array.reshape(-1, 2).astype(np.uint32)
    packed = (pairs[:, 0] << 12 | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    # Width, height, bits, compression, photometric, offset, channels, rows of a strip, bytes.
    tags = {256: WIDTH, 257: HEIGHT, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: HEIGHT}
    tags |= {279: packed.size}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = struct.pack("<4sIH", b"II*\0", 8, len(tags)) + entries + bytes(4)
    return header + packed.tobytes(), array


def _tiff_jpeg() -> tuple[bytes, Array]:
    array = pixels("uint8", blocks=True)
    return _saved(Image.fromarray(array), "TIFF", compression="jpeg", quality=100), array


def _pages(dtype: str) -> tuple[bytes, Array]:
    import tifffile

    array = pixels(dtype, 3)
    file = io.BytesIO()
    tifffile.imwrite(file, np.moveaxis(array, -1, 0), photometric="minisblack")
    return file.getvalue(), array[..., 1]


# ---- PNG and PNM --------------------------------------------------------------------


def png_kinds() -> Iterator[Kind]:
    """Yields PNGs of every colour type and depth; 16-bit ones by hand, with every filter."""
    for name, mode, channels in (("grey", "L", 1), ("grey + alpha", "LA", 2), ("RGB", "RGB", 3)):
        yield Kind(
            "PNG",
            "8 bits",
            name,
            "plain",
            "deflate",
            functools.partial(_plain, "PNG", mode, channels),
        )
    yield Kind(
        "PNG", "8 bits", "RGBA", "plain", "deflate", functools.partial(_plain, "PNG", "RGBA", 4)
    )
    yield Kind("PNG", "8 bits", "palette", "plain", "deflate", functools.partial(_palette, "PNG"))
    yield Kind("PNG", "1 bit", "grey", "plain", "deflate", functools.partial(_one_bit, "PNG"))
    for kind, (name, channels) in PNG_CHANNELS.items():
        for interlaced, layout in ((False, "plain"), (True, "interlaced")):
            write = functools.partial(png, kind, channels, interlaced=interlaced)
            yield Kind("PNG", "16 bits", name, layout, "deflate", write)
    for kind, (name, channels) in PNG_CHANNELS.items():
        write = functools.partial(png, kind, channels, interlaced=False, orientation=6)
        yield Kind("PNG", "16 bits", name, "turned", "deflate", write)


PNG_CHANNELS = {0: ("grey", 1), 4: ("grey + alpha", 2), 2: ("RGB", 3), 6: ("RGBA", 4)}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))


def png(kind: int, channels: int, *, interlaced: bool, orientation: int = 1) -> tuple[bytes, Array]:
    """Returns a PNG of 16 bits of a colour type, each row by another filter, and what it shows."""
    array = pixels("uint16", channels)
    planes = array.reshape(HEIGHT, WIDTH, channels)
    passes = [*ADAM7, (1, 0, 2, 1)] if interlaced else [(0, 0, 1, 1)]
    rows = b"".join(
        _filtered(planes[top::down, left::right].astype(">u2")) for top, left, down, right in passes
    )
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, kind, 0, 0, int(interlaced))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in (
            (b"IHDR", header),
            (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        )
    )
    return content, shown(looked_at(array), orientation)


def _filtered(rows: Array) -> bytes:
    """Returns rows ``(h, w, C)`` of one pass, each with another one of the five filters."""
    height, width, channels = rows.shape
    step = 2 * channels
    raw = np.zeros((height + 1, step + 2 * width * channels), dtype=int)
    raw[1:, step:] = np.frombuffer(rows.tobytes(), np.uint8).reshape(height, -1)
    result = bytearray()
    for at in range(height):
        here, left = raw[at + 1, step:], raw[at + 1, :-step]
        above, corner = raw[at, step:], raw[at, :-step]
        guess = left + above - corner
        paeth = np.stack([left, above, corner])
        nearest = np.abs(paeth - guess).argmin(0)
        guesses = (
            0,
            left,
            above,
            (left + above) // 2,
            np.take_along_axis(paeth, nearest[None], 0)[0],
        )
        filter = at % 5
        result += bytes([filter]) + ((here - guesses[filter]) % 256).astype(np.uint8).tobytes()
    return bytes(result)


def pnm_kinds() -> Iterator[Kind]:
    """Yields PGMs and PPMs, binary and in words."""
    for channels, format, name in ((1, "PGM", "grey"), (3, "PPM", "RGB")):
        for most, depth in ((255, "8 bits"), (16383, "14 bits"), (65535, "16 bits")):
            for words in (False, True):
                write = functools.partial(pnm, channels, most, words=words)
                yield Kind(format, depth, name, "text" if words else "binary", "none", write)


def pnm(channels: int, most: int, *, words: bool) -> tuple[bytes, Array]:
    """Returns a PGM or PPM, binary or in words, and its pixels."""
    array = pixels("uint16", channels) & np.uint16(most)
    number = {1: 5, 3: 6}[channels] - 3 * words
    header = f"P{number}\n# counts\n{WIDTH} {HEIGHT}\n{most}\n".encode()
    if words:
        return header + b" ".join(b"%d" % value for value in array.flat), array
    return header + array.astype(">u2" if most > 255 else "u1").tobytes(), array


# ---- what Pillow reads, and HEIC ----------------------------------------------------


def other_kinds() -> Iterator[Kind]:
    """Yields files of other formats."""
    for orientation in range(1, 9):
        for mode, channels, name in (("L", 1, "grey"), ("RGB", 3, "RGB")):
            write = functools.partial(_jpeg, mode, channels, orientation)
            yield Kind("JPEG", "8 bits", name, "all 8 EXIF orientations", "JPEG", write)
    yield Kind("JPEG", "8 bits", "CMYK", "plain", "JPEG", _cmyk)
    yield Kind("MPO", "8 bits", "grey", "the first picture", "JPEG", _mpo)
    for mode, channels in (("RGB", 3), ("RGBA", 4)):
        write = functools.partial(_plain, "WEBP", mode, channels, lossless=True, exact=True)
        yield Kind("WebP", "8 bits", mode, "plain", "lossless", write)
    for mode, channels, name in (("L", 1, "grey"), ("RGB", 3, "RGB")):
        yield Kind(
            "BMP", "8 bits", name, "plain", "none", functools.partial(_plain, "BMP", mode, channels)
        )
    yield Kind("BMP", "8 bits", "palette", "plain", "none", functools.partial(_palette, "BMP"))
    yield Kind("BMP", "1 bit", "grey", "plain", "none", functools.partial(_one_bit, "BMP"))
    yield Kind("GIF", "8 bits", "palette", "plain", "LZW", functools.partial(_palette, "GIF"))
    for mode, channels, name in (("L", 1, "grey"), ("RGB", 3, "RGB")):
        write = functools.partial(_plain, "JPEG2000", mode, channels)
        yield Kind("JPEG 2000", "8 bits", name, "plain", "lossless", write)
    yield Kind("JPEG 2000", "16 bits", "grey", "plain", "lossless", _deep_jpeg2000)
    for channels, name in ((1, "grey"), (3, "RGB")):
        for depth in ("8 bits", "10 bits"):
            write = functools.partial(heic, depth, channels)
            yield Kind("HEIC", depth, name, "plain", "lossless", write)


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _plain(format: str, mode: str, channels: int, **options: Any) -> tuple[bytes, Array]:
    array = pixels("uint8", channels)
    image = Image.fromarray(array)
    assert image.mode == mode
    return _saved(image, format, **options), looked_at(array)


def _palette(format: str) -> tuple[bytes, Array]:
    image = Image.fromarray(pixels("uint8"))
    colours = pixels("uint8", 3).reshape(-1, 3)[:256]
    image.putpalette(colours.tobytes())
    return _saved(image, format), colours[np.asarray(image)]


def _one_bit(format: str) -> tuple[bytes, Array]:
    array = pixels("bool")
    return _saved(Image.fromarray(array), format), array * np.uint8(255)


def _jpeg(mode: str, channels: int, orientation: int) -> tuple[bytes, Array]:
    array = pixels("uint8", channels, blocks=True)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    # As RGB, not as YCbCr, which rounds.
    options = {"keep_rgb": True} if mode == "RGB" else {}
    content = _saved(Image.fromarray(array), "JPEG", quality=100, exif=exif, **options)
    return content, shown(array, orientation)


def _cmyk() -> tuple[bytes, Array]:
    array = pixels("uint8", 4, blocks=True)
    array[..., 3] = 0
    image = Image.frombytes("CMYK", (WIDTH, HEIGHT), array.tobytes())
    return _saved(image, "JPEG", quality=100), 255 - array[..., :3]


def _mpo() -> tuple[bytes, Array]:
    array = pixels("uint8", blocks=True)
    image = Image.fromarray(array)
    preview = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    options: dict[str, Any] = {"save_all": True, "append_images": [preview], "quality": 100}
    return _saved(image, "MPO", **options), array


def _deep_jpeg2000() -> tuple[bytes, Array]:
    array = pixels("uint16")
    return _saved(Image.fromarray(array), "JPEG2000"), array


def heic(depth: str, channels: int) -> tuple[bytes, Array]:
    """Returns a lossless HEIC, and its pixels."""
    import pillow_heif

    array, mode = pixels("uint8", channels), {1: "L", 3: "RGB"}[channels]
    if depth == "10 bits":
        array, mode = array.astype(np.uint16) << 8 & 0xFFC0, {1: "I;16", 3: "RGB;16"}[channels]
    file = io.BytesIO()
    options = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    pillow_heif.encode(mode, (WIDTH, HEIGHT), array.tobytes(), file, **options)
    return file.getvalue(), array


# ---- the table ----------------------------------------------------------------------


def shown(stored: Array, orientation: int) -> Array:
    """Returns the picture that a file with an EXIF orientation shows."""
    if orientation in (5, 6, 7, 8):
        stored = stored.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        stored = stored[::-1]
    if orientation in (2, 3, 6, 7):
        stored = stored[:, ::-1]
    return stored


def looked_at(array: Array) -> Array:
    """Returns what is kept of an image ``(H, W, C)``: deep grey loses its alpha."""
    deep_grey = array.ndim > 2 and array.shape[2] == 2 and array.dtype != np.uint8
    return array[..., 0] if deep_grey else array


def kinds() -> Iterator[Kind]:
    """Yields all kinds of files."""
    yield from tiff_kinds()
    yield from png_kinds()
    yield from other_kinds()
    yield from pnm_kinds()


def rows() -> list[list[str]]:
    """Returns the lines of the table; kinds that differ in one column only share a line."""
    found: dict[tuple[tuple[str, ...], ...], None] = {}
    for kind in kinds():
        outcomes = tuple(outcome(kind, modules) for modules in EXTRAS.values())
        found[tuple((cell,) for cell in (*kind[:5], *outcomes))] = None
    lines = list(found)
    for column in (4, 3, 2, 1):
        joined: dict[tuple[tuple[str, ...], ...], list[str]] = {}
        for line in lines:
            others = (*line[:column], *line[column + 1 :])
            joined.setdefault(others, []).extend(line[column])
        lines = [
            (*others[:column], tuple(cells), *others[column:]) for others, cells in joined.items()
        ]
    return [[", ".join(dict.fromkeys(cell)) for cell in line] for line in lines]


def main() -> None:
    """Reads the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data.page_option(parser)
    arguments = parser.parse_args()
    data.report(arguments, "files", HEADERS, rows())


if __name__ == "__main__":
    main()

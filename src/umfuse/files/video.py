"""Frames of videos, read at their full depth and written, through PyAV (extra `video`)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from umfuse.files.arrays import Array
from umfuse.files.replacing import replacing

CONTAINERS = {
    ".avi": "avi",
    ".m4v": "mp4",
    ".mkv": "matroska",
    ".mov": "mov",
    ".mp4": "mp4",
    ".webm": "webm",
}
"""Suffixes of what is written, and FFmpeg's names of the formats."""
QUALITY = "16"  # of H.264 and H.265, where 18 is said to look as the original does
TICKS = 90_000  # of a second, in which times are written


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        time: Seconds from its beginning.
        image: uint8 (H, W, 3) in RGB, uint8 (H, W), or uint16 (H, W) of grey of more than 8 bits,
            the numbers as they are stored.
    """

    time: float
    image: Array


def frames(path: str | os.PathLike[str], name: str) -> Iterator[Frame]:
    """Yields the frames of the first video stream of a file, upright.

    Args:
        path: The file.
        name: What to call it in errors.

    Raises:
        ImportError: Without the extra `video`.
        ValueError: If it holds no video, or is damaged; frames before the damage are yielded.
        OSError: If it cannot be opened.
    """
    av = _library()
    with Path(path).open("rb") as file:
        try:
            with av.open(file) as container:
                if not container.streams.video:
                    raise ValueError("it holds no video stream")
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                first: float | None = None
                for number, frame in enumerate(container.decode(stream)):
                    time: float | None = frame.time
                    if time is None:  # a stream without times
                        time = number / float(stream.guessed_rate or 25)
                    if first is None:
                        first = time
                    yield Frame(time - first, _pixels(frame))
        except (av.FFmpegError, ValueError) as error:
            raise ValueError(f"{name}: {path} cannot be read as a video: {error}") from error


def rate(path: str | os.PathLike[str]) -> float:
    """Returns the frames per second that a video says it has, 25 if it says nothing.

    Raises:
        ImportError: Without the extra `video`.
        ValueError: If it is no video.
        OSError: If it cannot be opened.
    """
    av = _library()
    with Path(path).open("rb") as file:
        try:
            with av.open(file) as container:
                found = container.streams.video[0].average_rate
                return float(found) if found else 25.0
        except (av.FFmpegError, IndexError) as error:
            raise ValueError(f"{path} cannot be read as a video: {error}") from error


class Writer:
    """Writes frames of one size to a video; made by `writing`.

    Args:
        container: PyAV's, open for writing.
        codec: FFmpeg's name of the encoder.
        rate: Frames per second.
    """

    def __init__(self, container: Any, codec: str, rate: float) -> None:  # noqa: ANN401
        self._av = _library()
        self._container, self._codec = container, codec
        self._rate = Fraction(rate).limit_denominator(1001)
        self._stream: Any = None
        self._size: tuple[int, ...] | None = None
        self._even = False

    def write(self, frame: Frame) -> None:
        """Writes a frame; times must grow.

        Args:
            frame: uint8 (H, W, 3) or (H, W), or uint16 (H, W), which needs a codec that keeps it,
                such as ffv1.

        Raises:
            ValueError: If its size or kind is another one than before, or the codec cannot hold it.
        """
        image = frame.image
        if self._stream is None:
            self._begin(image)
        if image.shape != self._size:
            raise ValueError(f"expected frames of shape {self._size}, got {image.shape}")
        # Encoders want even sides: the last row and column are repeated.
        uneven = [(0, self._even and side % 2) for side in image.shape[:2]]
        image = np.pad(image, [*uneven, *[(0, 0)] * (image.ndim - 2)], mode="edge")
        kind = "rgb24" if image.ndim == 3 else "gray" if image.dtype == np.uint8 else "gray16le"
        made = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind)
        made.pts, made.time_base = round(frame.time * TICKS), Fraction(1, TICKS)
        self._send(made)

    def close(self) -> None:
        """Writes what the encoder still holds."""
        if self._stream is not None:
            self._send(None)

    def _begin(self, image: Array) -> None:
        height, width = image.shape[:2]
        deep = image.dtype == np.uint16
        try:
            self._stream = self._container.add_stream(self._codec, rate=self._rate)
        except (self._av.FFmpegError, ValueError) as error:
            raise ValueError(f"the codec {self._codec!r} cannot be used here: {error}") from error
        known = {one.name for one in self._stream.codec.video_formats or ()}
        wanted = ("gray16le",) if deep else ("yuv420p", "bgr0", "rgb24", "yuvj420p")
        fits = [one for one in wanted if one in known]
        if self._codec == "ffv1" and not deep:  # which is chosen to lose nothing
            fits = ["gray" if image.ndim == 2 else "bgr0"]
        if not fits:
            kind = "16-bit grey" if deep else "these frames"
            raise ValueError(f"the codec {self._codec} does not hold {kind}; ffv1 in .mkv does")
        self._even = fits[0].startswith("yuv")
        self._stream.pix_fmt = fits[0]
        self._stream.width = width + (self._even and width % 2)
        self._stream.height = height + (self._even and height % 2)
        self._stream.codec_context.time_base = Fraction(1, TICKS)
        if self._codec in ("libx264", "libx265"):
            self._stream.options = {"crf": QUALITY}
        self._size = image.shape

    def _send(self, frame: Any) -> None:  # noqa: ANN401
        for packet in self._stream.encode(frame):
            self._container.mux(packet)


@contextlib.contextmanager
def writing(
    path: str | os.PathLike[str], codec: str = "libx264", rate: float = 25.0
) -> Generator[Writer]:
    """Gives what writes a video, which takes its place when it is complete.

    Args:
        path: Where to; the suffix, one of `CONTAINERS`, gives the format.
        codec: FFmpeg's name of the encoder; ``"ffv1"`` in ``.mkv`` loses nothing.
        rate: Frames per second that the file says it has; each frame has its own time.

    Raises:
        ImportError: Without the extra `video`.
        ValueError: If the suffix or the codec is not known, or does not go with the other.
        OSError: If the file cannot be written.
    """
    av = _library()
    format = CONTAINERS.get(Path(path).suffix.lower())
    if format is None:
        raise ValueError(f"cannot write {path}: expected a suffix of {', '.join(CONTAINERS)}")
    with replacing(path) as file:
        try:
            with av.open(file, "w", format=format) as container:
                writer = Writer(container, codec, rate)
                yield writer
                writer.close()
        except av.FFmpegError as error:
            raise ValueError(f"cannot write {path} with {codec}: {error}") from error


def _pixels(frame: Any) -> Array:  # noqa: ANN401
    """Returns the pixels of a frame as they are stored, if they are grey, or as RGB, upright."""
    name: str = frame.format.name
    if name.startswith("gray") and not name.startswith("grayf"):
        image = np.asarray(frame.to_ndarray())
    else:
        image = np.asarray(frame.to_ndarray(format="rgb24"))
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _library() -> Any:  # noqa: ANN401  (the stubs are not complete)
    try:
        import av
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install 'umfuse[video]'") from error
    return av

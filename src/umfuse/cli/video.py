"""`umfuse video`: the frames of two cameras that do not move against each other."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from umfuse.cli.common import Commands, Options, UsageError

if TYPE_CHECKING:
    from umfuse import Fusion

logger = logging.getLogger(__name__)

RATE = 25.0  # frames per second of folders
SAME = 1e-4  # seconds that times are rounded by


class Shot(NamedTuple):
    """A frame, or the file of one, and when it was taken in seconds from the beginning."""

    time: float
    image: Any
    name: str


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parser of this command."""
    parser = commands.add_parser(
        "video",
        parents=[shared.device, shared.ranges, shared.cameras],
        help="fuse two videos, or folders of frames, of cameras that do not move",
        description="Fuses the frames of an infrared and a visible camera that do not move against "
        "each other: two videos (umfuse[video]), or folders of images in the order of their names. "
        "Each visible frame gets the infrared frame that is nearest in time.",
    )
    parser.add_argument("infrared", type=Path, help="video, or folder of frames")
    parser.add_argument("visible", type=Path, help="video, or folder of frames")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="video, or folder for frames"
    )
    parser.add_argument("--weights", metavar="NAME", help="as for umfuse fuse")
    parser.add_argument(
        "--frames", type=int, default=8, metavar="N", help="that find the alignment; default: 8"
    )
    parser.add_argument(
        "--check-every",
        type=int,
        default=25,
        metavar="N",
        help="frames between two looks at whether it still holds; default: 25",
    )
    parser.add_argument(
        "--registration", type=Path, metavar="FILE", help="a saved registration to begin with"
    )
    parser.add_argument(
        "--save-registration", type=Path, metavar="FILE", help="write the last one, .npz"
    )
    parser.add_argument(
        "--rate", type=float, metavar="FPS", help="of folders of frames; default: 25"
    )
    parser.add_argument(
        "--codec", default="libx264", help="FFmpeg's name of one; default: libx264 (H.264)"
    )
    parser.add_argument("--grey16", action="store_true", help="write 16-bit grey, without colour")
    parser.set_defaults(run=_video_command)


def _video_command(options: argparse.Namespace) -> int:
    from huggingface_hub.utils import tqdm

    from umfuse import Rig
    from umfuse.files import video

    to_video = options.output.suffix.lower() in video.CONTAINERS
    if options.grey16 and to_video and options.codec == "libx264":
        raise UsageError("--grey16 in a video needs a codec that keeps 16 bits: --codec ffv1, .mkv")
    for path in (options.infrared, options.visible):
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    rates = [_rate(path, options.rate) for path in (options.infrared, options.visible)]
    if rates[0] != rates[1]:
        logger.warning(
            "infrared %g and visible %g frames per second: each visible frame gets the infrared "
            "frame that is nearest in time",
            *rates,
        )
    rig = Rig(
        frames=options.frames,
        check_every=options.check_every,
        registration=options.registration,
        fov=options.fov,
        rotation=options.rotation,
        mirror=True if options.mirror else None,
        min_confidence=options.min_confidence,
        ir_range=options.ir_range,
        vis_range=options.vis_range,
        nodata=options.nodata,
        weights=options.weights,
        device=options.device,
    )
    pairs = together(
        _shots(options.infrared, "infrared", rates[0]), _shots(options.visible, "visible", rates[1])
    )
    # The first frames are looked at before the first is fused: all have one alignment.
    first = list(itertools.islice(pairs, rig.frames))
    if not first:
        raise ValueError("there are no frames to fuse")
    for infrared, visible in first:
        rig.look(infrared.image, visible.image)
    count = 0
    with _output(options, rates[1], to_video) as write:
        everything = itertools.chain(first, pairs)
        for infrared, visible in cast(
            "Iterable[tuple[Shot, Shot]]", tqdm(everything, unit="frame")
        ):
            write(rig.fuse(infrared.image, visible.image), visible)
            count += 1
    if options.save_registration is not None and rig.registration is not None:
        rig.registration.save(options.save_registration)
    logger.info("%d frames", count)
    print(options.output)
    return 0


def together(infrared: Iterable[Shot], visible: Iterable[Shot]) -> Iterator[tuple[Shot, Shot]]:
    """Yields each visible frame with the infrared frame that is nearest to it in time.

    It ends with the shorter of the two: at the first visible frame that is further from the last
    infrared one than two infrared frames are from each other.

    Args:
        infrared: Frames whose times grow.
        visible: The same.
    """
    coming = iter(infrared)
    current, following = next(coming, None), next(coming, None)
    if current is None:
        return
    gap = 0.0 if following is None else following.time - current.time
    for shot in visible:
        while following is not None and (
            abs(following.time - shot.time) <= abs(current.time - shot.time) + SAME
        ):
            gap = following.time - current.time
            current, following = following, next(coming, None)
        if following is None and shot.time - current.time > gap + SAME:
            logger.warning(
                "the infrared frames end at %.2f s, before the visible ones", current.time
            )
            return
        yield current, shot


def _rate(path: Path, given: float | None) -> float:
    """Returns the frames per second of a video, or those that are said of a folder."""
    from umfuse.files import video

    if path.is_dir():
        return given or RATE
    return video.rate(path)


def _shots(path: Path, name: str, rate: float) -> Iterator[Shot]:
    """Yields the frames of a video, or the images of a folder in the order of their names."""
    from umfuse import pairing
    from umfuse.files import video

    if not path.is_dir():
        for number, frame in enumerate(video.frames(path, name)):
            yield Shot(frame.time, frame.image, f"{number + 1:06d}")
        return
    for number, file in enumerate(pairing.in_order(path)):
        yield Shot(number / rate, file, file.stem)


@contextlib.contextmanager
def _output(
    options: argparse.Namespace, rate: float, to_video: bool
) -> Generator[Callable[[Fusion, Shot], None]]:
    """Gives what writes a fused frame: to the video, or to a file of the folder."""
    import numpy as np

    from umfuse.files import video

    if not to_video:
        options.output.mkdir(parents=True, exist_ok=True)

        def to_file(fusion: Fusion, shot: Shot) -> None:
            fusion.save(options.output / f"{shot.name}.png", grey16=options.grey16)

        yield to_file
        return
    with video.writing(options.output, options.codec, rate) as writer:

        def to_frame(fusion: Fusion, shot: Shot) -> None:
            if options.grey16:
                image = np.rint(fusion.luma * 65535).astype(np.uint16)
            else:
                image = _eight_bits(fusion)
            writer.write(video.Frame(shot.time, image))

        yield to_frame


def _eight_bits(fusion: Fusion) -> Any:  # noqa: ANN401  (an array)
    """Returns a fused frame as uint8: as it is, or grey where the visible frames have more bits."""
    import numpy as np
    from PIL import Image

    image = fusion.image
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert("RGB") if image.mode in ("RGBA", "LA") else image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image
    return np.rint(fusion.luma * 255).astype(np.uint8)

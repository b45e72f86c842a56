"""The command line: `umfuse fuse`, `register`, `demo` and `weights`.

Results go to disk and their paths to stdout, everything else to stderr. The exit code is 2 for
wrong usage, 1 if anything failed. Modules that import torch are imported by the commands that need
them, so that help is instant.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from umfuse import __version__

if TYPE_CHECKING:
    from umfuse.api import Fusion, Registration
    from umfuse.images import Range
    from umfuse.pipeline import Umfuse

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm"}


class UsageError(Exception):
    """Arguments that cannot be meant."""


class Pair(NamedTuple):
    """The files of one pair, and where its results go."""

    infrared: Path
    visible: Path
    output: Path
    sheet: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        arguments: Words after the program's name; None means those of this process.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    level = logging.WARNING - 10 * min(2, options.verbose)
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", stream=sys.stderr)
    try:
        return int(options.run(options))
    except UsageError as error:
        parser.print_usage(sys.stderr)
        print(f"umfuse: error: {error}", file=sys.stderr)
        return 2
    except (OSError, TypeError, ValueError) as error:
        print(f"umfuse: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="umfuse",
        description="Align and fuse infrared and visible image pairs that are not registered.",
    )
    parser.add_argument("--version", action="version", version=f"umfuse {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more, twice for all"
    )
    model = argparse.ArgumentParser(add_help=False, parents=[common])
    model.add_argument(
        "--weights", metavar="NAME", help="name, folder or Hub repository; default: embedded"
    )
    model.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: CUDA if there is any")
    pair = argparse.ArgumentParser(add_help=False, parents=[model])
    pair.add_argument("infrared", type=Path, help="image, or a folder of images")
    pair.add_argument("visible", type=Path, help="image, or a folder paired with it by stem")
    pair.add_argument(
        "-o", "--output", type=Path, required=True, help="image, or a folder for folders"
    )
    pair.add_argument(
        "--range",
        type=_range,
        metavar="RANGE",
        help="infrared values that become black and white: dtype, minmax, percentile or LOW,HIGH",
    )
    pair.add_argument(
        "--sheet", type=Path, help="also write a before/after picture (a folder for folders)"
    )

    fuse = commands.add_parser("fuse", parents=[pair], help="align and fuse pairs")
    fuse.add_argument(
        "--no-register", action="store_true", help="the pairs are aligned: only fuse them"
    )
    fuse.set_defaults(run=_pairs_command, fuse=True)

    register = commands.add_parser(
        "register", parents=[pair], help="write infrared images aligned with the visible ones"
    )
    register.set_defaults(run=_pairs_command, fuse=False, no_register=False)

    demo = commands.add_parser(
        "demo", parents=[model], help="render a misaligned scene, align and fuse it"
    )
    demo.add_argument("-o", "--output", type=Path, default=Path("umfuse-demo"), help="folder")
    demo.add_argument("--seed", type=int, default=0, help="another scene")
    demo.add_argument("--night", action="store_true", help="a dark visible image")
    demo.set_defaults(run=_demo, range=None)

    weights = commands.add_parser("weights", help="list, download, check and publish weights")
    actions = weights.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[common], help="the weights umfuse knows")
    listing.set_defaults(run=_weights_list)
    download = actions.add_parser(
        "download", parents=[common], help="fetch and check weights, print their folder"
    )
    download.add_argument("name", nargs="?", help="name or Hub repository; default: embedded")
    download.set_defaults(run=_weights_download)
    publish = actions.add_parser(
        "publish", parents=[common], help="upload weights to the Hub, print their manifest entry"
    )
    publish.add_argument("repo", metavar="ORG/NAME")
    publish.add_argument("--from", dest="source", metavar="NAME", help="default: embedded")
    publish.add_argument(
        "--manifest", type=Path, help="a weights.json that the entry is also written to"
    )
    publish.set_defaults(run=_weights_publish)
    return parser


def _range(text: str) -> Range:
    if text in ("dtype", "minmax", "percentile"):
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected dtype, minmax, percentile or LOW,HIGH (two numbers), got {text!r}"
        ) from None
    return low, high


# ---- pairs ---------------------------------------------------------------------------------------


def _pairs_command(options: argparse.Namespace) -> int:
    pairs, problems = _pairs(options)
    for problem in problems:
        print(f"umfuse: {problem}", file=sys.stderr)
    if not pairs:
        raise UsageError(
            f"no image in {options.infrared} has a partner of the same stem in {options.visible}"
        )

    from huggingface_hub.utils import tqdm

    from umfuse import load

    model = load(options.weights, device=options.device)
    failed = len(problems)
    bar = tqdm(pairs, disable=len(pairs) == 1, unit="pair", name="umfuse.pairs")
    for pair in cast("Iterable[Pair]", bar):
        try:
            print(_one_pair(pair, model, options), flush=True)
        except (OSError, TypeError, ValueError) as error:
            failed += 1
            tqdm.write(f"umfuse: {pair.infrared} + {pair.visible}: {error}", file=sys.stderr)
    if failed:
        print(f"umfuse: {failed} of {len(pairs) + len(problems)} failed", file=sys.stderr)
    return int(failed > 0)


def _pairs(options: argparse.Namespace) -> tuple[list[Pair], list[str]]:
    """Returns the pairs to work on, and a line for each image that has no partner."""
    infrared, visible, output = options.infrared, options.visible, options.output
    for path in (infrared, visible):
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    if infrared.is_dir() != visible.is_dir():
        raise UsageError("infrared and visible must be two images or two folders, not one of each")
    if not infrared.is_dir():
        if output.is_dir():
            raise UsageError(f"{output} is a folder: give the name of the image to write")
        return [Pair(infrared, visible, output, options.sheet)], []
    for path in (output, options.sheet):
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    problems = list[str]()
    left, right = (_by_stem(folder, problems) for folder in (infrared, visible))
    for own, other, folder in ((left, right, visible), (right, left, infrared)):
        for stem in sorted(set(own) - set(other)):
            problems.append(f"{own[stem]} has no partner in {folder}")
    pairs = [
        Pair(
            left[stem],
            right[stem],
            output / f"{stem}.png",
            options.sheet and options.sheet / f"{stem}.png",
        )
        for stem in sorted(set(left) & set(right))
    ]
    return pairs, problems


def _by_stem(folder: Path, problems: list[str]) -> dict[str, Path]:
    found = dict[str, Path]()
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        if path.stem in found:
            problems.append(f"{path} has the same stem as {found[path.stem]}")
        else:
            found[path.stem] = path
    return found


def _one_pair(pair: Pair, model: Umfuse, options: argparse.Namespace) -> Path:
    """Writes the results of one pair and returns the path of the main one."""
    from umfuse import fuse, register

    result: Fusion | Registration
    registration: Registration | None
    if options.fuse:
        result = fuse(
            pair.infrared,
            pair.visible,
            registration=not options.no_register,
            range=options.range,
            weights=model,
        )
        registration = result.registration
    else:
        result = registration = register(
            pair.infrared, pair.visible, range=options.range, weights=model
        )
    if registration is not None:
        logging.getLogger(__name__).info(
            "%s: confidence %.2f (%s)",
            pair.infrared.name,
            registration.confidence,
            registration.stage,
        )
    result.save(pair.output)
    if pair.sheet is not None:
        _sheet(pair, result, registration, options.range)
    return pair.output


def _sheet(
    pair: Pair, result: Fusion | Registration, registration: Registration | None, range: Range
) -> None:
    """Writes the before/after picture of a pair that is done."""
    import numpy as np
    from PIL import Image

    from umfuse import draw, images
    from umfuse.api import Fusion

    infrared = images.read(pair.infrared, name="infrared", range=range)
    visible = images.read(pair.visible, name="visible")
    height, width = visible.size
    before = infrared.luma[0, 0].numpy()
    resized = np.asarray(Image.fromarray(before).resize((width, height)))
    after, displacement = resized, np.zeros((height, width, 2), dtype=np.float32)
    if registration is not None:
        low, span = float(infrared.low), float(infrared.span)
        shown = images.read(registration.infrared, range=(low, low + span))
        after, displacement = shown.luma[0, 0].numpy(), registration.displacement
    fused = None
    if isinstance(result, Fusion):
        fused = images.read(result.image).rgb[0].movedim(0, -1).numpy()
    rgb = visible.rgb[0].movedim(0, -1).numpy()
    picture = draw.registration_sheet(before, rgb, resized, after, displacement, fused)
    images.save(picture, pair.sheet or pair.output)


# ---- demo ----------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    import numpy as np

    from umfuse import demo, fuse, images, load

    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    scene = demo.render(options.seed, night=options.night)
    infrared, visible = folder / "infrared.png", folder / "visible.png"
    images.save(scene.infrared, infrared)
    images.save(scene.visible, visible)
    fusion = fuse(infrared, visible, weights=load(options.weights, device=options.device))
    registration = fusion.registration
    if registration is None:
        raise TypeError("fuse returned no registration")
    pair = Pair(infrared, visible, folder / "fused.png", folder / "sheet.png")
    registration.save(folder / "registered.png")
    fusion.save(pair.output)
    _sheet(pair, fusion, registration, options.range)
    seen = scene.valid
    before = np.linalg.norm(scene.displacement[seen], axis=-1).mean()
    after = np.linalg.norm((registration.coordinates - scene.coordinates)[seen], axis=-1).mean()
    print(
        f"mean error of the alignment in infrared pixels: {before:.1f} by resizing, "
        f"{after:.1f} by umfuse (confidence {registration.confidence:.2f})",
        file=sys.stderr,
    )
    for name in ("infrared", "visible", "registered", "fused", "sheet"):
        print(folder / f"{name}.png")
    return 0


# ---- weights -------------------------------------------------------------------------------------


def _weights_list(options: argparse.Namespace) -> int:
    from umfuse import weights

    known = weights.manifest()
    for name, entry in known["weights"].items():
        where = "in the package" if "path" in entry else f"{entry.get('repo_id')} on the Hub"
        default = ", default" if name == known["default"] else ""
        print(f"{name}: {where}{default}, {entry['bytes'] / 1e6:.1f} MB, {entry['license']}")
        print(f"    trained on {entry['data']}")
    return 0


def _weights_download(options: argparse.Namespace) -> int:
    from umfuse import weights

    print(weights.locate(options.name))
    return 0


def _weights_publish(options: argparse.Namespace) -> int:
    from umfuse import weights

    if options.manifest is not None and not options.manifest.is_file():
        raise UsageError(f"{options.manifest} does not exist: name the weights.json to add to")
    entry = weights.publish(options.source, options.repo)
    name = options.repo.partition("/")[2]
    print(json.dumps({name: entry}, indent=2))
    if options.manifest is not None:
        known = json.loads(options.manifest.read_text(encoding="utf-8"))
        known["weights"][name] = entry
        options.manifest.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return 0

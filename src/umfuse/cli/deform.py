"""`umfuse deform`: write a data set whose infrared images are misaligned in a known way."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

from umfuse import __version__
from umfuse.cli.common import Commands, Options, UsageError

PROTOCOLS = ("paper", "large")  # of umfuse.train.protocols, named here so that help is instant


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parser of this command."""
    deform = commands.add_parser(
        "deform",
        parents=[shared.common],
        help="write a data set with misaligned infrared images and their truth",
        description="Reads aligned pairs, DATASET/ir and DATASET/vis, and writes OUT/ir, OUT/vis, "
        "OUT/ir_warp and OUT/displacement.",
    )
    deform.add_argument("dataset", type=Path, metavar="DATASET", help="folder of aligned pairs")
    deform.add_argument("output", type=Path, metavar="OUT", help="folder to write")
    deform.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        required=True,
        help="paper: 1 %% of translation and 0.5 %% of elastic noise, about 2.5 px at 256 x 256; "
        "large: rotation, scale, translation and the noise, about 16 px at 300 x 525",
    )
    deform.add_argument(
        "--size", type=int, metavar="SIDE", help="resize to SIDE x SIDE pixels before"
    )
    deform.add_argument("--seed", type=int, default=0, help="other displacements")
    deform.set_defaults(run=_deform)


def _deform(options: argparse.Namespace) -> int:
    source, output = options.dataset, options.output
    folders = {name: source / name for name in ("ir", "vis")}
    for folder in folders.values():
        if not folder.is_dir():
            raise UsageError(f"the folder {folder} does not exist")
    if output.resolve() == source.resolve():
        raise UsageError("OUT must be another folder than DATASET")
    if options.size is not None and options.size < 8:
        raise UsageError(f"--size must be at least 8, got {options.size}")

    from huggingface_hub.utils import tqdm

    from umfuse import pairing

    pairs, problems = pairing.stems(folders)
    if not pairs:
        raise UsageError(f"no image in {folders['ir']} has a partner of the same stem")
    for name in ("ir", "vis", "ir_warp", "displacement"):
        (output / name).mkdir(parents=True, exist_ok=True)
    for problem in problems:
        print(f"umfuse: {problem}", file=sys.stderr)
    failed = len(problems)
    bar = tqdm(pairs.items(), disable=len(pairs) == 1, unit="pair", name="umfuse.deform")
    for name, files in cast("Iterable[tuple[str, Mapping[str, Path]]]", bar):
        try:
            _write(name, files, output, options)
        except (OSError, TypeError, ValueError) as error:
            failed += 1
            tqdm.write(f"umfuse: {name}: {error}", file=sys.stderr)
    about = {
        "umfuse": __version__,
        "protocol": options.protocol,
        "size": options.size,
        "seed": options.seed,
    }
    (output / "protocol.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    print(output)
    if failed:
        print(f"umfuse: {failed} of {len(pairs) + len(problems)} failed", file=sys.stderr)
    return int(failed > 0)


def _write(name: str, files: Mapping[str, Path], output: Path, options: argparse.Namespace) -> None:
    """Writes one pair, its deformed infrared image and the truth."""
    import torch.nn.functional as F

    from umfuse import geometry, images, resampling
    from umfuse.evaluate.dataset import write_displacement
    from umfuse.train.protocols import protocol

    # The range is of no matter: values are moved, and given back in their own units.
    infrared, visible = (images.read(files[key], range="minmax") for key in ("ir", "vis"))
    paths = {key: output / key / f"{name}{_suffix(file)}" for key, file in files.items()}
    if options.size is not None:
        side = (options.size, options.size)
        for key, picture in (("ir", infrared), ("vis", visible)):
            values = F.interpolate(picture.planes, side, mode="bilinear", antialias=True)
            missing = None
            if picture.missing is not None:
                small = F.interpolate(
                    picture.missing.float(), side, mode="bilinear", antialias=True
                )
                missing = small > 0.5
            picture.form.save(picture.give_back(values, missing), paths[key])
        infrared = images.read(paths["ir"], range="minmax")  # rounded, as others see it
    elif infrared.size != visible.size:
        raise ValueError(
            f"the infrared image has {infrared.size[1]} x {infrared.size[0]} pixels, the visible "
            f"one {visible.size[1]} x {visible.size[0]}: aligned pairs have one size, see --size"
        )
    else:
        for key, file in files.items():
            shutil.copyfile(file, output / key / file.name)
    # Of the name, not of the place in the folder: a part of a data set has the same fields.
    drawn = protocol(options.protocol, infrared.size, zlib.crc32(f"{options.seed}/{name}".encode()))
    deformed, _ = geometry.warp(infrared.planes, drawn.deform)
    missing = None
    if infrared.missing is not None:
        moved = resampling.Places.of(geometry.to_coordinates(drawn.deform))
        missing = resampling.hidden(infrared.missing, moved)
    image = infrared.give_back(deformed, missing)
    infrared.form.save(image, output / "ir_warp" / paths["ir"].name)
    write_displacement(output / "displacement" / f"{name}.npz", drawn.restore, drawn.valid)


def _suffix(file: Path) -> str:
    """Returns the suffix of a format that keeps what the file holds."""
    return ".tif" if file.suffix.lower() in {".tif", ".tiff"} else ".png"

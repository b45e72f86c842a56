"""`umfuse weights`: list, download, check, convert and publish weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, cast

from umfuse.cli.common import Commands, Options, UsageError


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parser of this command."""
    weights = commands.add_parser(
        "weights", help="list, download, check, convert and publish weights"
    )
    actions = weights.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", parents=[shared.common], help="the weights umfuse knows")
    listing.set_defaults(run=_list)
    download = actions.add_parser(
        "download", parents=[shared.common], help="fetch and check weights, print their folder"
    )
    download.add_argument("name", nargs="?", help="name or Hub repository; default: embedded")
    download.add_argument(
        "--cpstn", action="store_true", help="with CPSTN, even if the model registers without it"
    )
    download.set_defaults(run=_download)
    convert = actions.add_parser(
        "convert",
        parents=[shared.common],
        help="turn checkpoints of the authors' code into a folder of weights",
    )
    convert.add_argument("output", type=Path, metavar="OUT", help="the folder")
    for name, file in (
        ("cpstn", "latest_net_G.pth"),
        ("mrrn", "reg_*.pth"),
        ("difn", "fus_*.pth"),
    ):
        convert.add_argument(f"--{name}", type=Path, metavar="FILE", help=file)
    convert.add_argument(
        "--fill", metavar="NAME", help="weights that what is missing comes from; default: embedded"
    )
    convert.add_argument("--license", metavar="ID", help="of the result; default: none is said")
    convert.set_defaults(run=_convert)
    publish = actions.add_parser(
        "publish",
        parents=[shared.common],
        help="upload weights to the Hub, print their manifest entry",
    )
    publish.add_argument("repo", metavar="ORG/NAME")
    publish.add_argument("--from", dest="source", metavar="NAME", help="default: embedded")
    publish.add_argument("--data", metavar="TEXT", help="for the card: what they were trained on")
    publish.add_argument(
        "--recipe",
        type=Path,
        metavar="JSON",
        help="how they were trained; default: as the run says",
    )
    publish.add_argument("--scores", type=Path, metavar="JSON", help="what was measured with them")
    publish.add_argument(
        "--manifest", type=Path, help="a weights.json that the entry is also written to"
    )
    publish.set_defaults(run=_publish)


def _list(options: argparse.Namespace) -> int:
    from umfuse import weights

    known = weights.manifest()
    for name, entry in known["weights"].items():
        where = "in the package" if "path" in entry else f"{entry.get('repo_id')} on the Hub"
        size = sum(file["bytes"] for file in entry["files"].values())
        default = ", default" if name == known["default"] else ""
        print(f"{name}: {where}{default}, {size / 1e6:.1f} MB, {entry['license']}")
        print(f"    trained on {entry['data']}")
    return 0


def _download(options: argparse.Namespace) -> int:
    from umfuse import weights

    print(weights.locate(options.name, cpstn=options.cpstn or None))
    return 0


def _convert(options: argparse.Namespace) -> int:
    files = {name: getattr(options, name) for name in ("cpstn", "mrrn", "difn")}
    if not any(files.values()):
        raise UsageError("give at least one of --cpstn, --mrrn and --difn")

    from umfuse.convert import convert

    done = convert(options.output, **files, fill=options.fill, license=options.license)
    print(done.folder)
    return 0


def _publish(options: argparse.Namespace) -> int:
    from umfuse.publishing import publish

    if options.manifest is not None and not options.manifest.is_file():
        raise UsageError(f"{options.manifest} does not exist: name the weights.json to add to")
    entry = publish(
        options.source,
        options.repo,
        data=options.data,
        recipe=_read(options.recipe),
        scores=_read(options.scores),
    )
    name = options.repo.partition("/")[2]
    print(json.dumps({name: entry}, indent=2))
    if options.manifest is not None:
        known = json.loads(options.manifest.read_text(encoding="utf-8"))
        known["weights"][name] = entry
        options.manifest.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return 0


def _read(path: Path | None) -> dict[str, Any] | None:
    """Returns the object of a JSON file, if one is given."""
    if path is None:
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold a JSON object")
    return cast("dict[str, Any]", values)

"""`umfuse demo`: align and fuse a pair that comes with the package, or serve a page for others."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from umfuse.cli import pictures
from umfuse.cli.common import Commands, Options, UsageError
from umfuse.cli.jobs import Job


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parser of this command."""
    demo = commands.add_parser(
        "demo", parents=[shared.device], help="align and fuse a pair that comes with the package"
    )
    demo.add_argument(
        "--weights", metavar="NAME", help="name, folder or Hub repository; default: embedded"
    )
    demo.add_argument("-o", "--output", type=Path, default=Path("umfuse-demo"), help="folder")
    demo.add_argument("--night", action="store_true", help="a dark visible image")
    page = demo.add_argument_group("a page in the browser, for your own images (umfuse[ui])")
    page.add_argument("--serve", action="store_true", help="serve the page until Ctrl-C")
    page.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at; default: %(default)s, which only this machine reaches. At any "
        "other, whoever reaches it can use the page: there is no password and no encryption",
    )
    page.add_argument("--port", type=int, default=8765, help="default: %(default)s; 0: a free one")
    demo.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    return _serve(options) if options.serve else _demo(options)


def _serve(options: argparse.Namespace) -> int:
    try:
        from umfuse import ui
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the page needs {error.name}: python -m pip install 'umfuse[ui]'"
        ) from error
    from umfuse import load

    if not ui.is_local(options.host):
        print(
            "umfuse: warning: whoever reaches this address can use the page: there is no password "
            "and no encryption; do so only in a network that you trust",
            file=sys.stderr,
        )
    model = load(options.weights, device=options.device)
    ui.serve(
        model, options.host, options.port, lambda url: print(f"{url} (Ctrl-C ends it)", flush=True)
    )
    return 0


def _demo(options: argparse.Namespace) -> int:
    import torch

    from umfuse import demo, fuse, geometry, images, load

    truth = demo.pair(night=options.night)
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    infrared, visible = folder / "infrared.png", folder / "visible.png"
    shutil.copyfile(truth.infrared, infrared)
    shutil.copyfile(truth.visible, visible)
    fusion = fuse(infrared, visible, weights=load(options.weights, device=options.device))
    registration = fusion.registration
    if registration is None:
        raise TypeError("fuse returned no registration")
    pair = Job("demo", infrared, visible, folder / "fused.png", folder / "sheet.png")
    registration.save_infrared(folder / "registered.png")
    fusion.save(pair.output)
    pictures.write(pair, fusion, registration)

    size, infrared_size = (images.read(path).size for path in (visible, infrared))
    right = geometry.project_grid(torch.from_numpy(truth.transform), size)
    resized = geometry.project_grid(geometry.resize_transform(size, infrared_size), size)
    found = torch.from_numpy(registration.coordinates).movedim(-1, 0)[None]
    seen = geometry.inside(right, infrared_size)[:, 0]
    before, after = (
        float((one - right).square().sum(1).sqrt()[seen].mean()) for one in (resized, found)
    )
    print(
        f"mean error of the alignment in infrared pixels: {before:.1f} by resizing, "
        f"{after:.1f} by umfuse (confidence {registration.confidence:.2f})",
        file=sys.stderr,
    )
    for name in ("infrared", "visible", "registered", "fused", "sheet"):
        print(folder / f"{name}.png")
    return 0

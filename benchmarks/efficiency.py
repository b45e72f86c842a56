"""Parameters, time and memory of registration and fusion: `python -m benchmarks.efficiency`.

The pair is a rendered street as two cameras of one size see it, 11 pixels apart on average at
640x512; in "register far" and in "fuse" 35, with another field of view and a turned camera, where
the search has to look everywhere.

The paper's Table 3 counts MRRN and DIFN alone, on 64x64 pixels; CPSTN, which inference needs, is in
neither its parameters nor its time. Here both are given. "networks" runs the networks that a model
uses on a batch of one without search (one pass each); "register" is `Umfuse.register`, search
included, beside CPSTN and MRRN alone of the `paper` preset; "fuse" is `Umfuse.align` and
`Umfuse.fuse`. The `paper` preset runs in plain float32, the default as it is used. Times are the
median of runs in turn; memory is what a call adds to the resident size of a fresh process with the
model loaded, at its peak (Linux), or what CUDA has allocated.

`--only bars profile` measures what `benchmarks.budget` says instead: everything against its bar,
and the parts of one `umfuse.fuse`, on one thread of a processor; `--page docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from benchmarks import budget, data, scenes
from torch import Tensor

import umfuse
from umfuse import geometry, images
from umfuse.pipeline import Umfuse

SIZES = ((64, 64), (256, 256), (512, 640), (768, 1024))
KINDS = ("paper", "default")
TABLES = ("networks", "bars", "profile")
PARTS = ("MRRN + DIFN", "DIFN", "networks", "register", "register far", "fuse")


def model(kind: str, device: str) -> Umfuse:
    """Returns the paper's networks with random weights, or the embedded ones."""
    if kind == "default":
        return umfuse.load(device=device, cpstn=True)
    torch.manual_seed(0)
    made = umfuse.Umfuse().eval().to(device)
    made.precision = "float32"
    return made


def call(kind: str, made: Umfuse, part: str, size: tuple[int, int]) -> Callable[[], object]:
    """Returns what is measured, as a function without arguments."""
    far = part in ("register far", "fuse")
    scene = scenes.render(0, size, infrared_size=size, strength=1.0 if far else 0.3)
    infrared = images.read(scene.infrared).luma.to(made.device)
    visible = images.read(scene.visible).rgb.to(made.device)

    place = geometry.identity_grid(*size, device=made.device)
    everywhere = torch.ones_like(infrared, dtype=torch.bool)

    def displace() -> Tensor:
        return made.displace(infrared, everywhere, visible, made.render(visible))

    def networks() -> object:
        return made.fuse(infrared, visible, geometry.to_coordinates(displace()))

    def without_cpstn() -> object:
        moving = infrared.expand(-1, made.config.mrrn.in_channels, -1, -1)
        return made.mrrn(moving, moving), made.difn(infrared, infrared)

    def difn() -> object:
        return made.fuse(infrared, visible, place)

    def register() -> object:
        return made.register(infrared, visible) if kind == "default" else displace()

    def fuse() -> object:
        alignment, _ = made.register(infrared, visible)
        return made.fuse(infrared, visible, alignment.coordinates(size))

    parts = (without_cpstn, difn, networks, register, register, fuse)
    chosen = dict(zip(PARTS, parts, strict=True))[part]

    def run() -> object:
        with torch.no_grad(), made.autocast():
            result = chosen()
        if made.device.type == "cuda":
            torch.cuda.synchronize()
        return result

    return run


def millions(*networks: torch.nn.Module) -> float:
    """Returns the number of parameters in millions."""
    return sum(p.numel() for network in networks for p in network.parameters()) / 1e6


def peak(kind: str, part: str, size: tuple[int, int], device: str) -> float:
    """Returns the MiB that a call needs beyond the loaded model, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.efficiency", "--device", device]
    command += ["--peak", json.dumps([kind, part, size])]
    # Without settings that keep memory from going back to the system.
    environment = {key: v for key, v in os.environ.items() if not key.startswith("MALLOC_")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def measure_peak(kind: str, part: str, size: tuple[int, int], device: str) -> float:
    """Does the work of `peak` in this process."""
    made = model(kind, device)
    call(kind, made, part, (64, 64))()  # what the first call sets up is no memory of the image
    run = call(kind, made, part, size)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is used now
    before = highest()
    run()
    return highest() - before


def highest() -> float:
    """Returns the largest resident size of this process so far, MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 2**10


def rows(device: str, repeats: int) -> Iterator[tuple[object, ...]]:
    """Yields a line for every size and part: time and memory of both kinds, and their ratio."""
    models = {kind: model(kind, device) for kind in KINDS}
    for size in SIZES:
        for part in PARTS:
            calls = {kind: call(kind, made, part, size) for kind, made in models.items()}
            times: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for turn in range(repeats + 1):
                for kind, run in calls.items():
                    start = time.perf_counter()
                    run()
                    if turn:  # the first warms up
                        times[kind].append(time.perf_counter() - start)
            seconds = [float(torch.tensor(times[kind]).median()) for kind in KINDS]
            memory = [f"{peak(kind, part, size, device):.0f}" for kind in KINDS]
            label = f"{size[1]}x{size[0]}" if part == PARTS[0] else ""
            yield label, part, *seconds, f"{seconds[0] / seconds[1]:.1f}", *memory


def parameters() -> Iterator[tuple[object, ...]]:
    """Yields a line for both kinds."""
    for kind in KINDS:
        made = model(kind, "cpu")
        networks = (made.cpstn, made.mrrn, made.difn)
        both = millions(made.mrrn, made.difn)
        yield kind, *(f"{millions(one):.3f}" for one in networks), f"{both:.3f}", millions(made)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=TABLES, choices=TABLES)
    parser.add_argument("--pairs", type=int, default=500, help="of changing size, for the bars")
    parser.add_argument("--peak", type=json.loads, help=argparse.SUPPRESS)
    data.page_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(measure_peak(*arguments.peak, arguments.device))
        return
    repeats = arguments.repeats
    if "networks" in arguments.only:
        head = ("parameters, million", "CPSTN", "MRRN", "DIFN", "MRRN + DIFN", "all three")
        data.report(arguments, "parameters", head, parameters())
        head = ("size", "part", "paper, s", "default, s", "ratio", "paper, MiB", "default, MiB")
        data.report(arguments, "efficiency", head, rows(arguments.device, repeats))
    torch.set_num_threads(1)
    if "bars" in arguments.only:
        head = ("what", "measured", "bar", "MACs per pixel", "bytes per pixel")
        paper, default = (model(kind, "cpu") for kind in KINDS)
        lines = budget.bars(paper, default, repeats, arguments.pairs)
        data.report(arguments, "bars", head, budget.noted(lines, len(head)))
    if "profile" in arguments.only:
        head = ("part of `fuse`", "time", "s", "calls", "MACs per pixel", "bytes per pixel")
        lines = budget.profile(model("default", "cpu"), repeats)
        data.report(arguments, "profile", head, budget.noted(lines, len(head)))


if __name__ == "__main__":
    main()

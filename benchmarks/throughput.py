"""Pairs per second of batches on a GPU: `python -m benchmarks.throughput --device cuda`.

Rendered pairs of 640x512, their transforms known. "default" is the embedded weights: `align` and
`fuse`, which is `Umfuse.forward`, in bfloat16; "paper" is the paper's three networks with random
weights, one pass each, in float32 as published and in bfloat16. Each runs as it is, and with its
networks through `torch.compile`. "fuse" is the default with a given registration. The floor is the
time that the device needs to read a pair and to write the fused image, at the bandwidth of a copy.
"search" is the global search, one pair at a time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from benchmarks import data, scenes
from torch import Tensor

import umfuse
from umfuse import geometry, images
from umfuse.pipeline import Umfuse

SIZE = (512, 640)
BATCHES = (1, 8, 32)
WAYS = (None, "default")  # of torch.compile; None is without it
COMPILED = ("paper", "default", "default, fuse")
COPIED = 2**30  # bytes
SECONDS = 1.0  # a measurement lasts about


def pair(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Returns infrared, visible and the transform between them."""
    scene = scenes.render(0, SIZE, infrared_size=SIZE, strength=0.3)
    infrared, visible = images.read(scene.infrared).luma, images.read(scene.visible).rgb
    return infrared.to(device), visible.to(device), torch.from_numpy(scene.transform)


def model(kind: str, precision: str, device: str, way: str | None) -> Umfuse:
    """Returns the embedded weights, or the paper's networks with random ones."""
    if kind == "default":
        made = umfuse.load(device=device, cpstn=False)
    else:
        torch.manual_seed(0)
        made = Umfuse().eval().to(device)
    made.precision = "float32" if precision == "float32" else "bfloat16"
    if way is not None:
        for network in (made.cpstn, made.mrrn, made.difn):
            if network is not None:
                network.compile(mode=way)
    return made


def work(made: Umfuse, kind: str, part: str, batch: int, device: str) -> Callable[[], object]:
    """Returns what is measured, as a function without arguments."""
    infrared, visible, transform = pair(device)
    infrared, visible = (one.expand(batch, -1, -1, -1).clone() for one in (infrared, visible))
    place = geometry.project_grid(transform, SIZE, torch.device(device))
    everywhere = torch.ones_like(infrared, dtype=torch.bool)

    def whole() -> object:
        return made(infrared, visible, transform)

    def fuse() -> object:
        return made.fuse(infrared, visible, place)

    def networks() -> object:
        moved = made.displace(infrared, everywhere, visible, made.render(visible))
        return made.fuse(infrared, visible, geometry.to_coordinates(moved))

    chosen = {"whole": networks if kind == "paper" else whole, "fuse": fuse}[part]

    def run() -> object:
        with torch.no_grad(), made.autocast():
            return chosen()

    return run


def seconds(run: Callable[[], object], device: str) -> float:
    """Returns how long a call takes, the median of about a second of them."""
    cuda = device.startswith("cuda")
    for _ in range(3):
        run()
    times: list[float] = []
    begin = time.perf_counter()
    while not times or time.perf_counter() - begin < SECONDS:
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        if cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(torch.tensor(times).median())


def bandwidth(device: str) -> float:
    """Returns the bytes per second that a copy on the device reads and writes."""
    source = torch.empty(COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPIED / seconds(lambda: target.copy_(source), device)


def rows(device: str, batches: Sequence[int], compiled: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields the lines of the table.

    Args:
        device: Where.
        batches: Pairs of a batch.
        compiled: What runs through `torch.compile` too.
    """
    for kind, part, precision in (
        ("paper", "whole", "float32"),
        ("paper", "whole", "bfloat16"),
        ("default", "whole", "bfloat16"),
        ("default", "fuse", "bfloat16"),
    ):
        name = kind if part == "whole" else f"{kind}, {part}"
        for way in WAYS if name in compiled else WAYS[:1]:
            torch.compiler.reset()
            made = model(kind, precision, device, way)
            rates: list[str] = []
            for batch in batches:
                run = work(made, kind, part, batch, device)
                rates.append(f"{batch / seconds(run, device):.1f}")
            yield name, precision, "yes" if way else "no", *rates
    made = model("default", "bfloat16", device, None)
    infrared, visible, _ = pair(device)
    alone = seconds(lambda: made.infer(infrared, visible), device)
    rest = [""] * (len(batches) - 1)
    yield "default, search included", "bfloat16", "no", f"{1 / alone:.2f}", *rest
    pixels = SIZE[0] * SIZE[1]
    floor = (4 + 3 * 4 + 4) * pixels / bandwidth(device)  # infrared, RGB, fused: float32
    yield "copy floor", "float32", "", *[f"{1 / floor:.0f}"] * len(batches)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compiled", nargs="*", default=COMPILED, choices=COMPILED)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    data.page_option(parser)
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    card = torch.cuda.get_device_name() if on_gpu else "CPU"
    head = (f"{card}, torch {torch.__version__}", "precision", "torch.compile")
    head = (*head, *(f"batch {batch}" for batch in options.batches))
    data.report(
        options, "throughput", head, rows(options.device, options.batches, options.compiled)
    )


if __name__ == "__main__":
    main()

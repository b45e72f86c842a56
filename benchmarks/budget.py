"""What umfuse may take: time, memory and work against their bars, for `benchmarks.efficiency`.

Both sides of a ratio run in turn, in one process or as processes of their own, and are compared by
the seconds of the processor that they take, which another program beside them changes less than the
clock on the wall. Work is what torch is asked for: multiplications with additions (MACs), and the
bytes that its operations read and write, of which some stay in a cache.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from benchmarks import scenes, throughput
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from typing_extensions import override

import umfuse
from umfuse import demo, geometry, images, search, tiles
from umfuse.pipeline import Umfuse
from umfuse.registration import places

SIZE = (512, 640)
PIXELS = SIZE[0] * SIZE[1]
MEGAPIXELS = {"2": (1155, 1732), "24": (4000, 6000), "48": (6000, 8000)}
WAITED = 0.05  # part of the wall clock's time beyond which the machine is not quiet
BUSY = 0.5  # load average beside the one thread of the benchmark, the same

# By a small process: a child begins with the peak of its parent.
_LAUNCH = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
child.returncode = os.waitstatus_to_exitcode(status)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(child.returncode)
"""


class Row(NamedTuple):
    """A line of the table."""

    what: str
    measured: str
    bar: str
    macs: str = ""
    bytes: str = ""


@dataclass
class Work:
    """What torch is asked for."""

    calls: int = 0
    macs: int = 0
    bytes: int = 0

    def minus(self, other: Work) -> Work:
        """Returns what is left of it without some of it."""
        rest = (self.calls - other.calls, self.macs - other.macs, self.bytes - other.bytes)
        return Work(*rest)

    def per_pixel(self, pixels: int = PIXELS) -> tuple[str, str]:
        """Returns MACs and bytes for each pixel, as text."""
        return f"{self.macs / pixels:,.0f}", f"{self.bytes / pixels:,.0f}"


class Meter(TorchDispatchMode):
    """Counts the operations of torch that are no views, their MACs and their bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    @override
    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        aliases = [result.alias_info for result in func._schema.returns]
        if any(alias is not None and not alias.is_write for alias in aliases):
            return out
        work = self.work
        work.calls += 1
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            work.macs += count(*args, **(kwargs or {}), out_val=out) // 2
        touched = [one for one in tree_leaves((args, kwargs, out)) if isinstance(one, Tensor)]
        work.bytes += sum(one.numel() * one.element_size() for one in touched)
        return out


def worked(run: Callable[[], object]) -> Work:
    """Returns the work of a call."""
    with Meter() as meter:
        run()
    return meter.work


def seconds(
    runs: Sequence[Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.process_time,
) -> list[float]:
    """Returns the seconds that calls take by a clock, the median of runs in turn."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(repeats + 1):
        for taken, run in zip(times, runs, strict=True):
            start = clock()
            run()
            if turn:  # the first warms up
                taken.append(clock() - start)
    return [median(taken) for taken in times]


def quiet() -> str:
    """Returns whether the machine has nothing else to do, and how that shows."""
    image = torch.rand(256, 256)
    wall, taken = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < 2:
        image @ image  # pyright: ignore[reportUnusedExpression]
    wall, taken = time.perf_counter() - wall, time.process_time() - taken
    waited = max(0.0, 1 - taken / wall / torch.get_num_threads())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    numbers = f"load average {load:.1f}, a loop waited {100 * waited:.0f} % of its time"
    good = waited < WAITED and load < 1 + BUSY
    return f"{'' if good else 'not '}quiet: {numbers}"


def noted(rows: Iterable[Sequence[object]], width: int) -> Iterator[Sequence[object]]:
    """Yields the lines of a table, and whether the machine was quiet before and after them.

    Args:
        rows: The lines.
        width: Columns of the table.
    """
    for when in ("before", "after"):
        yield f"the machine {when}", quiet(), *[""] * (width - 2)
        if when == "before":
            yield from rows


def process(arguments: Sequence[str]) -> tuple[float, float]:
    """Returns the seconds of the processor and the GiB at its peak that a Python of its own takes.

    Args:
        arguments: After ``python``.
    """
    # Without settings that keep memory from going back to the system.
    environment = {key: v for key, v in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-c", _LAUNCH, sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"python {' '.join(arguments)} failed: {done.stderr}")
    took, peak = map(float, done.stdout.split())
    return took, peak / (2**30 if sys.platform == "darwin" else 2**20)


def large(folder: Path, size: tuple[int, int]) -> list[str]:
    """Returns the command that fuses 640x512 with a colour image of a size, a noisy street."""
    scene = scenes.render(0, (1000, 1500), infrared_size=SIZE)
    image = Image.fromarray(scene.visible).resize(size[::-1], Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).integers(-3, 4, (*size, 3), dtype=np.int16)
    noisy = (np.asarray(image) + noise).clip(0, 255).astype(np.uint8)
    infrared, visible, fused = (folder / name for name in ("ir.png", "vis.jpg", "fused.png"))
    Image.fromarray(scene.infrared).save(infrared)
    Image.fromarray(noisy).save(visible, quality=92)
    return ["-m", "umfuse", "fuse", str(infrared), str(visible), "-o", str(fused)]


def growth(count: int, longest: int = 320) -> list[float]:
    """Returns the MiB of this process after each of many pairs of changing size (Linux).

    Args:
        count: Pairs.
        longest: Side of a visible image, at most.
    """
    model = umfuse.load(device="cpu")
    rng = np.random.default_rng(0)
    scene = scenes.render(0, (longest, longest), infrared_size=(longest // 2, longest // 2))
    resident: list[float] = []
    for _ in range(count):
        height, width = rng.integers(longest // 3, longest, 2)
        visible = scene.visible[:height, :width]
        infrared = scene.infrared[: height // 2, : width // 2]
        umfuse.fuse(infrared, visible, weights=model, on_failure="return")
        status = Path("/proc/self/status").read_text(encoding="ascii")
        resident.append(int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 2**10)
    return resident


def _ratios(paper: Umfuse, default: Umfuse, repeats: int) -> Iterator[Row]:
    """Yields what is measured against the paper's three networks in plain float32."""
    scene = scenes.render(0, SIZE, infrared_size=SIZE, strength=0.3)
    infrared, visible = images.read(scene.infrared).luma, images.read(scene.visible).rgb
    given = umfuse.Registration.from_transform(scene.transform, SIZE, SIZE)
    pair = scene.infrared, scene.visible
    everywhere = torch.ones_like(infrared, dtype=torch.bool)

    @torch.no_grad()
    def networks() -> object:
        moved = paper.displace(infrared, everywhere, visible, paper.render(visible))
        return paper.fuse(infrared, visible, geometry.to_coordinates(moved))

    def fuse() -> object:
        return umfuse.fuse(*pair, registration=given, weights=default)

    def whole() -> object:
        return umfuse.fuse(*pair, weights=default)

    runs = (networks, fuse, whole)
    taken = seconds(runs, repeats)
    names = (
        "the paper's three networks",
        "`fuse` with a given registration",
        "`fuse`, an easy pair",
    )
    for name, run, took, bar in zip(names, runs, taken, ("", "1/40", "1/10"), strict=True):
        ratio = f", 1/{taken[0] / took:.0f} of them" if bar else ""
        yield Row(f"640x512: {name}", f"{took:.3g} s{ratio}", bar, *worked(run).per_pixel())


def _batches(repeats: int) -> Iterator[Row]:
    """Yields what a batch of 8 gains over one by one."""
    made = throughput.model("default", "bfloat16", "cpu", None)
    one, eight = (throughput.work(made, "default", "whole", count, "cpu") for count in (1, 8))
    alone, together = seconds((one, eight), repeats)
    measured = f"{8 * alone / together:.2f} times the pairs per second"
    yield Row("`forward`, batch of 8", measured, "1.5", *worked(eight).per_pixel(8 * PIXELS))
    # By the clock on the wall: searches run side by side.
    several = [scenes.render(seed, SIZE, infrared_size=SIZE, strength=0.3) for seed in range(8)]
    infrared = torch.cat([images.read(one.infrared).luma for one in several])
    visible = torch.cat([images.read(one.visible).rgb for one in several])

    def batch() -> object:
        return made.infer(infrared, visible)

    def singly() -> object:
        return [made.infer(*pair) for pair in zip(infrared.split(1), visible.split(1), strict=True)]

    alone, together = seconds((singly, batch), max(1, repeats // 3), time.perf_counter)
    measured = f"{alone / together:.2f} times the pairs per second"
    count = torch.get_num_threads()
    yield Row(f"`infer` with its search, batch of 8, {count} threads", measured, "1.5")


def _cold(repeats: int) -> Iterator[Row]:
    """Yields what the first pair of a process takes, small and large ones."""
    pair = demo.pair()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fuse = ["-m", "umfuse", "fuse", str(pair.infrared), str(pair.visible)]
        commands = (["-c", "import torch"], [*fuse, "-o", str(folder / "demo.png")])
        turns = [[process(one)[0] for one in commands] for _ in range(repeats + 1)]
        alone, first = (median(taken) for taken in zip(*turns[1:], strict=True))
        measured = f"{first:.3g} s, {first / alone:.2f} of `import torch`"
        yield Row("cold `umfuse fuse` of the demo", measured, "2.5")
        base = 0.0
        for millions, size in MEGAPIXELS.items():
            took, peak = process(large(folder, size))
            base = base or took
            bars = {"2": "", "24": "12 times, 2.5 GiB", "48": "4 GiB"}
            measured = f"{took:.3g} s ({took / base:.1f} times), {peak:.2f} GiB"
            yield Row(f"cold, {millions} megapixels of colour", measured, bars[millions])


def _exactness(default: Umfuse) -> Iterator[Row]:
    """Yields how far tiles, bfloat16 and threads are from what they stand for."""
    pairs = [demo.pair(night=night) for night in (False, True)]

    def luma(pair: demo.DemoPair) -> Any:
        given = {"registration": pair.transform, "weights": default}
        return umfuse.fuse(pair.infrared, pair.visible, **given).luma

    lumas = dict[str, Any]()
    for precision in ("bfloat16", "float32"):
        default.precision = precision
        lumas[precision] = np.stack([luma(pair) for pair in pairs])
    sizes = tiles.BAND, tiles.TILE
    tiles.BAND, tiles.TILE = 10**9, 10**5  # one band, one tile
    try:
        whole = np.stack([luma(pair) for pair in pairs])
    finally:
        tiles.BAND, tiles.TILE = sizes
    apart = np.abs(whole - lumas["float32"]).max()
    yield Row("tiles against the whole, float32", f"{apart:.1g} at most", "1e-5")
    near = (np.abs(lumas["bfloat16"] - lumas["float32"]) * 255 <= 1).mean()
    yield Row("bfloat16 within a grey level", f"{100 * near:.3f} %", "99.9 %")
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(luma, pairs * 4))
    same = all(np.array_equal(one, lumas["float32"][i % 2]) for i, one in enumerate(several))
    yield Row("4 threads at once", "the same" if same else "other results", "the same")
    default.precision = "auto"


def bars(paper: Umfuse, default: Umfuse, repeats: int, pairs: int) -> Iterator[Row]:
    """Yields the lines of the table.

    Args:
        paper: The paper's three networks, in plain float32.
        default: The embedded weights.
        repeats: Runs of which the median counts.
        pairs: How many pairs of changing size follow each other.
    """
    yield from _ratios(paper, default, repeats)
    yield from _batches(repeats)
    yield from _cold(repeats)
    yield from _exactness(default)
    sizes = growth(pairs)
    grown = median(sizes[-(pairs // 5) :]) - median(sizes[pairs // 5 : 2 * (pairs // 5)])
    yield Row(f"{pairs} pairs of changing size", f"{grown:+.1f} MiB", "no growth")


def profile(default: Umfuse, repeats: int) -> Iterator[tuple[object, ...]]:
    """Yields a line for each part of `umfuse.fuse`: share of time, seconds, calls, MACs, bytes."""
    scene = scenes.render(0, SIZE, infrared_size=SIZE, strength=0.3)
    found = search.find_transform(
        *(images.read(one).luma for one in (scene.infrared, scene.visible))
    )
    given = umfuse.Registration.from_transform(found.transform, SIZE, SIZE)
    infrared, visible = images.read(scene.infrared), images.read(scene.visible)
    lumas = infrared.luma, visible.luma
    rgb, place, grey = visible.rgb, places(given), visible.luma
    network = default.difn

    def reading() -> object:
        return [images.read(one).luma for one in (scene.infrared, scene.visible)]

    def searching() -> object:
        return search.find_transform(*lumas)

    def dense() -> object:
        return default.align_content(lumas[0], rgb, found.transform)

    def fusing() -> object:
        return default.fuse_content(*lumas, place, None)

    def difn() -> None:
        for rows, columns in tiles.squares(SIZE):
            tile = grey[..., rows, columns]
            network(tile, tile)

    def giving() -> object:
        return visible.fused(grey)

    parts = (reading, searching, dense, fusing, difn, giving)
    with torch.no_grad(), default.autocast():
        taken = seconds(parts, repeats)
        works = [worked(part) for part in parts]
    taken[3] = max(0.0, taken[3] - taken[4])
    works[3] = works[3].minus(works[4])
    names = (
        *("reading, luma", "search", "dense stage", "sampling, margins of tiles", "DIFN"),
        "colour, as it came",
    )
    for name, took, work in zip(names, taken, works, strict=True):
        yield name, f"{100 * took / sum(taken):.0f} %", took, work.calls, *work.per_pixel()
    total = Work(*(sum(getattr(one, name) for one in works) for name in ("calls", "macs", "bytes")))
    yield "all", "100 %", sum(taken), total.calls, *total.per_pixel()

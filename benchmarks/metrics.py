"""Time of every measure of fusion for one pair on a CPU: `python -m benchmarks.metrics`.

The shortest of several runs. The values do not matter, so the pair is noise.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import torch
from benchmarks import data

from umfuse import metrics


def rows(size: tuple[int, int], repeats: int) -> Iterator[tuple[object, ...]]:
    """Yields the milliseconds of every measure, and their sum."""
    random = torch.Generator().manual_seed(0)
    pictures = [torch.rand(1, 1, *size, generator=random) for _ in range(3)]
    total = 0.0
    for head, metric in metrics.FUSION.items():
        times: list[float] = []
        for _ in range(repeats):
            start = time.perf_counter()
            metric(*pictures)
            times.append(1000 * (time.perf_counter() - start))
        total += min(times)
        yield head, f"{min(times):.1f}"
    yield "all", f"{total:.1f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(512, 640), metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    data.page_option(parser)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = (arguments.size[0], arguments.size[1])
    data.report(arguments, "metrics", ("measure", "ms"), rows(size, arguments.repeats))


if __name__ == "__main__":
    main()

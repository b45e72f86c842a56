"""Time of every measure of fusion for one pair on a CPU: `python -m benchmarks.metrics`.

The shortest of several runs. The values do not matter, so the pair is noise.
"""

from __future__ import annotations

import argparse
import time

import torch

from umfuse import metrics


def main() -> None:
    """Prints milliseconds, and their sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(512, 640), metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    random = torch.Generator().manual_seed(0)
    pictures = [torch.rand(1, 1, *arguments.size, generator=random) for _ in range(3)]
    total = 0.0
    for head, metric in metrics.FUSION.items():
        times: list[float] = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            metric(*pictures)
            times.append(1000 * (time.perf_counter() - start))
        total += min(times)
        print(f"{head:8}{min(times):8.1f}")
    print(f"{'all':8}{total:8.1f}")


if __name__ == "__main__":
    main()

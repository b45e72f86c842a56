"""Fusion of test pairs, beside what needs no network: `python -m benchmarks.fusion`.

CC, SSIM (mean of both sources), VIF (sum over both sources) and Qabf as `umfuse.metrics` defines
them. The reference infrared image is the aligned one, always: with the misaligned image as the
reference every misaligned result would look well.

- average, saliency mean (weights by histogram contrast) and maximum: per pixel, no network.
- misaligned: the infrared image deformed by a mean of 8 px, or as the raw camera saw it, fused as
  it is and after registration; inner part, without a tenth of each side.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from benchmarks import data
from benchmarks.registration import displaced
from torch import Tensor

import umfuse
from umfuse import metrics
from umfuse.pipeline import Umfuse
from umfuse.train.losses import saliency_weight

METRICS = (metrics.cc, metrics.ssim, metrics.vif, metrics.qabf)
Fuse = Callable[[Tensor, Tensor], Tensor]


def average(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the plain mean."""
    return (infrared + visible) / 2


def saliency_mean(infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the mean that the paper's saliency loss has for its target."""
    return torch.lerp(visible, infrared, saliency_weight(infrared, visible))


def ours(model: Umfuse, *, registration: bool = False) -> Fuse:
    """Returns umfuse on tensors."""

    def fuse(infrared: Tensor, visible: Tensor) -> Tensor:
        result = umfuse.fuse(infrared, visible, registration=registration, weights=model).image
        assert isinstance(result, Tensor)
        return result

    return fuse


def scores(fused: Tensor, infrared: Tensor, visible: Tensor) -> Tensor:
    """Returns the four metrics."""
    return torch.stack([metric(fused, infrared, visible)[0] for metric in METRICS])


def inner(image: Tensor) -> Tensor:
    """Cuts a tenth off each side."""
    y, x = image.shape[-2] // 10, image.shape[-1] // 10
    return image[..., y : image.shape[-2] - y, x : image.shape[-1] - x]


def aligned(model: Umfuse, limit: int | None) -> Iterator[tuple[object, ...]]:
    """Yields a line for every set of aligned pairs and method."""
    methods: dict[str, Fuse] = {
        "average": average,
        "saliency mean": saliency_mean,
        "maximum": torch.maximum,
        "umfuse": ours(model),
    }
    for where in ("test/tno", "test/roadscene", "test/msrs_gray"):
        found: dict[str, list[Tensor]] = {name: [] for name in methods}
        for pair in data.progress(where, data.pairs(where), limit):
            infrared, visible = pair.infrared.luma, pair.visible.luma
            for name, method in methods.items():
                found[name].append(scores(method(infrared, visible), infrared, visible))
        yield from lines(where, found)


def misaligned(model: Umfuse, limit: int | None) -> Iterator[tuple[object, ...]]:
    """Yields lines for pairs that are not aligned, with and without registration."""
    methods = {"as it is": ours(model), "registered": ours(model, registration=True)}
    for where in ("test/tno", "test/roadscene"):
        found: dict[str, list[Tensor]] = {"umfuse, aligned": [], **{name: [] for name in methods}}
        for pair in data.progress(f"{where} 8 px", data.pairs(where), limit):
            infrared, visible = pair.infrared.luma, pair.visible.luma
            moved = displaced(infrared, pair.name, 8.0)[0]
            results = {"umfuse, aligned": ours(model)(infrared, visible)}
            results |= {name: method(moved, visible) for name, method in methods.items()}
            for name, fused in results.items():
                found[name].append(scores(inner(fused), inner(infrared), inner(visible)))
        yield from lines(f"{where} 8 px", found)
    where = "test/roadscene"
    found = {"umfuse, aligned": [], **{name: [] for name in methods}}
    both = zip(data.pairs(where), data.pairs(where, infrared="ir_raw"), strict=True)
    for pair, raw in data.progress(f"{where} raw", both, limit):
        infrared, visible = pair.infrared.luma, pair.visible.luma
        results = {"umfuse, aligned": ours(model)(infrared, visible)}
        results |= {name: method(raw.infrared.luma, visible) for name, method in methods.items()}
        for name, fused in results.items():
            found[name].append(scores(inner(fused), inner(infrared), inner(visible)))
    yield from lines(f"{where} raw", found)


def lines(where: str, found: dict[str, list[Tensor]]) -> Iterator[tuple[object, ...]]:
    """Yields the mean scores of every method."""
    for i, (name, values) in enumerate(found.items()):
        means = torch.stack(values).mean(0).tolist()
        yield ("" if i else f"{where} ({len(values)})", name, *means)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="as in umfuse.load; by default the embedded ones")
    parser.add_argument("--limit", type=int, help="pairs a set, for a quick look")
    parser.add_argument("--aligned", action="store_true", help="aligned pairs alone")
    arguments = parser.parse_args()
    model = umfuse.load(arguments.weights, device="cpu")
    head = ("set (pairs)", "method", "CC", "SSIM, mean", "VIF, sum", "Qabf")
    print(data.table(head, aligned(model, arguments.limit)))
    if not arguments.aligned:
        print()
        print(data.table(head, misaligned(model, arguments.limit)))


if __name__ == "__main__":
    main()

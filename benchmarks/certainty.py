"""What the certainty of an alignment is worth, pixel by pixel: `python -m benchmarks.certainty`.

Test pairs of known truth are registered, and the error of pixels, 64 along the longer side, stands
beside `umfuse.Registration.certainty`. Errors are in pixels of a visible image whose part that both
cameras see is 640 pixels long; "right" is within 5 of them, 1/128, as in the confidence.

- as found: what umfuse finds.
- bent: the same, bent by a smooth random field of 10 such pixels in each direction, which is what
  an alignment looks like that is right in some places and wrong in others.

Pairs whose confidence is below 0.3 are left out, all of their alignment is resizing, and so is TNO,
whose own alignment is further off than what is to be told apart (`benchmarks.floor`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from benchmarks import data, registration
from torch import Tensor

import umfuse
from umfuse import Registration, geometry
from umfuse.evaluate.dataset import read_homographies
from umfuse.pipeline import Umfuse

CASES = ("large-roadscene", "published-superfusion_msrs", "raw-test")
LONG, RIGHT = 640, 5.0  # pixels
BENT = 10.0  # pixels of that size
KNOTS = (5, 5)  # of the field that bends
SAMPLES = 64  # along the longer side
CLASSES = (0.0, 0.1, 0.5, 0.9, 1.0)


@dataclass
class Seen:
    """Certainty and error of the pixels of some pairs."""

    pairs: int = 0
    certainty: list[Tensor] = field(default_factory=list)
    error: list[Tensor] = field(default_factory=list)

    def add(self, found: Registration, truth: Tensor) -> None:
        """Takes the pixels of a pair whose true coordinates ``(1, 2, H, W)`` are known."""
        size = found.visible_size
        step = max(1, max(size) // SAMPLES)
        valid = torch.from_numpy(found.valid_mask)
        sides = [int(valid.any(axis).sum()) for axis in (0, 1)]
        # What is found and what is true, back in the visible image by one and the same way.
        back = torch.from_numpy(found.transform).inverse()
        first, second = (geometry.project(back, where) for where in (found.tensor(), truth))
        error = (first - second).square().sum(1)[0].sqrt() * (LONG / max(sides))
        valid &= geometry.inside(truth, found.infrared_size)[0, 0]
        certainty = torch.from_numpy(found.certainty)
        every = slice(step // 2, None, step)
        kept = valid[every, every]
        self.pairs += 1
        self.certainty.append(certainty[every, every][kept])
        self.error.append(error[every, every][kept])

    def pixels(self) -> tuple[Tensor, Tensor]:
        """Returns the certainty and the error of all pixels, ``(N,)`` each."""
        return torch.cat(self.certainty), torch.cat(self.error)


def bent(found: Registration, seed: int) -> Registration:
    """Returns a registration that is bent by a smooth random field."""
    draws = torch.Generator().manual_seed(seed)
    knots = torch.randn(1, 2, *KNOTS, generator=draws)
    size = (64, 64)
    bend = F.interpolate(knots, size, mode="bicubic", align_corners=True)
    own = torch.from_numpy(found.field).movedim(-1, 0)[None]
    own = F.interpolate(own, size, mode="bilinear")
    mask = torch.from_numpy(found.valid_mask)
    unit = max(int(mask.any(axis).sum()) for axis in (0, 1)) / LONG
    return replace(found, field=(own + BENT * unit * bend)[0].movedim(0, -1).contiguous().numpy())


def ranks(values: Tensor) -> Tensor:
    """Returns the ranks of values ``(N,)``; equal values share the mean of theirs."""
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[place]


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Returns Spearman's rank correlation of values ``(N,)``."""
    return float(torch.corrcoef(torch.stack((ranks(first), ranks(second))))[0, 1])


def samples(case: str) -> Iterator[registration.Sample]:
    """Yields the pairs of a case, with their true coordinates."""
    truths: dict[str, Tensor] = {}
    sizes: dict[str, tuple[int, int]] = {}
    if case == "raw-test":
        folder = Path("test") / "roadscene"
        truths = read_homographies(data.root() / folder / "homography.json")
        sizes = {pair.name: pair.visible.size for pair in data.pairs(folder)}
    for sample in registration.cases()[case]():
        if sample.name not in truths:
            yield sample
            continue
        size = (sample.visible.shape[-2], sample.visible.shape[-1])
        transform = geometry.resize_transform(size, sizes[sample.name])
        right = geometry.project_grid(truths[sample.name] @ transform, size)
        yield replace(sample, truth=right)


def measure(model: Umfuse, pairs: Iterable[registration.Sample]) -> dict[str, Seen]:
    """Returns the pixels of pairs as found and bent."""
    seen = {"as found": Seen(), "bent": Seen()}
    for number, sample in enumerate(pairs):
        if sample.truth is None:
            raise ValueError(f"{sample.name} has no known displacement")
        visible = sample.visible[0].movedim(0, -1).numpy()
        infrared = sample.infrared[0, 0].numpy()
        found = umfuse.register(infrared, visible, weights=model, on_failure="return")
        if found.method != "resize":
            seen["as found"].add(found, sample.truth)
            seen["bent"].add(bent(found, number), sample.truth)
    return seen


def tenths(seen: Seen) -> list[float]:
    """Returns the median error of the least certain tenth of pixels, and so on."""
    certainty, error = seen.pixels()
    order = certainty.argsort(stable=True)
    return [float(error[some].median()) for some in order.tensor_split(10)]


def classes(seen: Seen) -> Iterator[str]:
    """Yields how many pixels have a certainty between two numbers, and how many are right."""
    certainty, error = seen.pixels()
    for low, high in pairwise(CLASSES):
        some = (certainty >= low) & ((certainty < high) | (high == CLASSES[-1]))
        right = float((error[some] <= RIGHT).float().mean()) if some.any() else float("nan")
        yield f"{float(some.float().mean()):.0%}"
        yield f"{right:.0%}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="as in umfuse.load; by default the embedded ones")
    parser.add_argument("--limit", type=int, help="pairs a case, for a quick look")
    parser.add_argument("--only", default="", help="cases that hold this text, such as raw")
    data.page_option(parser)
    arguments = parser.parse_args()
    data.root()
    model = umfuse.load(arguments.weights, device="cpu")
    found: dict[str, Seen] = {}
    for case in CASES:
        if arguments.only in case:
            some = data.progress(case, samples(case), arguments.limit)
            every = measure(model, some)
            found |= {f"{case}, {name}": seen for name, seen in every.items() if seen.pairs}
    named = [f"{n}th" for n in range(4, 10)]
    head = (
        "case",
        "pairs",
        "rank correlation",
        "least certain tenth",
        "2nd",
        "3rd",
        *named,
        "most",
    )
    rows = [
        (name, seen.pairs, rank_correlation(*seen.pixels()), *tenths(seen))
        for name, seen in found.items()
    ]
    data.report(arguments, "certainty", head, rows)
    spans = list(pairwise(CLASSES))
    head = ("case", *(text for a, b in spans for text in (f"{a:g} to {b:g}", "right")))
    rows = [(name, *classes(seen)) for name, seen in found.items()]
    data.report(arguments, "certainty-right", head, rows)


if __name__ == "__main__":
    main()

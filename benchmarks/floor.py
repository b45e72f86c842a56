"""What of the error is the data's: `python -m benchmarks.floor`.

The infrared image of a published pair is not exactly where its visible image is, and a displacement
that is put on top of that is found together with it: end-point errors cannot fall far below what is
wrong already. For each deformed case, medians in pixels of the image:

- error: to the known displacement, as `benchmarks.registration` has it.
- as published: how far the method moves the same pairs without the displacement.
- own: how far its answers on the two differ from the known displacement. What is wrong with the
  data is in both answers and drops out; what it says of a method is how well it repeats itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

import torch
from benchmarks import data, registration

import umfuse
from umfuse import geometry, metrics
from umfuse.pipeline import Umfuse


def rows(model: Umfuse, samples: Iterable[registration.Sample]) -> Iterator[tuple[float, ...]]:
    """Yields error, movement as published and own error of every pair."""
    for sample in samples:
        truth, reference = sample.truth, sample.reference
        if truth is None or reference is None:
            raise ValueError(f"{sample.name} has no known displacement")
        size = (truth.shape[-2], truth.shape[-1])
        found, published = (
            model.register(infrared, sample.visible)[0].coordinates(size)
            for infrared in (sample.infrared, reference)
        )
        moved = metrics.end_point_error(published, geometry.identity_grid(*size))
        expected, inside = geometry.sample(truth, published)
        own = metrics.end_point_error(found, expected, inside & geometry.inside(found, size))
        yield sample.error(found), float(moved), float(own)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="as in umfuse.load; by default the embedded ones")
    parser.add_argument("--limit", type=int, help="pairs a case, for a quick look")
    parser.add_argument("--only", default="", help="cases that hold this text, such as large")
    data.page_option(parser)
    arguments = parser.parse_args()
    data.root()
    model = umfuse.load(arguments.weights, device="cpu")

    def table() -> Iterator[tuple[object, ...]]:
        for case, samples in registration.cases().items():
            if case.startswith(("paper", "large")) and arguments.only in case:
                some = data.progress(case, samples(), arguments.limit)
                yield case, *torch.tensor(list(rows(model, some))).median(0).values.tolist()

    head = ("case", "error, px", "as published", "own")
    data.report(arguments, "floor", head, list(table()))


if __name__ == "__main__":
    main()

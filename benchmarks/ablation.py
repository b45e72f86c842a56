"""What each part is good for: `python -m benchmarks.ablation`, after `python -m benchmarks.train`.

The paper's Fig. 5 and Fig. 6, and the terms of every loss. The rows of its Table 4 (DIFN alone,
after MRRN, after MRRN with CPSTN) are among those of `benchmarks.fusion`.

- ``fixed-image``: what networks that register infrared on infrared do if the fixed image is the
  luma, the pseudo-infrared image, or the infrared image itself: how far CPSTN makes one modality of
  two. Protocol ``paper`` at 256x256, median end-point error in pixels.
- ``likeness``: what MRRN does, trained across modalities, if the fixed image is a mean of the
  infrared image itself and the pseudo-infrared one, by the weight of the second.
- ``interaction`` and ``difn-loss``: DIFN with another interaction module, and without one term of
  its loss, on aligned pairs.
- ``mrrn-loss``: MRRN's training without one of its terms, protocol ``paper``.
- ``cpstn-loss``: how well the pseudo-infrared image resembles the infrared one (NCC, SSIM), and how
  well its edges agree with those of both sources, in [-1, 1] (mean cosine of the orientation
  features of `umfuse.search`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from benchmarks import data, fusion, methods, registration, train

import umfuse
from umfuse import metrics, search
from umfuse.pipeline import Umfuse, luma

Row = tuple[object, ...]
Render = Callable[[torch.Tensor], torch.Tensor]
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)  # of the pseudo-infrared image


def fixed_images(model: Umfuse, limit: int | None) -> Iterator[Row]:
    """Yields a line for every case and network trained in one modality."""

    def renders(sample: registration.Sample) -> list[Render]:
        return [luma, model.cpstn, partial(_itself, sample.reference)]

    networks = dict(train.trained("single-modality/"))
    yield from _by_fixed_image(
        {name: (network, renders) for name, network in networks.items()}, limit
    )


def likenesses(model: Umfuse, limit: int | None) -> Iterator[Row]:
    """Yields a line for every case and MRRN that was trained with CPSTN across modalities."""

    def renders(cpstn: torch.nn.Module, sample: registration.Sample) -> list[Render]:
        with torch.inference_mode():
            pseudo = cpstn(sample.visible.expand(-1, 3, -1, -1)).float()
        means = (torch.lerp(sample.reference, pseudo, weight) for weight in WEIGHTS)
        return [partial(_itself, fixed) for fixed in means]

    networks = {"paper's system": (methods.paper().mrrn, partial(renders, methods.paper().cpstn))}
    trained = dict(train.trained("registration/"))
    if (name := "MRRN + CPSTN") in trained:
        networks[name] = (trained[name], partial(renders, model.cpstn))
    yield from _by_fixed_image(networks, limit)


def _by_fixed_image(
    networks: dict[str, tuple[torch.nn.Module, Callable[[registration.Sample], list[Render]]]],
    limit: int | None,
) -> Iterator[Row]:
    """Yields of every case and network the median error of the input and by each fixed image."""
    for case in ("paper-roadscene-256", "paper-tno-256"):
        for i, (name, (network, renders)) in enumerate(networks.items()):
            errors: list[list[float]] = []
            for sample in data.progress(f"{case} {name}", registration.cases()[case](), limit):
                aligners = [methods.by_transform(methods.plain)]
                aligners += [methods.by_network(network, one) for one in renders(sample)]
                found = [align(sample.infrared, sample.visible) for align in aligners]
                errors.append([sample.error(coordinates) for coordinates in found])
            medians = torch.tensor(errors).median(0).values.tolist()
            yield "" if i else case, name, *medians


def _itself(reference: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Takes the place of a CPSTN that knows the answer, or a part of it."""
    del visible
    return reference


def fusions(model: Umfuse, variants: dict[str, str], limit: int | None) -> Iterator[Row]:
    """Yields a line for every set and trained variant of DIFN."""
    networks = dict(train.trained("difn/"))
    for name in fusion.SETS:
        fusers: dict[str, methods.Fuse] = {}
        for variant, label in variants.items():
            if variant in networks:
                other = Umfuse(model.config).eval()
                other.difn = networks[variant]
                fusers[label] = methods.difn(other)
        pairs = data.progress(name, data.pairs(f"test/{name}"), limit)
        table, sky = fusion.of_aligned(pairs, fusers, {})
        ranks = fusion.mean_ranks(table)
        for i, (label, values) in enumerate(table.items()):
            yield "" if i else name, label, *values.tolist(), ranks[label], sky[label]


def registrations(limit: int | None) -> Iterator[Row]:
    """Yields a line for every case and training of MRRN."""
    render = umfuse.load(device="cpu", cpstn=True).cpstn
    aligners = {"misaligned input": methods.by_transform(methods.plain)}
    for name, network in train.trained("mrrn/"):
        aligners[name] = methods.by_network(network, render)
    for case in ("paper-roadscene-256", "paper-tno-256"):
        samples = data.progress(case, registration.cases()[case](), limit)
        found = registration.measure(samples, aligners, {})
        for i, row in enumerate(registration.rows("", found)):
            yield "" if i else case, *row


def renderings(limit: int | None) -> Iterator[Row]:
    """Yields a line for every training of CPSTN, on the test pairs of RoadScene."""
    networks = {"visible luma": luma, **dict(train.trained("cpstn/"))}
    found: dict[str, list[torch.Tensor]] = {name: [] for name in networks}
    for pair in data.progress("cpstn", data.pairs("test/roadscene"), limit):
        infrared, visible = pair.infrared.luma, pair.visible.rgb
        edges = [search.orientation(one, 1.5) for one in (infrared, luma(visible))]
        for name, network in networks.items():
            with torch.inference_mode():
                rendered = network(visible).float()
            ours = search.orientation(rendered, 1.5)
            values = [
                metrics.ncc(rendered, infrared)[0],
                metrics.ssim(rendered, infrared, infrared)[0],
                *(torch.cosine_similarity(ours, one).mean().double() for one in edges),
            ]
            found[name].append(torch.stack(values))
    for name, values in found.items():
        yield name, *torch.stack(values).mean(0).tolist()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, help="pairs a set, for a quick look")
    parser.add_argument("--only", default="", help="tables that hold this text, such as loss")
    data.page_option(parser)
    arguments = parser.parse_args()
    data.root()
    model, limit = umfuse.load(device="cpu", cpstn=True), arguments.limit
    interactions = {
        "all": "interaction of the authors' code",
        "equation": "interaction of Eq. 5-7",
        "concatenation": "concatenation",
    }
    losses = {"all": "all terms"} | {f"no {t}": f"without {t}" for t in train.DIFN_TERMS}
    fused = ("set", "DIFN", *fusion.FULL, "mean rank", "sky")
    edges = ("training", "NCC with infrared", "SSIM", "edges as infrared", "edges as visible")
    images = ("case", "network", "input", "luma", "pseudo-infrared", "infrared itself")
    tables = {
        "fixed-image": (images, fixed_images(model, limit)),
        "likeness": (("case", "network", "input", *map(str, WEIGHTS)), likenesses(model, limit)),
        "interaction": (fused, fusions(model, interactions, limit)),
        "difn-loss": (fused, fusions(model, losses, limit)),
        "mrrn-loss": (("case", *registration.head("")), registrations(limit)),
        "cpstn-loss": (edges, renderings(limit)),
    }
    for name, (head, rows) in tables.items():
        if arguments.only in name:
            print(name)
            data.report(arguments, name, head, rows)


if __name__ == "__main__":
    main()

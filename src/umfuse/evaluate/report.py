"""What was measured: means with their intervals, as a table, CSV, JSON and pictures."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from umfuse import images

LEVEL, RESAMPLES, SEED = 0.95, 2000, 0

Scores = dict[str, float]
"""Values of one image by the head of their metric."""


@dataclass(frozen=True)
class Metric:
    """How a column of figures is read.

    Attributes:
        definition: What is computed.
        better: Which values are better, "lower" or "higher".
        pixels: Whether it is a distance in pixels: its median says more than its mean.
    """

    definition: str
    better: str
    pixels: bool = False


class Summary:
    """Statistics over images, each by the head of its metric.

    Args:
        images: At least one, all with the same heads.
    """

    def __init__(self, images: list[Scores]) -> None:
        self.heads = list(images[0])
        self._values = np.array([[image[head] for head in self.heads] for image in images])

    @cached_property
    def mean(self) -> Scores:
        """Means."""
        return self._by_head(self._values.mean(0))

    @cached_property
    def median(self) -> Scores:
        """Medians."""
        return self._by_head(np.median(self._values, 0))

    @cached_property
    def interval(self) -> dict[str, tuple[float, float]]:
        """Intervals that hold the mean with a confidence of 95 %.

        Percentiles of the means of 2000 samples of as many images, drawn with replacement from a
        fixed seed (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
        """
        generator = np.random.default_rng(SEED)
        count = len(self._values)
        means = np.stack(
            [self._values[generator.integers(count, size=count)].mean(0) for _ in range(RESAMPLES)]
        )
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        both = zip(low.tolist(), high.tolist(), strict=True)
        return dict(zip(self.heads, both, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Returns what JSON can hold."""
        return {"mean": self.mean, "interval": self.interval, "median": self.median}

    def _by_head(self, values: np.ndarray[Any, Any]) -> Scores:
        return dict(zip(self.heads, values.tolist(), strict=True))


@dataclass(frozen=True)
class Report:
    """The scores of a data set.

    Attributes:
        arguments: What was asked for.
        metrics: The figures by their head, in order.
        images: Per image its scores: those of the ``"result"`` and, for a registration, those of
            the misaligned ``"input"``, where there is one.
        problems: A line for each image that is not among them.
        rank_by: Head of the figure that ranks the images.
        draw: Makes a picture of an image from its name and a caption.
    """

    arguments: dict[str, Any]
    metrics: Mapping[str, Metric]
    images: Mapping[str, Mapping[str, Scores]]
    problems: list[str]
    rank_by: str
    draw: Callable[[str, str], Image.Image] = field(repr=False)

    @cached_property
    def summaries(self) -> dict[str, Summary]:
        """The statistics of the ``"result"`` and, where there is one, of the ``"input"``."""
        labels = next(iter(self.images.values()))
        return {
            label: Summary([image[label] for image in self.images.values()]) for label in labels
        }

    @property
    def mean(self) -> Scores:
        """Means of the result."""
        return self.summaries["result"].mean

    @property
    def median(self) -> Scores:
        """Medians of the result."""
        return self.summaries["result"].median

    @property
    def interval(self) -> dict[str, tuple[float, float]]:
        """Intervals of the means of the result, see `Summary.interval`."""
        return self.summaries["result"].interval

    def ranking(self) -> list[str]:
        """Returns the names of the images, the best first."""
        sign = 1 if self.metrics[self.rank_by].better == "lower" else -1
        return sorted(
            self.images, key=lambda name: sign * self.images[name]["result"][self.rank_by]
        )

    def table(self) -> str:
        """Returns means and intervals, and medians of distances, as a table in Markdown."""
        task, count = self.arguments["task"], len(self.images)
        head = [f"{task}, {count} {'pair' if count == 1 else 'pairs'}", "better", *self.summaries]
        rows = [head, ["---"] * len(head)]
        for name, metric in self.metrics.items():
            cells = [_cell(name, metric, summary) for summary in self.summaries.values()]
            rows.append([name, metric.better, *cells])
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = (
            " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )
        return "\n".join(f"| {line} |" for line in lines)

    def to_csv(self) -> str:
        """Returns the scores as CSV, a line an image; those of the input have it in their head."""
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        labels = sorted(self.summaries, key="result".__ne__)  # the result first
        heads = [(label, head) for label in labels for head in self.summaries[label].heads]
        writer.writerow(
            ["name", *(head if label == "result" else f"{label}: {head}" for label, head in heads)]
        )
        for name, image in self.images.items():
            writer.writerow([name, *(repr(image[label][head]) for label, head in heads)])
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Returns all that there is to say as what JSON can hold."""
        return {
            "umfuse": importlib.metadata.version("umfuse"),
            "arguments": self.arguments,
            "metrics": {
                head: {"better": metric.better, "definition": metric.definition}
                for head, metric in self.metrics.items()
            },
            "interval": {
                "method": "percentile bootstrap of the mean over images",
                "level": LEVEL,
                "resamples": RESAMPLES,
                "seed": SEED,
            },
            "pairs": len(self.images),
            **{label: summary.to_dict() for label, summary in self.summaries.items()},
            "problems": self.problems,
            "images": {name: dict(image) for name, image in self.images.items()},
        }

    def save(self, folder: str | os.PathLike[str], *, sheets: int = 0) -> list[Path]:
        """Writes ``scores.csv``, ``report.json`` and pictures of the best and the worst images.

        Args:
            folder: Made if it does not exist.
            sheets: How many pictures of either, ``sheets/best-1-NAME.png`` and so on. They are
                made now: the images are read, and registered or fused, again.

        Returns:
            The paths.

        Raises:
            OSError: If something cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        scores, report = folder / "scores.csv", folder / "report.json"
        scores.write_text(self.to_csv(), encoding="utf-8", newline="")
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        report.write_text(text + "\n", encoding="utf-8")
        written = [scores, report]
        if sheets:
            (folder / "sheets").mkdir(exist_ok=True)
            ranking = self.ranking()
            for label, names in (("best", ranking), ("worst", ranking[::-1])):
                for place, name in enumerate(names[:sheets], 1):
                    written.append(folder / "sheets" / f"{label}-{place}-{name}.png")
                    score = self.images[name]["result"][self.rank_by]
                    images.save(self.draw(name, f"{self.rank_by} {score:.4g}"), written[-1])
        return written


def _cell(head: str, metric: Metric, summary: Summary) -> str:
    if head not in summary.mean:
        return ""
    low, high = summary.interval[head]
    text = f"{summary.mean[head]:.4g} [{low:.4g}, {high:.4g}]"
    return f"{text}, median {summary.median[head]:.4g}" if metric.pixels else text

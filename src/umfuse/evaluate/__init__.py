"""Scores of a data set: of anybody's images in a folder, or of weights.

::

    from umfuse.evaluate import evaluate

    report = evaluate("results/mine", "data/test/tno")
    print(report.table())
    report.save("scores/mine", sheets=4)

`umfuse.evaluate.dataset` says how a data set lies on disk. Fused images are compared with ``vis``
and with ``ir``, the infrared image where it belongs, also if the method was given a misaligned one:
with that as its reference every misaligned result would look well.

Pairs are read, measured and forgotten one by one, so memory does not grow with their number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast

from huggingface_hub.utils import tqdm

from umfuse import api, pairing, weights
from umfuse.evaluate.fusion import FusionScorer
from umfuse.evaluate.registration import RegistrationScorer, truth_of
from umfuse.evaluate.report import Metric, Report, Scores, Summary
from umfuse.evaluate.scorer import Files, Ranges, Scorer
from umfuse.images import Range
from umfuse.pipeline import Umfuse

__all__ = ["EvaluationError", "Metric", "Report", "Summary", "evaluate"]


class EvaluationError(ValueError):
    """A request that cannot be met: a wrong argument, a missing folder, or no pair to measure."""


def evaluate(
    source: str | os.PathLike[str] | Umfuse,
    dataset: str | os.PathLike[str],
    *,
    task: Literal["fusion", "registration"] = "fusion",
    input: str | None = None,
    visible: str = "vis",
    align: bool | None = None,
    ir_range: Range | None = None,
    vis_range: Range | None = None,
    device: api.Device | None = None,
    rank_by: str | None = None,
) -> Report:
    """Measures fused or registered images of a data set.

    A pair that lacks an image, cannot be read or has images of different size becomes a line of
    `Report.problems` and does not count.

    Args:
        source: A folder of results, named as the pairs are, or weights as in `umfuse.load`: a
            folder that holds ``model.safetensors``, or a training run, is one of weights.
        dataset: The folder of the data set.
        task: ``"fusion"`` measures all of `umfuse.metrics.FUSION`. ``"registration"`` measures
            those of `umfuse.metrics.REGISTRATION` against ``ir``, over the whole image and without
            8 pixels on each side; and of weights the distance to the truth where the data set has
            it: of ``ir_warp`` the end-point error, of ``ir_raw`` that on a grid of 9 x 9 points.
        input: Folder in the data set with the infrared images that weights are given; by default
            ``ir`` for fusion and ``ir_warp`` for registration. A registration is measured beside
            its input, that of results too if the folder exists.
        visible: Folder in the data set with the visible images. For fusion they have the size of
            ``ir``; a registration may use others, such as ``vis_hr``.
        align: Whether weights align a pair before they fuse it; by default if the input is
            another folder than ``ir``.
        ir_range: As in `umfuse.fuse`.
        vis_range: As in `umfuse.fuse`.
        device: Of weights, as in `umfuse.load`.
        rank_by: Head of the figure that `Report.ranking` sorts by; by default VIF for fusion, and
            for registration the distance to the truth or else NCC.

    Raises:
        EvaluationError: If an argument does not apply, a folder is missing or no pair can be
            measured.
        ValueError: If the homographies of the data set are damaged or there is no such device.
        OSError: If a folder cannot be listed or weights cannot be loaded.
    """
    root, ranges = Path(dataset), Ranges(ir_range, vis_range)
    if not root.is_dir():
        raise EvaluationError(f"the data set {root} is no folder")
    model, results = _source(source, device)
    folders = {"ir": root / "ir", "vis": root / visible}
    if results is not None:
        folders["result"] = results
    measure: Scorer
    if task == "fusion":
        if model is None and (input is not None or align is not None):
            raise EvaluationError("input and align are for weights, not for a folder of results")
        if model is not None:
            folders["input"] = root / (input or "ir")
        aligned = input not in (None, "ir") if align is None else align
        measure = FusionScorer(model, align=aligned, ranges=ranges)
    elif task == "registration":
        if align is not None:
            raise EvaluationError("align is for fusion: whether to align a pair before")
        moving = input or "ir_warp"
        if model is not None or input is not None or (root / moving).is_dir():
            folders["input"] = root / moving
        measure = RegistrationScorer(model, truth_of(root, moving), ranges=ranges)
    else:
        raise EvaluationError(f"expected task to be 'fusion' or 'registration', got {task!r}")
    if rank_by is not None and rank_by not in measure.metrics:
        raise EvaluationError(
            f"cannot rank by {rank_by!r}: expected one of {', '.join(measure.metrics)}"
        )
    for folder in folders.values():
        if not folder.is_dir():
            raise EvaluationError(f"the folder {folder} does not exist")

    pairs, problems = pairing.stems(folders)
    scores = dict[str, dict[str, Scores]]()
    bar = tqdm(pairs.items(), disable=len(pairs) < 2, unit="pair", name="umfuse.evaluate")
    for name, files in cast("Iterable[tuple[str, Files]]", bar):
        try:
            scores[name] = measure.score(name, files)
        except (OSError, TypeError, ValueError) as error:
            problems.append(f"{name}: {error}")
    if not scores:
        lines = "".join(f"\n  {line}" for line in problems)
        raise EvaluationError(f"no pair of {root} could be measured{lines}")
    return Report(
        arguments={
            "source": "a model" if isinstance(source, Umfuse) else os.fspath(source),
            "dataset": os.fspath(dataset),
            "task": task,
            "folders": {key: os.fspath(folder) for key, folder in folders.items()},
            "align": measure.align if isinstance(measure, FusionScorer) and model else None,
            "ir_range": ir_range,
            "vis_range": vis_range,
        },
        metrics=measure.metrics,
        images=scores,
        problems=problems,
        rank_by=rank_by or measure.rank_by,
        draw=lambda name, caption: measure.draw(name, pairs[name], caption),
    )


def _source(
    source: str | os.PathLike[str] | Umfuse, device: api.Device | None
) -> tuple[Umfuse | None, Path | None]:
    """Returns a model or a folder of results."""
    if isinstance(source, Umfuse):
        return source, None
    folder = Path(source)
    if folder.is_dir() and not weights.holds_weights(folder):
        return None, folder
    return api.load(source, device=device), None

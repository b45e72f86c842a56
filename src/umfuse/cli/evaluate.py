"""`umfuse evaluate`: score anybody's results, or weights, on a data set."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from umfuse.cli.common import Commands, Options, UsageError


def add_commands(commands: Commands, shared: Options) -> None:
    """Adds the parser of this command."""
    evaluate = commands.add_parser(
        "evaluate",
        parents=[shared.device, shared.ranges],
        help="score a folder of results, or weights, on a data set",
        description="Compares results with DATASET/ir and DATASET/vis, aligned pairs of one size. "
        "Prints means with their 95 % bootstrap interval.",
    )
    evaluate.add_argument(
        "source",
        metavar="SOURCE",
        help="folder of fused or registered images, or weights: name, folder or Hub repository",
    )
    evaluate.add_argument("dataset", metavar="DATASET", help="folder with ir and vis")
    evaluate.add_argument(
        "--task", choices=("fusion", "registration"), default="fusion", help="default: fusion"
    )
    evaluate.add_argument(
        "--input",
        metavar="FOLDER",
        help="folder in DATASET with the infrared images that weights are given; default: ir for "
        "fusion, ir_warp for registration",
    )
    evaluate.add_argument(
        "--visible", metavar="FOLDER", default="vis", help="folder in DATASET; default: vis"
    )
    evaluate.add_argument(
        "--align",
        action=argparse.BooleanOptionalAction,
        help="whether weights align before they fuse; default: unless the input is ir",
    )
    evaluate.add_argument(
        "-o", "--output", type=Path, help="folder for scores.csv, report.json and sheets"
    )
    evaluate.add_argument(
        "--sheets", type=int, default=0, metavar="N", help="pictures of the best and worst N pairs"
    )
    evaluate.add_argument(
        "--rank-by",
        metavar="METRIC",
        help="what is best and worst; default: VIF, or the distance to the truth, or NCC",
    )
    evaluate.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    if options.sheets < 0:
        raise UsageError(f"--sheets must not be negative, got {options.sheets}")
    if options.sheets and options.output is None:
        raise UsageError("--sheets needs a folder to write to: give -o")

    from umfuse.evaluate import EvaluationError, evaluate

    try:
        report = evaluate(
            options.source,
            options.dataset,
            task=options.task,
            input=options.input,
            visible=options.visible,
            align=options.align,
            ir_range=options.ir_range,
            vis_range=options.vis_range,
            device=options.device,
            rank_by=options.rank_by,
        )
    except EvaluationError as error:
        raise UsageError(str(error)) from error
    print(report.table())
    if options.output is not None:
        for path in report.save(options.output, sheets=options.sheets):
            print(path, file=sys.stderr)
    for problem in report.problems:
        print(f"umfuse: {problem}", file=sys.stderr)
    if report.problems:
        print(f"umfuse: {len(report.images)} pairs count, not those above", file=sys.stderr)
    return int(bool(report.problems))

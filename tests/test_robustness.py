"""The cases of `benchmarks.robustness` are what they say, and its measures add up."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import cases, robustness

import umfuse
from umfuse import filters, geometry
from umfuse.search import Known

ROOT = Path(__file__).parents[1]
UNCHANGED = {"identical images", "edge overlay", "constant infrared", "wrong pair"}


@pytest.fixture(scope="module")
def pair() -> cases.Pair:
    """A pair whose visible image is exactly what the truth makes of the infrared one."""
    noise = torch.rand(1, 1, 480, 640, generator=torch.Generator().manual_seed(0))
    infrared = filters.blur(noise, 6.0)
    infrared = (infrared - infrared.min()) / (infrared.max() - infrared.min())
    size = (300, 420)
    turned = geometry.similarity_transform((209.5, 149.5), (330, 230), (1.25, 1.3), 1.5)
    visible = geometry.interpolate(infrared, geometry.project_grid(turned, size))
    return cases.Pair(infrared, visible.expand(-1, 3, -1, -1), turned)


@pytest.mark.parametrize("case", [name for name in cases.CASES if name not in UNCHANGED])
def test_the_truth_of_a_case_restores_the_aligned_infrared_image(pair, case):
    if cases.CASES[case].aligned:
        start = replace(
            pair,
            infrared=filters.luma(pair.visible),
            transform=torch.eye(3, dtype=torch.float64),
        )
    else:
        start = pair
    if case.startswith(("80", "32")):  # few pixels keep only what is smooth
        start = _smooth(start)
    made = cases.CASES[case].change(start, np.random.default_rng(1))
    restored, _ = geometry.sample(made.infrared, made.truth)
    seen = made.seen(made.truth)
    gap = (restored - filters.luma(made.visible)).abs()[seen]
    assert float(seen.float().mean()) > 0.04
    assert float(gap.mean()) < 0.01
    # One pixel off is seen.
    moved, _ = geometry.sample(made.infrared, made.truth + 1.0)
    assert float((moved - filters.luma(made.visible)).abs()[seen].mean()) > 2 * float(gap.mean())


def test_what_is_known_of_a_case_is_true_of_its_pairs(pair):
    known_cases = {name: case for name, case in cases.CASES.items() if case.known is not None}
    assert len(known_cases) > 3
    gaps, ratios = dict[str, float](), dict[str, float]()
    for name, case in known_cases.items():
        made = case.change(pair, np.random.default_rng(1))
        known = Known(**case.known(made))
        said = known.transform(made.visible_size, made.infrared_size)
        linear, expected = (one[:2, :2] for one in (made.transform, said))
        assert math.copysign(1, linear.det()) == math.copysign(1, expected.det()), name
        if not known.mirror:
            angles = [math.atan2(one[1, 0] - one[0, 1], one.trace()) for one in (linear, expected)]
            gaps[name] = abs((math.degrees(angles[0] - angles[1]) + 180) % 360 - 180)
        if known.fov is not None:
            ratios[name] = math.sqrt(linear.det() / expected.det())
    assert max(gaps.values()) < 3
    assert 1 / 1.15 < min(ratios.values()) <= max(ratios.values()) < 1.15


def _smooth(pair: cases.Pair) -> cases.Pair:
    infrared = filters.blur(pair.infrared, 30.0)
    infrared = (infrared - infrared.min()) / (infrared.max() - infrared.min())
    visible = geometry.interpolate(
        infrared, geometry.project_grid(pair.transform, pair.visible_size)
    )
    return replace(pair, infrared=infrared, visible=visible.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("ratio", [1, 1.5, 2, 2.5, 3, 4, 0.5, 0.4, 0.33, 0.25])
def test_the_field_of_view_is_the_ratio(pair, ratio):
    made = cases.field_of_view(pair, np.random.default_rng(1), ratio)
    corners = geometry.corners(made.transform, made.visible_size)
    across = (corners[1] - corners[0]).norm() / made.infrared_size[1]
    down = (corners[2] - corners[0]).norm() / made.infrared_size[0]
    assert [float(across), float(down)] == pytest.approx([ratio] * 2, rel=0.05)
    assert max(made.visible_size) == max(pair.visible_size)
    assert max(made.infrared_size) == max(pair.infrared_size)


@pytest.mark.parametrize("degrees", [5, 20])
def test_a_pair_is_turned_to_the_angle(pair, degrees):
    made = cases.rotated(pair, np.random.default_rng(1), degrees)
    a, b = made.transform[0, 0], made.transform[1, 0]
    assert abs(math.degrees(math.atan2(float(b), float(a)))) == pytest.approx(degrees, abs=0.3)


def test_sizes_of_reduced_and_letterboxed_images(pair):
    draws = np.random.default_rng(0)
    assert cases.reduced(pair, draws, 80).infrared_size == (60, 80)
    assert cases.reduced(pair, draws, 80, 640).infrared_size == (480, 640)
    made = cases.letterboxed(pair, draws, "y")
    bar = made.content[0]
    assert bar / made.infrared_size[0] == pytest.approx(cases.BAR, abs=0.005)
    assert float(made.infrared[..., :bar, :].max()) == 0


def test_an_overlay_changes_the_infrared_image_alone(pair):
    made = cases.overlaid(pair, np.random.default_rng(0))
    assert torch.equal(made.transform, pair.transform)
    assert not torch.equal(made.infrared, pair.infrared)


def test_the_error_is_zero_for_the_truth_and_scaled_to_640(pair):
    small = cases.reduced(pair, np.random.default_rng(0), 160)
    for made in (pair, small, cases.field_of_view(pair, np.random.default_rng(1), 4)):
        sizes = made.infrared_size, made.visible_size
        right = umfuse.Registration.from_transform(made.transform, *sizes)
        assert robustness.error(made, right) == pytest.approx(0, abs=1e-3)
        shift = geometry.similarity_transform((0, 0), (3, 4))
        off = umfuse.Registration.from_transform(shift @ made.transform, *sizes)
        expected = 5 * 640 / made.infrared_size[1]
        assert robustness.error(made, off) == pytest.approx(expected, rel=1e-3)


def test_pairs_come_from_the_sources_in_proportion():
    plenty = {"roadscene": 100, "video": 9, "rendered": 100}
    assert robustness.allot(30, plenty) == {"roadscene": 13, "video": 9, "rendered": 8}
    assert robustness.allot(60, plenty)["video"] == 9
    assert robustness.allot(21, {"roadscene": 41, "video": 0, "rendered": 100}) == {
        "roadscene": 13,
        "video": 0,
        "rendered": 8,
    }
    assert robustness.allot(5, {"rendered": 3}) == {"rendered": 3}


def result(error: float | None, confidence: float, case: str = "raw") -> robustness.Result:
    return robustness.Result(
        case, "rendered", "test", "0", error, confidence, "search", 1.0, 0.0, 0.5, 1.0
    )


def test_measures_of_confidence():
    some = [
        result(1.0, 0.95),
        result(7.0, 0.85),
        result(50.0, 0.75),
        result(50.0, 0.05),
        result(None, 0.65, "wrong pair"),
    ]
    assert [r.right for r in some] == [True, False, False, False, False]
    assert [r.misleading for r in some] == [False, False, True, False, True]
    error = (0.05 + 0.85 + 0.75 + 0.05 + 0.65) / 5
    assert robustness.calibration_error(some) == pytest.approx(error)
    lines = {line[0]: line[2] for line in robustness.confidences(some)}
    assert lines["above 0.5 and wrong by more than 10 px"] == "40.00%"
    assert lines["wrong pairs above 0.5"] == "100%"
    assert lines["AUC, right against wrong"] == 1.0
    counts = [line[1] for line in robustness.reliability(some)]
    assert counts == [1, 0, 0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.slow
def test_runs_on_rendered_scenes_without_data(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "UMFUSE_DATA"}
    command = [sys.executable, "-m", "benchmarks.robustness", "--sources", "rendered"]
    command += ["--pairs", "1", "--only", "aligned", "--save", "results.json"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("|")[1].strip() for line in done.stdout.splitlines() if "|" in line]
    assert "aligned" in lines
    assert lines[-1] == "nearly aligned, rendered"
    saved = json.loads((tmp_path / "results.json").read_text())
    assert [one["case"] for one in saved] == ["aligned", "nearly aligned, rendered"]
    assert saved[0]["error"] < 5
    assert {"confidence", "method", "log_likelihood", "runner_up", "correlation"} < set(saved[0])
    assert saved[1]["before"] > 0.5

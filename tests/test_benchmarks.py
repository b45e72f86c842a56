"""The commands of `benchmarks/` on a rendered data set; their figures come from real pairs."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import data
from benchmarks import scenes as demo
from PIL import Image

from umfuse import geometry, metrics

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SIZE, INFRARED_SIZE = (96, 128), (80, 100)


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def eight_bit(counts: np.ndarray) -> np.ndarray:
    low, high = int(counts.min()), int(counts.max())
    return ((counts.astype(float) - low) / (high - low) * 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> tuple[Path, demo.Scene]:
    scene = demo.render(3, SIZE, infrared_size=INFRARED_SIZE)
    folder = tmp_path_factory.mktemp("data") / "test"
    for name in ("roadscene", "tno", "msrs_gray"):
        write(folder / name / "ir" / "one.png", eight_bit(scene.aligned_infrared))
        write(folder / name / "vis" / "one.png", scene.visible)
    write(folder / "roadscene" / "ir_raw" / "one.png", eight_bit(scene.infrared))
    large = Image.fromarray(scene.visible).resize((2 * SIZE[1], 2 * SIZE[0]))
    write(folder / "roadscene" / "vis_hr" / "one.png", np.asarray(large))
    truth = {"one": {"H": scene.transform.tolist()}}
    (folder / "roadscene" / "homography.json").write_text(json.dumps(truth))
    return folder.parent, scene


def run(data: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Runs a benchmark in a folder of its own, where it keeps what it makes."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "UMFUSE_DATA": str(data), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(data: Path, folder: Path, *command: str) -> dict[str, dict[str, str]]:
    """Runs a benchmark and returns the cells of its last table by row and column."""
    done = run(data, folder, *command)
    assert done.returncode == 0, done.stderr
    tables, table = [], []
    for line in [*done.stdout.splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
        elif table:
            tables.append(table)
            table = []
    head, _, *lines = tables[-1]
    return {line[0]: dict(zip(head, line, strict=True)) for line in lines}


def test_registration_measures_the_raw_pair_against_its_homography(scene, tmp_path):
    data, rendered = scene
    command = ("benchmarks.registration", "--only", "raw-test", "--method", "umfuse")
    table = rows(data, tmp_path, *command)
    plain = geometry.resize_transform(SIZE, INFRARED_SIZE)
    expected = metrics.grid_error(plain, torch.from_numpy(rendered.transform), SIZE).item()
    column = "error, px: median"
    assert float(table["misaligned input"][column]) == pytest.approx(expected, rel=0.01)
    assert float(table["umfuse"][column]) < 0.5 * expected


VISMATCH = """
import json
import numpy as np

def get_matcher(name, device):
    truth = np.array(json.load(open(name))["one"]["H"])
    def find(infrared, visible):
        assert infrared.shape[0] == visible.shape[0] == 3
        height, width = visible.shape[1:]
        y, x = np.mgrid[4 : height - 4 : 12, 4 : width - 4 : 12].reshape(2, -1)
        scale = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])  # twice as large as known
        there = truth @ scale @ np.stack([x, y, np.ones(len(x))])
        return {
            "matched_kpts0": (there[:2] / there[2]).T,
            "matched_kpts1": np.stack([x, y], 1),
            "matched_confidences": np.ones(len(x)),
        }
    return find
"""


def test_a_matcher_of_a_library_becomes_a_row(scene, tmp_path):
    folder, _ = scene
    (tmp_path / "vismatch.py").write_text(VISMATCH)
    name = f"vismatch:{folder / 'test' / 'roadscene' / 'homography.json'}"
    table = rows(
        folder, tmp_path, *("benchmarks.registration", "--only", "raw-test"), "--matcher", name
    )
    assert set(table) == {"misaligned input", name}
    assert float(table[name]["error, px: median"]) < 0.05


def test_a_library_without_an_example_is_refused(scene, tmp_path):
    done = run(scene[0], tmp_path, *("benchmarks.registration", "--matcher", "nothing:xoftr"))
    assert done.returncode == 2
    assert "expected LIBRARY:NAME, one of vismatch, transformers" in done.stderr


def test_noise_through_an_average_is_halved_and_less_reaches_the_fused_image(scene, tmp_path):
    table = rows(scene[0], tmp_path, "benchmarks.noise")
    kinds = [name for name in table["average"] if name != "method"]
    assert len(kinds) == 9
    for kind in kinds:
        assert float(table["average"][kind]) == pytest.approx(0.5, abs=0.01)
        assert float(table["umfuse"][kind]) < float(table["Laplacian pyramid"][kind])


def test_registration_compares_methods_on_a_protocol_and_joins_results(scene, tmp_path):
    data, _ = scene
    case = tmp_path / "theirs" / "paper-tno-256"
    case.mkdir(parents=True)
    aligned = Image.open(data / "test" / "tno" / "ir" / "one.png").resize((256, 256))
    aligned.save(case / "one.png")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- paper-tno-256 -->\nold\n<!-- end -->\nafter\n")
    table = rows(
        data,
        tmp_path,
        *("benchmarks.registration", "--only", "paper-tno", "--results", f"theirs={case.parent}"),
        *("--page", str(page)),
    )
    before = table["misaligned input"]
    assert 1 < float(before["error, px: median"]) < 6
    assert {"SimpleITK MI", "ECC", "SIFT+RANSAC", "umfuse", "theirs"} < set(table)
    assert float(table["theirs"]["MSE"]) < 0.2 * float(before["MSE"])
    assert float(table["theirs"]["NCC inside"]) > float(before["NCC inside"])
    written = page.read_text()
    assert "old" not in written
    assert "| umfuse |" in written
    assert written.endswith("<!-- end -->\nafter\n")


def test_floor_tells_the_error_of_the_data_from_that_of_the_method(scene, tmp_path):
    table = rows(scene[0], tmp_path, "benchmarks.floor", "--only", "paper-tno")
    error, published, own = (float(cell) for cell in list(table["paper-tno-256"].values())[1:])
    assert published < 1  # the rendered pair is aligned
    assert own == pytest.approx(error, abs=published + 0.1)


def test_certainty_stands_beside_the_error_of_pixels(scene, tmp_path):
    done = run(scene[0], tmp_path, "benchmarks.certainty", "--only", "raw-test")
    assert done.returncode == 0, done.stderr
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    first, second = ([line for line in lines if len(line) == count] for count in (13, 9))
    found, bent = first[2:]
    assert found[:2] == ["raw-test, as found", "1"]
    assert max(map(float, found[3:])) < 10
    assert float(bent[2]) < 0  # less certain, more error
    assert float(bent[3]) > float(found[3])
    shares = [float(cell.rstrip("%")) for cell in second[2][1::2]]
    assert sum(shares) == pytest.approx(100, abs=2)


def test_fusion_prints_every_method(scene, tmp_path):
    table = rows(scene[0], tmp_path, "benchmarks.fusion", "--only", "fusion-msrs_gray")
    simple = {"average", "saliency mean", "maximum", "Laplacian pyramid"}
    assert set(table) == {*simple, "paper's DIFN", "umfuse"}
    ranks = [float(line["mean rank"]) for line in table.values()]
    assert sum(ranks) == pytest.approx(21, abs=0.1)  # of six methods, 1 to 6
    assert float(table["average"]["CC"]) == max(float(table[name]["CC"]) for name in simple)


def test_fusion_after_registration_is_measured_against_the_aligned_pair(scene, tmp_path):
    done = run(scene[0], tmp_path, "benchmarks.fusion", "--only", "fused-raw-test")
    assert done.returncode == 0, done.stderr
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    kept = {(line[0], line[1]): line[-1] for line in lines if len(line) > 3}
    assert float(kept["umfuse", "umfuse"]) > float(kept["misaligned input", "umfuse"])
    assert kept["aligned", "umfuse"] == ""


def trainable(data: Path) -> Path:
    """Gives the data of the tests a train split, of the pair they have."""
    for kind in ("ir", "vis"):
        image = np.asarray(Image.open(data / "test" / "roadscene" / kind / "one.png"))
        write(data / "train" / "roadscene" / kind / "one.png", image)
    return data


def test_a_variant_is_trained_once_and_joins_the_tables(scene, tmp_path):
    data = trainable(scene[0])
    command = ("benchmarks.train", "--only", "difn/all", "--steps", "2")
    for _ in range(2):
        done = run(data, tmp_path, *command)
        assert done.returncode == 0, done.stderr
    log = (tmp_path / "runs/benchmarks/difn/all/log.jsonl").read_text().splitlines()
    assert len(log) == 1
    table = rows(data, tmp_path, "benchmarks.ablation", "--only", "interaction")
    assert set(table) == {"tno", "roadscene", "msrs_gray"}


@pytest.mark.slow
def test_the_papers_registration_joins_the_tables(scene, tmp_path):
    data = trainable(scene[0])
    name = "registration/MRRN + CPSTN"
    done = run(data, tmp_path, "benchmarks.train", "--only", name, "--steps", "2")
    assert done.returncode == 0, done.stderr
    options = ("--only", "paper-roadscene", "--method", "MRRN + CPSTN")
    table = rows(data, tmp_path, "benchmarks.registration", *options)
    assert set(table) == {"misaligned input", "MRRN + CPSTN"}


def test_perceptual_features_know_the_right_place(scene, tmp_path):
    for name in ("roadscene", "m3svd", "msrs_gray"):
        write(tmp_path / "train" / name / "ir" / "one.png", eight_bit(scene[1].aligned_infrared))
        write(tmp_path / "train" / name / "vis" / "one.png", scene[1].visible)
    table = rows(tmp_path, tmp_path, "benchmarks.perceptual", "--only", "MIND, 3 levels")
    assert set(table) == {"luma", "pseudo-infrared"}
    for line in table.values():
        assert float(line["shift 16"]) > 0.7


def test_without_data_says_what_to_set(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "UMFUSE_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fusion"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "UMFUSE_DATA" in done.stderr


LIBRARIES = ("baselines", "budget", "cases", "matchers", "methods", "plan")  # have no commands


def test_every_benchmark_imports():
    """What no test runs for lack of data must not rot."""
    found = [*(ROOT / "benchmarks").glob("*.py")]
    assert {path.stem for path in found} > set(LIBRARIES)
    for path in found:
        module = importlib.import_module(f"benchmarks.{path.stem}")
        assert path.stem in LIBRARIES or callable(module.main), path.stem


def test_rows_of_one_method_leave_those_of_others(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- t -->\n\n| m | px |\n| --- | --- |\n| a | 1 |\n| b | 2 |\n\n<!-- end -->\n"
    )
    arguments = argparse.Namespace(page=page)
    data.report(arguments, "t", ("m", "px"), [("b", 3), ("c", 4)], some=True)
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert rows[2:] == ["| a | 1 |", "| b | 3 |", "| c | 4 |"]
    data.report(arguments, "t", ("m", "px"), [("b", 5)])
    assert "| a |" not in page.read_text()


def test_rows_are_told_apart_by_all_their_names(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- t -->\n\n| a | b | px |\n| --- | --- | --- |\n| x | y | 1 |\n\n<!-- end -->\n"
    )
    arguments = argparse.Namespace(page=page)
    data.report(arguments, "t", ("a", "b", "px"), [("x", "z", 3), ("x", "y", 2)], some=True)
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    assert rows[2:] == ["| x | y | 2 |", "| x | z | 3 |"]


# ---- mutants -------------------------------------------------------------------------------------

CODE = '''"""A file."""

SIZES: tuple[int | None, ...] = (3, 4)


def area(width: int | None, height: int = 2) -> int | None:
    return None if width is None else width * height
'''


def test_mutants_are_whole_files_and_leave_annotations_alone():
    pytest.importorskip("cosmic_ray")
    from benchmarks import mutants

    drawn = mutants.sample(CODE, 100, seed=0)
    assert len({mutant.line for mutant in drawn}) > 2
    whole = ast.parse(CODE)
    for mutant in drawn:
        changed = ast.parse(mutant.code)
        assert ast.dump(changed) != ast.dump(whole)
        annotations = [
            [ast.dump(node.annotation) for node in ast.walk(tree) if isinstance(node, ast.arg)]
            for tree in (changed, whole)
        ]
        assert annotations[0] == annotations[1]
    assert mutants.sample(CODE, 3, seed=1) == mutants.sample(CODE, 3, seed=1)


@pytest.mark.skipif(os.name == "nt", reason="needs os.fork")
def test_tests_run_on_the_changed_copy(tmp_path):
    (tmp_path / "area.py").write_text("area = 12\n")
    (tmp_path / "test_area.py").write_text(
        "from area import area\n\n\ndef test_area():\n    assert area == 12\n"
    )
    script = (
        "from pathlib import Path\nfrom benchmarks.mutants import passes\n"
        "for code in ('area = 12', 'area = 13', 'while True: pass'):\n"
        f"    print(passes(Path({str(tmp_path)!r}), Path('area.py'), code, ['test_area.py'], 10))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True", "False", "False"], done.stderr


# ---- kills ---------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_runs_that_are_killed_lose_nothing(tmp_path):
    table = rows(tmp_path, tmp_path, "benchmarks.kills", "--kills", "5")
    for command in ("umfuse fuse", "umfuse train"):
        numbers = {name: cell for name, cell in table[command].items() if name != "command"}
        assert numbers["kills"] == "5"
        assert int(numbers["runs to the end"]) >= 1
        assert int(numbers["while a file was written"]) >= 1
        assert numbers["half-written"] == numbers["lost"] == "0"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.npz", "a.csv", "a.html", "a.json"])
def test_half_of_a_file_is_told(tmp_path, name):
    from benchmarks import kills

    path = tmp_path / name
    if path.suffix in (".png", ".jpg", ".gif"):
        rng = np.random.default_rng(0)
        write(path, rng.integers(0, 256, (40, 40), dtype=np.uint8))
    elif path.suffix == ".npz":
        np.savez(path, a=np.arange(99))
    else:
        row = ",".join(7 * ["x"]) + "\n"
        text = {".csv": 5 * row, ".html": "<html>\n</html>\n", ".json": '{"a": 1}'}
        path.write_text(text[path.suffix])
    assert kills.broken(tmp_path) == []
    (tmp_path / "straight").mkdir()
    (tmp_path / "straight" / name).write_bytes(path.read_bytes())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    (told,) = [line for line in kills.broken(tmp_path) if "straight" not in line]
    assert told.startswith(f"half-written: {name}: ")
    straight = tmp_path / "straight"
    assert f"different: {name}" in kills.differing_files(straight, tmp_path)
    path.rename(tmp_path / f".{name}.tmp")
    assert f"lost or left over: {name}" in kills.differing_files(straight, tmp_path)
    assert kills.broken(tmp_path) == []


def test_what_two_trainings_do_not_share_is_told(tmp_path):
    from benchmarks import kills

    for name, loss in (("a", 0.5), ("b", 0.25)):
        folder = tmp_path / name / "checkpoints" / "step-00000001"
        folder.mkdir(parents=True)
        torch.save({"step": 1, "task": torch.full((3,), loss)}, folder / "state.pt")
        line = {"step": 1, "loss": loss, "wait_s": loss}
        (tmp_path / name / "log.jsonl").write_text(json.dumps(line) + "\n")
    differing = kills.differing_trainings(tmp_path / "a", tmp_path / "b")
    assert differing == ["different: checkpoints/step-00000001/state.pt", "different: log.jsonl"]
    assert kills.differing_trainings(tmp_path / "a", tmp_path / "a") == []


# ---- fuzzing -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of what it then refuses
def test_where_fuzzing_starts_is_read_and_half_of_it_is_refused(tmp_path):
    from benchmarks import fuzz

    starts = fuzz.starts(tmp_path)
    outcomes = [fuzz.check(tmp_path, content) for content in starts]
    assert set(fuzz.TARGETS) <= set(outcomes)
    assert sum(outcome in fuzz.TARGETS for outcome in outcomes) > 0.8 * len(outcomes)
    halves = [fuzz.check(tmp_path, content[: len(content) // 2]) for content in starts]
    assert {outcome for outcome in halves if outcome[:5] != "image"} == {
        "weights: WeightsError",
        "config: WeightsError",
        "registration: ValueError",
    }


def test_fuzzing_takes_no_other_error_and_no_silence(tmp_path, monkeypatch):
    from benchmarks import fuzz

    for error, taken in ((KeyError("a"), KeyError), (ValueError("short"), AssertionError)):

        def read(*_, error=error, **__):
            raise error

        monkeypatch.setattr("umfuse.images.read", read)
        with pytest.raises(taken):
            fuzz.check(tmp_path, b"\0GIF")

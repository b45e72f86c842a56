"""Evaluation, on rendered data sets and on a few real pairs."""

import csv
import gc
import json
import os
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarks import scenes as demo
from PIL import Image

import umfuse
from umfuse import api, geometry, images, metrics
from umfuse.evaluate import EvaluationError, Summary, dataset, evaluate
from umfuse.train.protocols import protocol

SIZE, RAW_SIZE = (96, 128), (80, 100)
NAMES = ["a", "b", "c"]


def eight_bit(counts):
    low, high = int(counts.min()), int(counts.max())
    return ((counts.astype(float) - low) / (high - low) * 255).round().astype(np.uint8)


def write(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    images.save(image, path)


def luma(path):
    return images.read(path).luma


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A data set of three streets that has everything a data set may have."""
    root = tmp_path_factory.mktemp("rendered")
    (root / "displacement").mkdir()
    truth = {}
    for seed, name in enumerate(NAMES):
        scene = demo.render(seed, SIZE, infrared_size=RAW_SIZE)
        infrared = eight_bit(scene.aligned_infrared)
        write(infrared, root / f"ir/{name}.png")
        write(scene.visible, root / f"vis/{name}.png")
        write(eight_bit(scene.infrared), root / f"ir_raw/{name}.png")
        large = Image.fromarray(scene.visible).resize((2 * SIZE[1], 2 * SIZE[0]))
        write(large, root / f"vis_hr/{name}.png")
        truth[name] = {"H": scene.transform.tolist()}
        field = protocol("large", SIZE, seed)
        moved, _ = geometry.warp(torch.from_numpy(infrared)[None, None].float(), field.deform)
        write(moved[0, 0].round().byte(), root / f"ir_warp/{name}.png")
        path = root / f"displacement/{name}.npz"
        dataset.write_displacement(path, field.restore, field.valid)
    (root / "homography.json").write_text(json.dumps(truth))
    return root


@pytest.fixture(scope="module")
def one(rendered, tmp_path_factory):
    """The first pair of the data set: a model takes its time."""
    root = shutil.copytree(rendered, tmp_path_factory.mktemp("one") / "data")
    for name in NAMES[1:]:
        for path in root.glob(f"*/{name}.*"):
            path.unlink()
    return root


@pytest.fixture
def still(monkeypatch):
    """Makes every model find that plain resizing is the alignment, at once."""

    def register(infrared, visible, **options):
        size = images.read(visible).size
        moving = images.read(infrared).size
        plain = geometry.project_grid(geometry.resize_transform(size, moving), size)
        return SimpleNamespace(coordinates=plain[0].movedim(0, -1).numpy(), confidence=0.5)

    monkeypatch.setattr(api, "register", register)


@pytest.fixture
def pairs(tmp_path, rendered):
    """The aligned pairs alone, to be changed, and a folder of results: the mean of both."""
    for folder in ("ir", "vis"):
        shutil.copytree(rendered / folder, tmp_path / "data" / folder)
    for name in NAMES:
        both = torch.cat([luma(rendered / folder / f"{name}.png") for folder in ("ir", "vis")])
        write((255 * both.mean(0)[0]).round().byte(), tmp_path / f"mean/{name}.png")
    return tmp_path


# ---- other people's results ------------------------------------------------------------


def test_a_folder_of_fused_images_gets_every_metric(pairs):
    report = evaluate(pairs / "mean", pairs / "data")
    assert list(report.images) == NAMES
    assert report.problems == []
    for name in NAMES:
        fused = luma(pairs / f"mean/{name}.png")
        sources = [luma(pairs / f"data/{folder}/{name}.png") for folder in ("ir", "vis")]
        expected = {head: float(of(fused, *sources)) for head, of in metrics.FUSION.items()}
        assert report.images[name] == {"result": expected}
    for head in metrics.FUSION:
        values = [report.images[name]["result"][head] for name in NAMES]
        assert report.mean[head] == pytest.approx(np.mean(values))
        assert report.median[head] == pytest.approx(np.median(values))
        low, high = report.interval[head]
        assert min(values) - 1e-9 <= low <= report.mean[head] <= high <= max(values) + 1e-9


def test_perfect_fusion_gets_perfect_scores(pairs):
    shutil.rmtree(pairs / "data/vis")
    shutil.copytree(pairs / "data/ir", pairs / "data/vis")
    found = evaluate(pairs / "data/ir", pairs / "data").mean
    expected = {"CC": 1, "SSIM": 1, "MS-SSIM": 1, "VIF": 2, "VIFF": 1, "NMI": 2, "Nabf": 0}
    assert {head: found[head] for head in expected} == pytest.approx(expected, abs=1e-6)


def test_perfect_registration_gets_perfect_scores(pairs):
    report = evaluate(pairs / "data/ir", pairs / "data", task="registration")
    assert list(report.metrics) == [
        *("MSE", "NCC", "MI"),
        *("MSE, interior", "NCC, interior", "MI, interior"),
    ]
    assert report.mean["MSE"] == report.mean["MSE, interior"] == 0
    assert report.mean["NCC"] == pytest.approx(1)
    assert report.interval["NCC"] == pytest.approx((1, 1))
    entropies = [float(metrics.en(luma(pairs / f"data/ir/{name}.png"))) for name in NAMES]
    assert report.mean["MI"] == pytest.approx(np.log(2) * np.mean(entropies))


def test_a_registration_of_others_stands_beside_its_input(rendered, tmp_path):
    report = evaluate(rendered / "ir", rendered, task="registration")
    assert set(report.summaries) == {"input", "result"}
    assert report.summaries["input"].mean["MSE"] > 0.001
    assert "EPE (px)" not in report.metrics  # an image does not say where its pixels come from
    moved, still = luma(rendered / "ir_warp/a.png"), luma(rendered / "ir/a.png")
    inner = report.images["a"]["input"]["MSE, interior"]
    assert inner == float(metrics.mse(moved, still, border=8))


def test_16_bit_results_are_seen_in_the_range_of_the_reference(tmp_path):
    counts = demo.render(0, SIZE).aligned_infrared
    for folder, image in (("ir", counts), ("vis", eight_bit(counts)), ("result", counts + 100)):
        write(image, tmp_path / f"{folder}/a.png")
    report = evaluate(tmp_path / "result", tmp_path, task="registration")
    assert report.mean["NCC"] == pytest.approx(1, abs=0.01)
    low, high = np.percentile(counts, (0.5, 99.5))
    assert report.mean["MSE"] == pytest.approx((100 / (high - low)) ** 2, rel=0.1)


def test_constant_images_have_scores(tmp_path):
    for folder in ("ir", "vis", "result"):
        write(np.full(SIZE, 77, np.uint8), tmp_path / f"{folder}/a.png")
    for task in ("fusion", "registration"):
        assert evaluate(tmp_path / "result", tmp_path, task=task).problems == []


# ---- weights -----------------------------------------------------------------------------


def test_weights_score_what_their_files_score(model, one, tmp_path):
    sources = one / "ir_warp/a.png", one / "vis/a.png"
    fusion = umfuse.fuse(*sources, weights=model)
    write(fusion.image, tmp_path / "fused/a.png")
    write(fusion.registration.infrared, tmp_path / "registered/a.png")
    ours = evaluate(model, one, input="ir_warp")
    assert ours.images == evaluate(tmp_path / "fused", one).images
    ours = evaluate(model, one, task="registration").images["a"]["result"]
    theirs = evaluate(tmp_path / "registered", one, task="registration").images["a"]["result"]
    assert theirs.items() <= ours.items()


def test_a_training_run_is_one_of_weights(model, one, tmp_path):
    model.save_pretrained(tmp_path / "run" / "checkpoints" / "step-00000002")
    ours = evaluate(tmp_path / "run", one, input="ir_warp")
    assert ours.images == evaluate(model, one, input="ir_warp").images


def test_aligned_pairs_are_only_fused(model, rendered):
    report = evaluate(model, rendered)
    fused = umfuse.fuse(rendered / "ir/a.png", rendered / "vis/a.png", align=False, weights=model)
    sources = luma(rendered / "ir/a.png"), luma(rendered / "vis/a.png")
    expected = float(metrics.qabf(images.read(fused.image).luma, *sources))
    assert report.images["a"]["result"]["Qabf"] == expected
    assert report.arguments["align"] is False


def test_deformed_pairs_have_their_end_point_error(model, one):
    report = evaluate(model, one, task="registration")
    truth, valid = dataset.read_displacement(one / "displacement/a.npz")
    length = truth.square().sum(1, keepdim=True).sqrt()[valid].mean()
    before, after = (report.images["a"][label] for label in ("input", "result"))
    assert before["EPE (px)"] == pytest.approx(float(length), rel=1e-6)
    assert after["EPE (px)"] < 0.7 * before["EPE (px)"]
    assert 0 <= after["confidence"] <= 1
    assert report.rank_by == "EPE (px)"


@pytest.mark.parametrize("visible", ["vis", "vis_hr"])
def test_raw_pairs_have_their_grid_error(model, one, visible):
    report = evaluate(model, one, task="registration", input="ir_raw", visible=visible)
    truth = dataset.read_homographies(one / "homography.json")["a"]
    expected = metrics.grid_error(geometry.resize_transform(SIZE, RAW_SIZE), truth, SIZE)
    before, after = (report.images["a"][label] for label in ("input", "result"))
    assert before["grid error (px)"] == pytest.approx(float(expected), rel=1e-4)
    assert after["grid error (px)"] < 0.5 * before["grid error (px)"]
    assert after["NCC"] > before["NCC"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_scores_what_the_cpu_scores(one):
    for task in ("fusion", "registration"):
        found, expected = (
            evaluate("embedded", one, task=task, device=device).mean for device in ("cuda", "cpu")
        )
        assert found == pytest.approx(expected, rel=0.05, abs=0.05)


# ---- what is wrong -----------------------------------------------------------------------


def test_problems_are_listed_and_do_not_count(pairs):
    (pairs / "mean/b.png").write_bytes((pairs / "mean/b.png").read_bytes()[:300])
    (pairs / "data/vis/c.png").unlink()
    write(np.zeros((50, 60), np.uint8), pairs / "mean/d.png")
    for folder in ("ir", "vis"):
        write(np.zeros(SIZE, np.uint8), pairs / f"data/{folder}/d.png")
    write(np.zeros(SIZE, np.uint8), pairs / "mean/e.png")
    report = evaluate(pairs / "mean", pairs / "data")
    assert list(report.images) == ["a"]
    assert report.mean == report.images["a"]["result"]
    said = "\n".join(report.problems)
    assert "b: image: " in said
    assert "b.png is truncated or damaged" in said
    assert "c.png has no partner in" in said
    assert "d: expected the fused image to have the size of the aligned infrared one" in said
    assert "128 x 96, got 60 x 50" in said
    assert said.count("e.png has no partner in") == 2


def test_a_missing_truth_is_a_problem(model, still, rendered, tmp_path):
    data = shutil.copytree(rendered, tmp_path / "data")
    (data / "displacement/a.npz").unlink()
    (data / "displacement/b.npz").write_bytes(b"PK\x03\x04")
    report = evaluate(model, data, task="registration")
    assert list(report.images) == ["c"]
    assert "a.npz" in report.problems[0]
    assert "b.npz: expected an .npz of displacement, valid and shape" in report.problems[1]
    (data / "homography.json").write_text('{"a": {"H": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}}')
    report = evaluate(model, data, task="registration", input="ir_raw")
    assert list(report.images) == ["a"]
    assert "homography.json does not hold b" in report.problems[0]


@pytest.mark.parametrize("text", ["[]", "{", '{"a": {"H": [[1, 2], [3, 4]]}}', '{"a": {"M": 1}}'])
def test_damaged_homographies_are_refused(tmp_path, text):
    (tmp_path / "homography.json").write_text(text)
    with pytest.raises(ValueError, match=r"homography.json: expected"):
        dataset.read_homographies(tmp_path / "homography.json")


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("mean", {"dataset": "none"}, "none is no folder"),
        ("mean", {"dataset": "mean"}, "mean.ir does not exist"),
        ("mean", {"visible": "vis_hr"}, "vis_hr does not exist"),
        ("empty", {}, "a.png has no partner in .*empty"),
        ("mean", {"rank_by": "PSNR"}, "cannot rank by 'PSNR': expected one of CC, SSIM"),
        ("mean", {"input": "ir_warp"}, "for weights, not for a folder"),
        ("mean", {"align": True}, "for weights, not for a folder"),
        ("mean", {"align": True, "task": "registration"}, "align is for fusion"),
        ("mean", {"input": "ir_raw", "task": "registration"}, "ir_raw does not exist"),
        ("embedded", {"task": "registration"}, "ir_warp does not exist"),
        ("mean", {"task": "detection"}, "expected task to be"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(pairs, source, options, message):
    (pairs / "empty").mkdir()
    source = source if source == "embedded" else pairs / source
    root = pairs / options.pop("dataset", "data")
    with pytest.raises(EvaluationError, match=message):
        evaluate(source, root, **options)


# ---- the report --------------------------------------------------------------------------


def test_the_report_is_saved(pairs):
    report = evaluate(pairs / "mean", pairs / "data", rank_by="Nabf")
    written = report.save(pairs / "out", sheets=2)
    ranking = report.ranking()
    nabf = [report.images[name]["result"]["Nabf"] for name in ranking]
    assert nabf == sorted(nabf)  # lower is better
    names = [f"best-{n}-{name}.png" for n, name in enumerate(ranking[:2], 1)]
    names += [f"worst-{n}-{name}.png" for n, name in enumerate(ranking[:0:-1], 1)]
    assert [path.name for path in written] == ["scores.csv", "report.json", *names]
    for path in written[2:]:
        with Image.open(path) as sheet:
            assert min(sheet.size) > SIZE[0]

    with (pairs / "out/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("name") for row in rows] == NAMES
    for name, row in zip(NAMES, rows, strict=True):
        scores = {head: float(value) for head, value in row.items()}
        assert scores == report.images[name]["result"]

    saved = json.loads((pairs / "out/report.json").read_text())
    assert saved["umfuse"] == umfuse.__version__
    assert saved["arguments"]["dataset"] == str(pairs / "data")
    assert saved["result"]["mean"] == report.mean
    assert saved["result"]["interval"]["CC"] == list(report.interval["CC"])
    assert saved["images"]["a"] == report.images["a"]
    assert saved["metrics"]["Nabf"]["better"] == "lower"
    assert "correlation" in saved["metrics"]["CC"]["definition"]


def test_the_table_has_a_row_for_each_metric(model, still, rendered):
    report = evaluate(model, rendered, task="registration")
    lines = report.table().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["registration, 3 pairs", "better", "input", "result"]
    assert [row[0] for row in cells[2:]] == list(report.metrics)
    assert len({len(line) for line in lines}) == 1
    row = {cell[0]: cell for cell in cells}["EPE (px)"]
    mean, (low, high) = report.mean["EPE (px)"], report.interval["EPE (px)"]
    median = report.median["EPE (px)"]
    assert row[3] == f"{mean:.4g} [{low:.4g}, {high:.4g}], median {median:.4g}"


def test_the_csv_of_a_registration_has_its_input(rendered):
    report = evaluate(rendered / "ir", rendered, task="registration")
    row = next(csv.DictReader(report.to_csv().splitlines()))
    assert list(row)[:2] == ["name", "MSE"]
    assert float(row["input: MSE"]) == report.images["a"]["input"]["MSE"]


def test_sheets_of_a_registration(model, still, rendered, tmp_path):
    for source in (model, rendered / "ir"):
        report = evaluate(source, rendered, task="registration")
        *_, sheet = report.save(tmp_path, sheets=1)
        with Image.open(sheet) as image:
            assert image.width > 3 * SIZE[1]
            assert image.height > 2 * SIZE[0]


def test_the_interval_is_that_of_a_normal_mean():
    values = np.random.default_rng(3).normal(5, 2, 400)
    summary = Summary([{"x": float(value), "y": -float(value)} for value in values])
    half = 1.96 * values.std() / 400**0.5
    low, high = summary.interval["x"]
    assert summary.mean["x"] == pytest.approx(values.mean())
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert summary.interval["y"] == pytest.approx((-high, -low))
    again = Summary([{"x": float(value), "y": -float(value)} for value in values])
    assert again.interval == summary.interval


def test_one_image_has_a_point_for_an_interval():
    summary = Summary([{"x": 2.5}])
    assert summary.mean == summary.median == {"x": 2.5}
    assert summary.interval == {"x": (2.5, 2.5)}


def test_memory_does_not_grow_with_the_pairs(tmp_path, monkeypatch):
    counts = demo.render(0, SIZE).aligned_infrared
    for name in range(6):
        for folder in ("ir", "vis", "result"):
            write(eight_bit(counts), tmp_path / f"{folder}/{name}.png")
    alive, most, read = weakref.WeakSet(), [0], images.read

    def counted(*args, **kwargs):
        gc.collect()
        picture = read(*args, **kwargs)
        alive.add(picture)
        most[0] = max(most[0], len(alive))
        return picture

    monkeypatch.setattr(images, "read", counted)
    evaluate(tmp_path / "result", tmp_path)
    assert most[0] == 3  # one pair and its result
    assert not alive


# ---- the data set ------------------------------------------------------------------------


def test_displacement_comes_back(tmp_path):
    field = protocol("large", (37, 51), 1)
    path = tmp_path / "a.npz"
    dataset.write_displacement(path, field.restore, field.valid)
    with np.load(path) as stored:
        assert stored["displacement"].dtype == np.float16
        assert stored["shape"].tolist() == [37, 51]
    found, valid = dataset.read_displacement(path)
    assert torch.equal(valid, field.valid)
    assert (found - field.restore).abs().max() < 1 / 256


@pytest.mark.parametrize(
    "change",
    [
        {"displacement": np.zeros((9, 8, 2))},
        {"displacement": np.full((8, 9, 2), np.nan)},
        {"displacement": np.array("text")},
        {"valid": np.zeros(3, np.uint8)},
        {"shape": np.array([8])},
    ],
)
def test_other_fields_are_refused(tmp_path, change):
    content = {
        "displacement": np.zeros((8, 9, 2), np.float16),
        "valid": np.packbits(np.ones((8, 9), bool)),
        "shape": np.array([8, 9]),
    }
    np.savez(tmp_path / "a.npz", **{**content, **change})
    with pytest.raises(ValueError, match=r"a.npz: expected"):
        dataset.read_displacement(tmp_path / "a.npz")


def test_an_array_is_no_field(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.zeros((8, 9, 2)))
    with pytest.raises(ValueError, match=r"a.npz: expected"):
        dataset.read_displacement(tmp_path / "a.npz")


@pytest.mark.data
def test_published_pairs(tmp_path, model):
    source = os.environ.get("UMFUSE_DATA")
    if not source:
        pytest.skip("needs UMFUSE_DATA")
    published = Path(source) / "test" / "superfusion_road"
    for name in sorted(path.stem for path in (published / "ir").iterdir())[:2]:
        for folder in ("ir", "vis", "ir_warp", "displacement"):
            (file,) = (published / folder).glob(f"{name}.*")
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copyfile(file, tmp_path / folder / file.name)
    report = evaluate(model, tmp_path, task="registration")
    assert report.problems == []
    assert report.summaries["input"].mean["EPE (px)"] > 10
    assert report.mean["EPE (px)"] < 0.7 * report.summaries["input"].mean["EPE (px)"]
    # The truth restores the image that was deformed: what is left are two interpolations.
    name = next(iter(report.images))
    truth, valid = dataset.read_displacement(tmp_path / f"displacement/{name}.npz")
    (moved, still) = (luma(next((tmp_path / key).glob(f"{name}.*"))) for key in ("ir_warp", "ir"))
    restored, _ = geometry.warp(moved, truth)
    assert ((restored - still).abs() * valid).sum() / valid.sum() < 0.02

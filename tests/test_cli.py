import csv
import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarks import scenes as demo
from PIL import Image

from umfuse import __version__, api, cli, geometry, images
from umfuse.cli import common, deform, report
from umfuse.evaluate import dataset
from umfuse.train.protocols import PROTOCOLS


@pytest.fixture(scope="module")
def scene():
    return demo.render(seed=0, size=(240, 320))


@pytest.fixture
def pair(tmp_path, scene):
    images.save(scene.infrared, tmp_path / "ir.png")
    images.save(scene.visible, tmp_path / "vis.png")
    return str(tmp_path / "ir.png"), str(tmp_path / "vis.png")


@pytest.fixture
def folders(tmp_path, scene):
    for name in ("ir", "vis"):
        (tmp_path / name).mkdir()
    for stem in ("a", "b", "c"):
        images.save(scene.infrared, tmp_path / f"ir/{stem}.png")
        images.save(scene.visible, tmp_path / f"vis/{stem}.jpg")
    return tmp_path


def size_of(path):
    with Image.open(path) as image:
        image.load()
        return image.size


def test_fuse_writes_the_image_and_prints_its_path(pair, tmp_path, capsys):
    out, sheet = tmp_path / "fused.png", tmp_path / "sheet.png"
    assert cli.main(["fuse", *pair, "-o", str(out), "--sheet", str(sheet)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert size_of(out) == (320, 240)
    assert min(size_of(sheet)) > 300


def test_register_keeps_16_bits(pair, tmp_path, capsys):
    out, sheet = tmp_path / "registered.png", tmp_path / "sheet.png"
    arguments = ["register", *pair, "-o", str(out), "--range", "28000,33000", "--sheet", str(sheet)]
    assert cli.main(arguments) == 0
    with Image.open(out) as image:
        assert image.mode == "I;16"
        assert np.asarray(image).min() > 20000
    assert sheet.is_file()


def test_fuse_to_16_bit_grey(pair, tmp_path):
    out = tmp_path / "fused.tif"
    assert cli.main(["fuse", *pair, "-o", str(out), "--no-align", "--grey16"]) == 0
    with Image.open(out) as image:
        assert image.mode == "I;16"
        assert np.asarray(image).max() > 255


def test_fuse_without_registration(pair, tmp_path):
    out = tmp_path / "fused.png"
    arguments = ["fuse", *pair, "-o", str(out), "--no-align", "--sheet", str(tmp_path / "s.png")]
    assert cli.main(arguments) == 0
    assert size_of(out) == (320, 240)


def test_folders_pair_by_stem(folders, capsys):
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    assert cli.main([*arguments, "--no-align", "--sheet", str(folders / "sheets")]) == 0
    names = ["a.png", "b.png", "c.png"]
    assert sorted(path.name for path in (folders / "out").iterdir()) == names
    assert sorted(path.name for path in (folders / "sheets").iterdir()) == names
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_one_folder_of_both_kinds(tmp_path, scene, capsys):
    for stem in ("1", "2"):
        images.save(scene.infrared, tmp_path / f"{stem}_T.png")
        images.save(scene.visible, tmp_path / f"{stem}_V.jpg")
    out = tmp_path / "out"
    arguments = ["fuse", *[str(tmp_path)] * 2, "-o", str(out), "--no-align"]
    assert cli.main(arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == ["1.png", "2.png"]
    arguments = ["fuse", *[str(tmp_path)] * 2, "-o", str(out / "x"), "--no-align"]
    assert cli.main([*arguments, "--pair", "{a}_T,{a}_V", "--format", ".JPG"]) == 0
    assert sorted(path.name for path in (out / "x").iterdir()) == ["1.jpg", "2.jpg"]


def test_results_of_folders_of_folders(tmp_path, scene):
    for name in ("s/lwir/1.png", "s/visible/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        images.save(scene.infrared if "lwir" in name else scene.visible, tmp_path / name)
    out = tmp_path / "out"
    arguments = ["register", *[str(tmp_path)] * 2, "-o", str(out), "--save-registration", str(out)]
    assert cli.main([*arguments, "--pair", "kaist", "--min-confidence", "0"]) == 0
    names = ["registrations.csv", "s/1.npz", "s/1.png"]
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()) == names


def test_results_have_the_format_of_what_came(tmp_path, scene):
    """A folder of float TIFFs, whose values no PNG can hold."""
    for name in ("ir", "vis"):
        (tmp_path / name).mkdir()
    celsius = np.asarray(scene.infrared).astype(np.float32) / 100 - 273.15
    grey = np.asarray(Image.fromarray(np.asarray(scene.visible)).convert("L"))
    images.save(celsius, tmp_path / "ir/a.tif")
    images.save(grey.astype(np.float32) / 255 * 4000, tmp_path / "vis/a.tiff")
    folders = [str(tmp_path / name) for name in ("ir", "vis")]
    ranges = ["--ir-range", "-20,60", "--vis-range", "0,4000", "--no-align"]
    out = tmp_path / "out"
    assert cli.main(["fuse", *folders, "-o", str(out), *ranges]) == 0
    with Image.open(out / "a.tiff") as fused:
        assert fused.mode == "F"
        assert np.asarray(fused).max() > 1000
    assert cli.main(["register", *folders, "-o", str(out), *ranges[:-1]]) == 0
    with Image.open(out / "a.tif") as registered:
        assert registered.mode == "F"
        assert np.abs(np.median(registered) - np.median(celsius)) < 5


def test_resume_leaves_out_what_is_there(folders, capsys):
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    (folders / "vis/b.jpg").rename(folders / "b.jpg")
    assert cli.main(arguments) == 1
    (folders / "b.jpg").rename(folders / "vis/b.jpg")
    before = (folders / "out/a.png").stat().st_mtime_ns
    capsys.readouterr()
    assert cli.main([*arguments, "--resume"]) == 0
    said = capsys.readouterr()
    assert "2 pairs are done already" in said.err
    assert said.out.splitlines() == [str(folders / "out/b.png")]
    assert (folders / "out/a.png").stat().st_mtime_ns == before
    rows = table(folders / "out/registrations.csv")
    assert sorted(row["pair"] for row in rows) == ["a", "b", "c"]
    assert all(row["confidence"] and not row["error"] for row in rows)
    assert cli.main([*arguments, "--resume"]) == 0
    assert len(table(folders / "out/registrations.csv")) == 3


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: not enough memory"
        ),
    ],
)
def test_a_pair_too_large_for_the_memory_ends_no_run(folders, monkeypatch, capsys, error):
    def fuse(infrared, visible, **options):
        if infrared.stem == "b":
            raise error
        return SimpleNamespace(registration=None, save=lambda path, **options: None)

    monkeypatch.setattr("umfuse.api.fuse", fuse)
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    assert cli.main(arguments) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "b.png" in said.err
    assert "not enough memory" in said.err


def test_an_error_of_ours_is_not_taken_for_a_lack_of_memory(folders, monkeypatch):
    def fuse(infrared, visible, **options):
        raise RuntimeError("a bug")

    monkeypatch.setattr("umfuse.api.fuse", fuse)
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(arguments)


@pytest.mark.parametrize("option", [["--range=-10,60"], ["--range", "-10,60"]])
def test_ranges_may_be_negative(option, pair, tmp_path, monkeypatch):
    seen = {}

    def fuse(infrared, visible, **options):
        seen.update(options)
        return SimpleNamespace(registration=None, save=lambda path, **options: None)

    monkeypatch.setattr("umfuse.api.fuse", fuse)
    assert (
        cli.main(["fuse", *pair, "-o", str(tmp_path / "o.png"), *option, "--rotation", "-4"]) == 0
    )
    assert seen["ir_range"] == (-10, 60)
    assert seen["rotation"] == -4


def test_folder_run_reports_what_is_wrong_and_goes_on(folders, capsys):
    damaged = folders / "ir/b.png"
    damaged.write_bytes(damaged.read_bytes()[:500])
    (folders / "vis/c.jpg").rename(folders / "vis/d.jpg")
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    assert cli.main([*arguments, "--no-align"]) == 1
    assert [path.name for path in (folders / "out").iterdir()] == ["a.png"]
    said = capsys.readouterr().err
    assert "b.png" in said
    assert "c.png has no partner" in said
    assert "d.jpg has no partner" in said
    assert "3 of 4 failed" in said


def test_two_images_of_one_stem_are_reported(folders, capsys):
    (folders / "ir/a.tif").write_bytes((folders / "ir/a.png").read_bytes())
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    assert cli.main([*arguments, "--no-align"]) == 1
    assert "same stem" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fuse", "{ir}", "missing.png", "-o", "{out}"], "missing.png does not exist"),
        (["fuse", "{ir}", "{dir}", "-o", "{out}"], "not one of each"),
        (["fuse", "{ir}", "{vis}", "-o", "{dir}"], "is a folder"),
        (["fuse", "{dir}", "{empty}", "-o", "{out}"], "holds no image"),
        (["fuse", "{ir}", "{ir}", "-o", "{out}"], "are one file"),
        (["fuse", "{dir}", "{dir}", "--pair", "stem", "-o", "{out}"], "its own partner"),
        (["fuse", "{dir}", "{dir}", "--pair", "odd", "-o", "{out}"], "expected one of stem, order"),
        (["fuse", "{ir}", "{vis}", "-o", "{ir}"], "would take the place of an image"),
        (["register", "{ir}", "{vis}", "-o", "{out}", "--sheet", "{vis}"], "would take the place"),
        (["fuse", "{ir}", "{vis}", "-o", "{out}", "--pair", "order"], "are for folders"),
        (["fuse", "{ir}", "{vis}", "-o", "{out}", "--format", "tif"], "are for folders"),
    ],
)
def test_usage_errors(arguments, message, pair, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {
        "ir": pair[0],
        "vis": pair[1],
        "out": str(tmp_path / "o.png"),
        "dir": str(tmp_path),
        "empty": str(tmp_path / "empty"),
    }
    assert cli.main([word.format(**places) for word in arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["hot", "1,2,3", "a,b"])
def test_range_must_be_known(text, pair, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["fuse", *pair, "-o", str(tmp_path / "o.png"), "--range", text])
    assert stop.value.code == 2
    assert "LOW,HIGH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--range", "5,5"], "low < high"),
        (["--weights", "no-such-weights"], "unknown weights 'no-such-weights'"),
        (["--device", "quantum"], "no device 'quantum'"),
    ],
)
def test_failures_exit_with_1(options, message, pair, tmp_path, capsys):
    out = tmp_path / "o.png"
    assert cli.main(["fuse", *pair, "-o", str(out), *options]) == 1
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_full_disk_leaves_no_half_file(pair, tmp_path, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = set(tmp_path.iterdir())
    assert cli.main(["fuse", *pair, "-o", str(tmp_path / "o.png"), "--no-align"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


@pytest.fixture
def aligned(tmp_path, scene):
    """A data set of aligned pairs."""
    root = tmp_path / "data"
    for name in ("ir", "vis"):
        (root / name).mkdir(parents=True)
    for stem in ("a", "b"):
        images.save(scene.aligned_infrared, root / f"ir/{stem}.png")
        images.save(scene.visible, root / f"vis/{stem}.png")
    return root


def test_deform_writes_a_data_set(aligned, tmp_path, capsys):
    out = tmp_path / "out"
    assert cli.main(["deform", str(aligned), str(out), "--protocol", "large"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    for stem in ("a", "b"):
        for folder in ("ir", "vis"):  # as they were, to the byte
            name = f"{folder}/{stem}.png"
            assert (out / name).read_bytes() == (aligned / name).read_bytes()
        truth, valid = dataset.read_displacement(out / f"displacement/{stem}.npz")
        still, moved = (
            images.read(out / f"{folder}/{stem}.png", range="dtype").values
            for folder in ("ir", "ir_warp")
        )
        restored, _ = geometry.warp(moved, truth)
        before, after = ((one - still).abs()[valid].mean() for one in (moved, restored))
        assert after < 0.35 * before
    with Image.open(out / "ir_warp/a.png") as image:
        assert image.mode == "I;16"
    one, other = (dataset.read_displacement(out / f"displacement/{s}.npz")[0] for s in "ab")
    assert (one - other).abs().max() > 1  # each pair has its own
    about = json.loads((out / "protocol.json").read_text())
    assert about == {"umfuse": __version__, "protocol": "large", "size": None, "seed": 0}


def test_deform_is_decided_by_protocol_seed_and_name(aligned, tmp_path):
    def field(*options):
        out = tmp_path / "-".join(options)
        assert cli.main(["deform", str(aligned), str(out), "--protocol", *options]) == 0
        return dataset.read_displacement(out / "displacement/b.npz")[0]

    first = field("paper")
    (aligned / "ir/a.png").unlink()
    (aligned / "vis/a.png").unlink()
    assert torch.equal(field("paper", "--seed", "0"), first)
    assert not torch.equal(field("paper", "--seed", "1"), first)
    assert not torch.equal(field("large"), first)


def test_deform_resizes(aligned, tmp_path, scene):
    images.save(scene.infrared, aligned / "ir/a.tif")  # 128 x 160, where vis has 240 x 320
    (aligned / "ir/a.png").unlink()
    out = tmp_path / "out"
    assert cli.main(["deform", str(aligned), str(out), "--protocol", "paper"]) == 1
    command = ["deform", str(aligned), str(out), "--protocol", "paper", "--size", "64"]
    assert cli.main(command) == 0
    for name in ("ir/a.tif", "ir_warp/a.tif", "vis/a.png", "ir/b.png", "ir_warp/b.png"):
        assert size_of(out / name) == (64, 64)
    assert dataset.read_displacement(out / "displacement/a.npz")[0].shape == (1, 2, 64, 64)


def test_deform_reports_what_is_wrong(aligned, tmp_path, capsys):
    (aligned / "vis/a.png").unlink()
    images.save(np.zeros((20, 20), np.uint8), aligned / "ir/c.png")
    images.save(np.zeros((20, 30), np.uint8), aligned / "vis/c.png")
    out = tmp_path / "out"
    assert cli.main(["deform", str(aligned), str(out), "--protocol", "paper"]) == 1
    said = capsys.readouterr().err
    assert "a.png has no partner" in said
    assert "c: the infrared image has 20 x 20 pixels, the visible one 30 x 20" in said
    assert "2 of 3 failed" in said
    assert [path.name for path in (out / "ir_warp").iterdir()] == ["b.png"]
    assert not (out / "ir/c.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deform", "{data}/ir", "{out}"], "ir does not exist"),
        (["deform", "{data}", "{data}"], "OUT must be another folder"),
        (["deform", "{data}", "{out}", "--size", "4"], "at least 8"),
        (["deform", "{empty}", "{out}"], "no image in"),
        (["evaluate", "{data}/ir", "{data}/ir"], "ir does not exist"),
        (["evaluate", "{empty}", "{data}"], "could be measured"),
        (["evaluate", "{data}/ir", "{data}", "--sheets", "1"], "give -o"),
        (["evaluate", "{data}/ir", "{data}", "--sheets", "-1"], "must not be negative"),
        (["evaluate", "{data}/ir", "{data}", "--rank-by", "PSNR"], "cannot rank by"),
        (["evaluate", "{data}/ir", "{data}", "--no-align"], "not for a folder"),
    ],
)
def test_usage_errors_of_data_sets(arguments, message, aligned, tmp_path, capsys):
    for name in ("ir", "vis"):
        (tmp_path / "empty" / name).mkdir(parents=True)
    places = {"data": aligned, "empty": tmp_path / "empty", "out": tmp_path / "out"}
    if arguments[0] == "deform":
        arguments = [*arguments, "--protocol", "paper"]
    assert cli.main([word.format(**places) for word in arguments]) == 2
    assert message in capsys.readouterr().err


def test_evaluate_prints_a_table_and_saves_the_rest(aligned, tmp_path, capsys):
    out = tmp_path / "scores"
    arguments = ["evaluate", str(aligned / "ir"), str(aligned), "--task", "registration"]
    assert cli.main([*arguments, "-o", str(out), "--sheets", "1", "--rank-by", "MI"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("| registration, 2 pairs | better | result")
    assert "| MSE                   | lower  | 0 [0, 0]" in captured.out
    assert json.loads((out / "report.json").read_text())["result"]["mean"]["MSE"] == 0
    assert len((out / "scores.csv").read_text().splitlines()) == 3
    assert len(list((out / "sheets").iterdir())) == 2
    assert str(out / "scores.csv") in captured.err


def test_evaluate_fuses_with_weights(aligned, capsys):
    (aligned / "ir/a.png").unlink()
    assert cli.main(["evaluate", "embedded", str(aligned)]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("| fusion, 1 pair")
    assert "vis/a.png has no partner" in captured.err.replace("\\", "/")


def test_evaluate_refuses_unknown_weights(aligned, capsys):
    assert cli.main(["evaluate", "no-such-weights", str(aligned)]) == 1
    assert "unknown weights 'no-such-weights'" in capsys.readouterr().err


def test_protocols_have_a_name_on_the_command_line():
    assert tuple(PROTOCOLS) == deform.PROTOCOLS


def test_weights_list_and_download(capsys):
    assert cli.main(["weights", "list"]) == 0
    assert "embedded: in the package, default" in capsys.readouterr().out
    assert cli.main(["weights", "download"]) == 0
    assert "embedded" in capsys.readouterr().out
    assert cli.main(["weights", "download", "no-such-weights"]) == 1


def test_help_does_not_wait_for_torch():
    code = "import sys, umfuse.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_threads_do_not_spin_while_they_wait():
    code = "import os, umfuse; print(os.environ['OMP_WAIT_POLICY'])"
    for said, expected in ({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | said
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.split()[-1] == expected


def test_module_is_the_command():
    run = subprocess.run(
        [sys.executable, "-m", "umfuse", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("umfuse ")


# ---- what is not trusted -------------------------------------------------------------------------


@pytest.fixture
def doubtful(folders):
    """Three pairs, of which b shows two different things; the arguments of a run."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 120), dtype=np.uint8)
    images.save(noise, folders / "ir/b.png")
    return [str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_folder_run_writes_what_was_found(doubtful, folders, capsys, caplog):
    (folders / "vis/c.jpg").write_bytes(b"")
    images.save(np.zeros((20, 20), np.uint8), folders / "ir/d.png")
    assert cli.main(["fuse", *doubtful]) == 1
    alone, a, b, c = table(folders / "out/registrations.csv")
    assert alone["pair"] == ""
    assert "d.png has no partner" in alone["error"]
    assert [one["pair"] for one in (a, b, c)] == ["a", "b", "c"]
    assert a["method"] in ("search", "dense")
    assert float(a["confidence"]) > 0.6 > 0.3 > float(b["confidence"])
    assert float(a["log_likelihood"]) > 20
    assert float(a["correlation"]) > 0.1
    assert b["method"] == "resize"
    assert a["error"] == b["error"] == c["method"] == c["confidence"] == ""
    assert "c.jpg" in c["error"]
    assert (folders / "out/b.png").is_file()
    doubts = [one.getMessage() for one in caplog.records if "doubtful" in one.getMessage()]
    assert len(doubts) == 1
    assert str(folders / "ir/b.png") in doubts[0]


def test_raise_fails_the_pair_and_goes_on(doubtful, folders, capsys):
    other = folders / "table.csv"
    command = ["register", *doubtful, "--on-failure", "raise", "--report", str(other)]
    assert cli.main(command) == 1
    assert sorted(path.name for path in (folders / "out").iterdir()) == ["a.png", "c.png"]
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "b.png" in said.err
    assert "1 of 3 failed" in said.err
    a, b, c = table(other)
    assert "doubtful" in b["error"]
    assert float(b["confidence"]) < 0.3
    assert a["error"] == c["error"] == ""


def test_a_threshold_of_0_trusts_everything(doubtful, folders, caplog):
    command = ["register", *doubtful, "--on-failure", "raise", "--min-confidence", "0"]
    assert cli.main(command) == 0
    assert len(table(folders / "out/registrations.csv")) == 3


def test_visible_writes_the_visible_image(doubtful, folders, caplog):
    assert cli.main(["fuse", *doubtful, "--on-failure", "visible"]) == 0
    with Image.open(folders / "out/b.png") as fused, Image.open(folders / "vis/b.jpg") as visible:
        assert np.array_equal(np.asarray(fused), np.asarray(visible))
    assert "doubtful" not in caplog.text


def test_one_pair_has_a_table_where_asked(pair, tmp_path):
    out, written = tmp_path / "fused.png", tmp_path / "r.csv"
    assert cli.main(["fuse", *pair, "-o", str(out)]) == 0
    assert not list(tmp_path.glob("*.csv"))
    assert cli.main(["fuse", *pair, "-o", str(out), "--no-align", "--report", str(written)]) == 0
    (row,) = table(written)
    assert row["pair"] == "ir"
    assert row["method"] == row["confidence"] == row["error"] == ""


def test_table_that_cannot_be_written_is_said_before_the_work(pair, tmp_path, capsys):
    missing = str(tmp_path / "missing/r.csv")
    out = tmp_path / "fused.png"
    assert cli.main(["fuse", *pair, "-o", str(out), "--no-align", "--report", missing]) == 1
    assert "the folder" in capsys.readouterr().err
    assert not out.exists()


def test_table_is_whole_after_ctrl_c(folders, monkeypatch):
    done = []

    def fuse(infrared, visible, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(infrared)
        return SimpleNamespace(registration=None, save=lambda path, **options: None)

    monkeypatch.setattr("umfuse.api.fuse", fuse)
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    assert cli.main(arguments) == 130
    assert [row["pair"] for row in table(folders / "out/registrations.csv")] == ["a", "b"]
    assert [path.name for path in (folders / "out").iterdir()] == ["registrations.csv"]


def test_table_is_written_while_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PAUSE", 0.0)
    with report.Report(tmp_path / "r.csv") as rows:
        assert table(tmp_path / "r.csv") == []
        rows.add("a", None, "two\nlines, and a comma")
        assert table(tmp_path / "r.csv")[0]["error"] == "two lines, and a comma"


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("fuse", ["--min-confidence", "2"], "a number from 0 to 1"),
        ("fuse", ["--min-confidence", "high"], "a number from 0 to 1"),
        ("fuse", ["--on-failure", "cry"], "invalid choice"),
        ("register", ["--on-failure", "visible"], "invalid choice"),
    ],
)
def test_usage_errors_of_failures(command, options, message, pair, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, *pair, "-o", str(tmp_path / "o.png"), *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fuse", "register"])
def test_help_says_the_exit_codes(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")  # or argparse breaks lines inside of options
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "1 if a pair failed or, with --on-failure raise, was below --min-confidence" in said


def test_the_threshold_is_that_of_the_library():
    assert common.MIN_CONFIDENCE == api.DOUBTFUL


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("give band=2, or nodata=-9999", "give --band 2, or --nodata -9999"),
        ("vis_band=(3, 2, 1)", "--vis-band (3, 2, 1)"),
        ("leave out min_confidence=.5", "leave out --min-confidence .5"),
        ("align=False or registration=FILE", "--no-align or --registration FILE"),
        ("husband=1, x.band=2, band= 3", "husband=1, x.band=2, band= 3"),
    ],
)
def test_messages_in_the_words_of_the_command_line(said, told):
    assert common.as_options(ValueError(said)) == told


def test_what_the_program_says_of_a_stack_can_be_done(scene, tmp_path):
    pages = [Image.fromarray(scene.infrared)] * 3
    pages[0].save(tmp_path / "ir.tif", save_all=True, append_images=pages[1:])
    images.save(scene.visible, tmp_path / "vis.png")
    arguments = ["fuse", "ir.tif", "vis.png", "-o", "o.png", "--no-align"]
    run = [sys.executable, "-m", "umfuse", *arguments]
    first = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    advised = re.search(r"--band \d", first.stderr)
    assert advised is not None, first.stderr
    run += advised[0].split()
    again = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "pages" not in again.stderr

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from umfuse import cli, demo, files, images, weights


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


def test_fuse_without_registration(pair, tmp_path):
    out = tmp_path / "fused.png"
    arguments = ["fuse", *pair, "-o", str(out), "--no-register", "--sheet", str(tmp_path / "s.png")]
    assert cli.main(arguments) == 0
    assert size_of(out) == (320, 240)


def test_folders_pair_by_stem(folders, capsys):
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    assert cli.main([*arguments, "--no-register", "--sheet", str(folders / "sheets")]) == 0
    names = ["a.png", "b.png", "c.png"]
    assert sorted(path.name for path in (folders / "out").iterdir()) == names
    assert sorted(path.name for path in (folders / "sheets").iterdir()) == names
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_folder_run_reports_what_is_wrong_and_goes_on(folders, capsys):
    damaged = folders / "ir/b.png"
    damaged.write_bytes(damaged.read_bytes()[:500])
    (folders / "vis/c.jpg").rename(folders / "vis/d.jpg")
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    assert cli.main([*arguments, "--no-register"]) == 1
    assert [path.name for path in (folders / "out").iterdir()] == ["a.png"]
    said = capsys.readouterr().err
    assert "b.png" in said
    assert "c.png has no partner" in said
    assert "d.jpg has no partner" in said
    assert "3 of 4 failed" in said


def test_two_images_of_one_stem_are_reported(folders, capsys):
    (folders / "ir/a.tif").write_bytes((folders / "ir/a.png").read_bytes())
    arguments = ["fuse", str(folders / "ir"), str(folders / "vis"), "-o", str(folders / "out")]
    assert cli.main([*arguments, "--no-register"]) == 1
    assert "same stem" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fuse", "{ir}", "missing.png", "-o", "{out}"], "missing.png does not exist"),
        (["fuse", "{ir}", "{dir}", "-o", "{out}"], "not one of each"),
        (["fuse", "{ir}", "{vis}", "-o", "{dir}"], "is a folder"),
        (["fuse", "{dir}", "{empty}", "-o", "{out}"], "no image in"),
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

    monkeypatch.setattr(files.os, "fsync", full)
    before = set(tmp_path.iterdir())
    assert cli.main(["fuse", *pair, "-o", str(tmp_path / "o.png"), "--no-register"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert set(tmp_path.iterdir()) == before


def test_demo_needs_no_data(tmp_path, capsys):
    assert cli.main(["demo", "-o", str(tmp_path / "demo")]) == 0
    captured = capsys.readouterr()
    for line in captured.out.splitlines():
        assert size_of(line)
    assert len(captured.out.splitlines()) == 5
    assert "mean error" in captured.err


def test_weights_list_and_download(capsys):
    assert cli.main(["weights", "list"]) == 0
    assert "embedded: in the package, default" in capsys.readouterr().out
    assert cli.main(["weights", "download"]) == 0
    assert "embedded" in capsys.readouterr().out
    assert cli.main(["weights", "download", "no-such-weights"]) == 1


def test_weights_publish_writes_the_manifest(tmp_path, monkeypatch, capsys):
    entry = {"repo_id": "org/mine", "revision": "0" * 40}
    monkeypatch.setattr(weights, "publish", lambda source, repo: {**entry, "source": source})
    manifest = tmp_path / "weights.json"
    manifest.write_text('{"default": "embedded", "weights": {}}')
    assert cli.main(["weights", "publish", "org/mine", "--manifest", str(manifest)]) == 0
    assert json.loads(manifest.read_text())["weights"]["mine"]["revision"] == "0" * 40
    assert json.loads(capsys.readouterr().out)["mine"]["repo_id"] == "org/mine"
    missing = str(tmp_path / "none.json")
    assert cli.main(["weights", "publish", "org/mine", "--manifest", missing]) == 2


def test_help_does_not_wait_for_torch():
    code = "import sys, umfuse.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_module_is_the_command():
    run = subprocess.run(
        [sys.executable, "-m", "umfuse", "--version"], capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("umfuse ")

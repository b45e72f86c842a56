"""Runs of folders that are stopped, and that lack room, rights or files: nothing is lost.

`benchmarks.kills` does the same for longer; what training loses is in test_cli_train.py.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from room import room

from umfuse import api, cli

posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits and signals")
STEMS = "abcd"


@pytest.fixture
def folders(tmp_path):
    """Four pairs that are done quickly: the infrared camera's shutter is closed."""
    rng = np.random.default_rng(0)
    for name in ("ir", "vis"):
        (tmp_path / name).mkdir()
        for grey, stem in enumerate(STEMS):
            image = np.full((48, 60), grey, np.uint8)
            if name == "vis":
                image = rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / name / f"{stem}.png")
    return tmp_path


def fuse(folders: Path, *words: object) -> int:
    every = (folders / "ir", folders / "vis", "-o", folders / "out", "--device", "cpu", *words)
    return cli.main(["fuse", *map(str, every)])


def table(folders: Path) -> list[dict[str, str]]:
    with (folders / "out/registrations.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_pair_that_the_table_lacks_is_done_again(folders, capsys):
    """The table is written every few seconds: a run that is killed leaves images without a row."""
    assert fuse(folders) == 0
    whole = contents(folders / "out")
    path = folders / "out/registrations.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    capsys.readouterr()
    assert fuse(folders, "--resume") == 0
    said = capsys.readouterr()
    assert [Path(line).stem for line in said.out.splitlines()] == ["c", "d"]
    assert "2 pairs are done already" in said.err
    assert contents(folders / "out") == whole


def test_without_a_table_images_alone_say_what_is_done(folders, capsys):
    assert fuse(folders, "--no-align") == 0
    assert not (folders / "out/registrations.csv").exists()
    (folders / "out/b.png").unlink()
    capsys.readouterr()
    assert fuse(folders, "--no-align", "--resume") == 0
    assert [Path(line).stem for line in capsys.readouterr().out.splitlines()] == ["b"]
    assert fuse(folders, "--no-align", "--resume") == 0
    assert not capsys.readouterr().out


def test_rows_are_in_one_order_however_often_a_run_was_stopped(folders):
    (folders / "vis/b.png").unlink()
    assert fuse(folders) == 1
    rows = table(folders)
    assert [row["pair"] for row in rows] == ["", "a", "c", "d"]
    (folders / "out/a.png").unlink()
    assert fuse(folders, "--resume") == 1
    assert table(folders) == rows


@posix
@pytest.mark.parametrize("size", [10, 400, 5000])
def test_a_full_disk_loses_nothing(folders, size, capsys):
    assert fuse(folders, "--sheet", folders / "straight") == 0
    straight = contents(folders / "out")
    shutil.rmtree(folders / "out")
    with room(size):
        assert fuse(folders, "--sheet", folders / "sheets") == 1
    assert "cannot write" in capsys.readouterr().err
    for name, content in contents(folders / "out").items():
        assert name == "registrations.csv" or content == straight[name]
    assert fuse(folders, "--sheet", folders / "sheets", "--resume") == 0
    assert contents(folders / "out") == straight
    assert contents(folders / "sheets") == contents(folders / "straight")


def test_images_that_vanish_fail_alone(folders, monkeypatch, capsys):
    def fused(infrared, visible, **options):
        for kind, stem in (("ir", "b"), ("vis", "c")):
            (folders / kind / f"{stem}.png").unlink(missing_ok=True)
        return whole(infrared, visible, **options)

    whole = api.fuse
    monkeypatch.setattr("umfuse.fuse", fused)
    assert fuse(folders) == 1
    said = capsys.readouterr()
    assert [Path(line).stem for line in said.out.splitlines()] == ["a", "d"]
    assert "b.png does not exist" in said.err
    assert "2 of 4 failed" in said.err
    errors = {row["pair"]: row["error"] for row in table(folders)}
    assert "c.png does not exist" in errors["c"]
    assert errors["a"] == errors["d"] == ""


def test_a_folder_that_vanishes_is_told(folders, capsys):
    shutil.rmtree(folders / "ir")
    assert fuse(folders) == 2
    assert "ir" in capsys.readouterr().err


def command(*words: object) -> list[str]:
    """`umfuse` as somebody who may not write where it is forbidden, which root may."""
    able: list[str] = []
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and there is no setpriv")
        able = ["setpriv", "--bounding-set=-dac_override"]
    return [*able, sys.executable, "-m", "umfuse", *map(str, words)]


@posix
def test_a_folder_that_may_not_be_written_to_is_told(folders):
    (folders / "out").mkdir()
    (folders / "out").chmod(0o555)
    words = command("fuse", folders / "ir", folders / "vis", "-o", folders / "out")
    try:
        for more in ([], ["--no-align"]):
            done = subprocess.run([*words, *more], capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert "cannot write" in done.stderr
            assert "Permission denied" in done.stderr
            assert "Traceback" not in done.stderr
        assert not list((folders / "out").iterdir())
    finally:
        (folders / "out").chmod(0o755)


@posix
def test_ctrl_c_leaves_what_is_done(folders):
    for stem in range(100):  # more than are done before the signal comes
        for kind in ("ir", "vis"):
            shutil.copy(folders / kind / "a.png", folders / kind / f"more{stem:03}.png")
    words = [sys.executable, "-m", "umfuse", "fuse", folders / "ir", folders / "vis"]
    words += ["-o", folders / "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as run:
        done = [run.stdout.readline().strip() for _ in range(2)]
        time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        rest, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "Traceback" not in said
    done += rest.splitlines()
    assert 2 <= len(done) < 104
    assert [row["pair"] for row in table(folders)] == [Path(path).stem for path in done]
    written = {path.name for path in (folders / "out").iterdir()}
    assert written - {"registrations.csv"} >= {Path(path).name for path in done}
    for name in written - {"registrations.csv"}:
        with Image.open(folders / "out" / name) as image:
            image.load()

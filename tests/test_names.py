"""Names of files and folders that are unusual: pairs are found, and results written, all the same.

Letters of any script, line breaks, signs that shells and templates know, bytes that are no text,
links that lead nowhere or to themselves, names that differ by case alone.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from umfuse import cli, images, pairing

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

ODD = [
    *("a b", " a", "a.b.c", "a\nb", "a\tb", "-o", "--help", "%s", "{stem}", "$HOME", "a'b", 'a"b'),
    *("a;b", "a*b?", "[a]", "é", "e\u0301", "名前", "Ünïcode", "🔥", "\u202eabc", "a,b", "#", "~"),
    *("con", "\u200b", "a\\b", "x" * 200),
]
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")


def write(path: Path, seed: int = 0, channels: tuple[int, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    images.save(rng.integers(0, 256, (16, 24, *channels), dtype=np.uint8), path)


def fuse(*words: object) -> int:
    return cli.main(["fuse", *map(str, words), "--no-align", "--device", "cpu"])


# ---- pairing ----------------------------------------------------------------------------

STEMS = st.lists(
    st.one_of(
        st.sampled_from(ODD),
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
        st.text("aAbB.", min_size=1, max_size=3),
    )
    .filter(lambda stem: not stem.startswith(".") and len(stem.encode()) < 200)
    .map(lambda stem: unicodedata.normalize("NFC", stem)),
    max_size=6,
    unique_by=str.casefold,
)


@posix
@given(STEMS, STEMS, st.sampled_from([".png", ".TIF", ".jpeg"]), st.sampled_from([None, "stem"]))
@settings(max_examples=200)
def test_pairs_of_any_names(tmp_path_factory, infrared, visible, suffix, rule) -> None:
    root = tmp_path_factory.mktemp("pairs", numbered=True)
    for name, stems in (("ir", infrared), ("vis", visible)):
        (root / name).mkdir()
        for stem in stems:
            (root / name / f"{stem}{suffix}").touch()
    common = {stem for stem in infrared if stem in visible}
    alone = set(infrared) ^ set(visible)
    if not common:
        with pytest.raises(ValueError, match=r"holds no image|has a partner in") as caught:
            pairing.find(root / "ir", root / "vis", rule)
        assert str(root) in str(caught.value)
        return
    found = pairing.find(root / "ir", root / "vis", rule)
    assert set(found.files) == {Path(f"{stem}{suffix}").stem for stem in common}
    for one, other in found.files.values():
        assert (one.parent.name, other.parent.name) == ("ir", "vis")
        assert one.name == other.name
    assert len(found.problems) == len(alone)


@pytest.mark.parametrize("rule", [None, "{stem}.png,{stem}.png"])
def test_one_letter_in_two_spellings_is_one_name(tmp_path: Path, rule: str | None) -> None:
    """File systems of Macs take letters and their accents apart."""
    for folder, stem in (("ir", "e\u0301"), ("vis", "é")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{stem}.png").touch()
    found = pairing.find(tmp_path / "ir", tmp_path / "vis", rule)
    assert list(found.files) == ["é"]
    assert not found.problems


def test_the_order_loses_no_image_of_a_name_that_comes_twice(tmp_path: Path) -> None:
    for name in ("ir/a.png", "ir/a.tif", "ir/b.png", "vis/1.png", "vis/2.png", "vis/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = pairing.find(tmp_path / "ir", tmp_path / "vis", "order")
    assert {name: other.name for name, (_, other) in found.files.items()} == {
        "a.png": "1.png",
        "a.tif": "2.png",
        "b": "3.png",
    }


def test_no_name_leads_out_of_the_folder_of_results(tmp_path: Path) -> None:
    for name in ("z_.._x_T.png", "z_.._x_W.png", "z_a_x_T.png", "z_a_x_W.png"):
        (tmp_path / name).touch()
    found = pairing.find(tmp_path, tmp_path, "z_{a}_{b}_T,z_{a}_{b}_W")
    assert list(found.files) == ["a/x"]


def test_folders_that_are_links_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="loop"):
        pairing.find(tmp_path / "loop", tmp_path / "loop", "order")
    write(tmp_path / "s/lwir/1.png")
    write(tmp_path / "s/visible/1.png")
    (tmp_path / "s/lwir/again").symlink_to(tmp_path / "s", target_is_directory=True)
    assert list(pairing.find(tmp_path, tmp_path, "kaist").files) == ["s/1"]


# ---- the command ------------------------------------------------------------------------


@posix
def test_results_have_the_names_of_the_images(tmp_path: Path, capfd) -> None:
    names = {unicodedata.normalize("NFC", name) for name in ODD}
    for seed, name in enumerate(sorted(names)):
        write(tmp_path / "ir" / f"{name}.png", seed)
        write(tmp_path / "vis" / f"{name}.png", seed, (3,))
    out = tmp_path / "out"
    assert fuse(tmp_path / "ir", tmp_path / "vis", "-o", out) == 0
    assert {path.stem for path in out.iterdir()} == names
    printed = capfd.readouterr().out
    assert all(f"{out / name}.png" in printed for name in names)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="needs names of any bytes")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"th\xe9")
    for folder in ("ir", "vis"):
        write(tmp_path / folder / f"{name}.png")
        write(tmp_path / folder / "b.png", 1)
    (tmp_path / "ir/b.png").write_bytes(b"damaged")
    write(tmp_path / "ir" / os.fsdecode(b"\xff.png"))
    out = tmp_path / "out"
    table = out / "table.csv"
    words = [tmp_path / "ir", tmp_path / "vis", "-o", out, "--report", table]
    run = subprocess.run(
        [sys.executable, "-m", "umfuse", "fuse", *words, "--no-align", "--device", "cpu"],
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 1
    assert (out / f"{name}.png").is_file()
    assert run.stdout == os.fsencode(out / f"{name}.png") + b"\n"
    assert b"2 of 3 failed" in run.stderr
    assert fuse(*words, "--resume") == 1
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = {row["pair"]: row["error"] for row in csv.DictReader(file)}
    assert rows[name] == ""
    assert "b" in rows


def test_links_that_lead_nowhere_end_no_run(tmp_path: Path, capsys) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "ir" / f"{name}.png")
        write(tmp_path / "vis" / f"{name}.png", 1)
    for name, target in (("b", "b.png"), ("c", "nothing.png")):
        (tmp_path / "ir" / f"{name}.png").unlink()
        (tmp_path / "ir" / f"{name}.png").symlink_to(tmp_path / "ir" / target)
    (tmp_path / "ir/folder.png").mkdir()
    out = tmp_path / "out"
    assert fuse(tmp_path / "ir", tmp_path / "vis", "-o", out) == 1
    assert [path.name for path in out.iterdir()] == ["a.png"]
    said = capsys.readouterr().err
    assert "3 of 4 failed" in said
    assert "c.png does not exist" in said


def sensitive(folder: Path) -> bool:
    """Whether a folder tells names apart that differ by case alone."""
    (folder / "probe").touch()
    return not (folder / "PROBE").exists()


def test_names_that_differ_by_case_alone(tmp_path: Path, capsys, monkeypatch) -> None:
    if not sensitive(tmp_path):
        pytest.skip("there are no two such files here")
    for number, name in enumerate(("a", "A", "b")):
        write(tmp_path / "ir" / f"{name}.png", number)
        write(tmp_path / "vis" / f"{name}.png", number + 9)
    words = [tmp_path / "ir", tmp_path / "vis", "-o", tmp_path / "out"]
    assert fuse(*words) == 0
    results = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert sorted(results) == ["A.png", "a.png", "b.png"]
    assert results["A.png"] != results["a.png"]
    # On many a memory card the second would take the place of the first.
    monkeypatch.setattr("umfuse.cli.jobs._folds", lambda folder: True)
    assert fuse(*words) == 2
    assert "would be written to one file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--sheet", "{out}"],
        ["--report", "{out}/a.png"],
        ["--report", "{ir}/a.png"],
        ["--save-registration", "{out}", "--report", "{out}/a.npz"],
    ],
)
def test_nothing_takes_the_place_of_another_result(tmp_path: Path, capsys, options) -> None:
    write(tmp_path / "ir/a.png")
    write(tmp_path / "vis/a.png", 1)
    places = {"out": str(tmp_path / "out"), "ir": str(tmp_path / "ir")}
    before = (tmp_path / "ir/a.png").read_bytes()
    words = ["fuse", places["ir"], str(tmp_path / "vis"), "-o", places["out"]]
    assert cli.main([*words, *[word.format(**places) for word in options]]) == 2
    said = capsys.readouterr().err
    assert "would be written to one file" in said or "take the place of an image" in said
    assert (tmp_path / "ir/a.png").read_bytes() == before

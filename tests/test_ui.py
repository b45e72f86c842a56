"""The page to try umfuse: what it says, what it takes, and what it refuses."""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import page_server
import pytest
import thermograms
import torch
from page_server import ask, fuse
from PIL import Image

import umfuse
from umfuse import cli, demo, draw, geometry

ui = pytest.importorskip("umfuse.ui", reason="without the extra ui")
app, points, server, trial, uploads, words = (
    importlib.import_module(f"umfuse.ui.{name}")
    for name in ("app", "points", "server", "trial", "uploads", "words")
)

PAGE = Path(ui.__file__).with_name("page")


def png(image) -> bytes:
    content = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(content, "PNG")
    return content.getvalue()


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def kept(answer, folder: Path) -> umfuse.Registration:
    path = folder / "registration.npz"
    path.write_bytes(base64.b64decode(answer["files"][path.name]))
    return umfuse.Registration.load(path)


@pytest.fixture(scope="module")
def port(model):
    with page_server.serving(ui.application(model)) as port:
        yield port


@pytest.fixture(scope="module")
def turned(scene):
    return page_server.turned(scene)


# ---- three places in both images -----------------------------------------------------------------


def test_three_pairs_are_the_transform_that_they_were_taken_from():
    true = geometry.similarity_transform((30, 20), (12, 35), (1.7, 0.9), 25)
    visible = torch.tensor([[10.0, 12.0], [90.0, 30.0], [40.0, 70.0]], dtype=torch.float64)
    infrared = geometry.project_points(true, visible)
    # The left edge of the first pixel is at a share of 0, its centre at half a pixel.
    shares = (infrared + 0.5) / torch.tensor([300, 240]), (visible + 0.5) / torch.tensor([100, 80])
    pairs = list(zip(*(share.tolist() for share in shares), strict=True))
    found = points.transform(pairs, (240, 300), (80, 100))
    torch.testing.assert_close(found, true, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("infrared", "name"), [(True, "infrared"), (False, "visible")])
def test_places_on_a_line_are_refused(infrared, name):
    line, corner = [(0.1, 0.1), (0.5, 0.51), (0.9, 0.9)], [(0.1, 0.1), (0.9, 0.2), (0.4, 0.9)]
    pairs = list(zip(line, corner, strict=True) if infrared else zip(corner, line, strict=True))
    with pytest.raises(ValueError, match=f"places in the {name} image lie almost on a line"):
        points.transform(pairs, (100, 100), (100, 100))


def test_one_place_three_times_is_refused():
    with pytest.raises(ValueError, match="on a line"):
        points.transform([((0.5, 0.5), (0.5, 0.5))] * 3, (100, 100), (100, 100))


GOOD = [[[0, 0], [0, 1]], [[1, 0], [0.5, 0.25]], [[0, 1], [1, 1]]]


def test_pairs_are_read():
    assert points.parsed(json.dumps(GOOD)) == [tuple(map(tuple, pair)) for pair in GOOD]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "1", "null", "[[[0,0],[0,1]]]", "[" * 100_000),
        json.dumps([*GOOD, GOOD[0]]),
        json.dumps(GOOD).replace("0.25", "1.01"),
        json.dumps(GOOD).replace("0.25", "-0.1"),
        json.dumps(GOOD).replace("0.25", "NaN"),
        json.dumps(GOOD).replace("0.25", "1e999"),
        json.dumps(GOOD).replace("0.25", '"x"'),
        json.dumps(GOOD).replace("0.25", "0.25, 0.25"),
    ],
)
def test_what_are_no_three_pairs_is_refused(text):
    with pytest.raises(ValueError, match="expected 3 pairs of places"):
        points.parsed(text)


# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["search", "points", "camera"])
@pytest.mark.parametrize(
    ("confidence", "level"),
    [(1.0, "good"), (0.8, "good"), (0.79, "unsure"), (0.3, "unsure"), (0.29, "poor"), (0, "poor")],
)
def test_the_confidence_in_words(confidence, level, start):
    registration = umfuse.Registration.from_transform(np.eye(3), (10, 10), (10, 10))
    said = words.of(replace(registration, confidence=confidence), start)
    assert said.level == level
    assert f"{confidence:.2f}" in said.meaning
    used = {"search": "only resized", "points": "your three points", "camera": "camera's own"}
    assert (used[start] in said.meaning) == (level == "poor")
    # Where three points may help, they are named.
    assert ("three places" in said.advice) == (
        level == "unsure" or (level == "poor" and start != "points")
    )


# ---- what may be sent ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("FLIR0123.JPG", ".jpg"),
        ("a.b.tif", ".tif"),
        ("none", ""),
        ("../../etc/passwd", ""),
        ("x./../../y", ""),
        ("x.p/g", ""),
        ("x.png\0.sh", ".sh"),
        ("x.tiff\n", ""),
        ("x.toolong", ""),
    ],
)
def test_of_a_name_no_more_than_a_plain_suffix_is_taken(name, suffix):
    assert uploads.suffix_of(name) == suffix


def test_an_image_with_too_many_pixels_is_refused_by_its_head(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png(Image.new("1", (5000, 4001)))[:60])  # nothing is left to decode
    with pytest.raises(ValueError, match=r"visible: more than 20 megapixels \(5000 x 4001\)"):
        uploads.check(path, "visible")
    path.write_bytes(png(Image.new("1", (5000, 4000))))
    uploads.check(path, "visible")


def test_a_decompression_bomb_is_refused_by_its_head(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = tmp_path / "bomb.png"
    path.write_bytes(png(Image.new("1", (100, 100))))
    with pytest.raises(ValueError, match="visible: more than 20 megapixels, which"):
        uploads.check(path, "visible")


def test_postscript_is_refused_before_anything_runs_it(tmp_path):
    path = tmp_path / "picture.eps"
    Image.new("L", (20, 20)).save(path)
    with pytest.raises(ValueError, match="PostScript is a program"):
        uploads.check(path, "infrared")


def test_the_photo_inside_a_file_is_measured_too(scene, model, tmp_path, monkeypatch):
    file = thermograms.street(scene)
    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=lambda path: file))
    monkeypatch.setattr(uploads, "MAX_PIXELS", 50_000)
    path = thermograms.jpeg(tmp_path / "FLIR0123.jpg", thermograms.FLIR)
    with pytest.raises(ValueError, match=r"visible: more than .* megapixels"):
        trial.attempt(model, path, None)


# ---- a pair --------------------------------------------------------------------------------------


def test_the_example_is_fused(port, tmp_path):
    answer = fuse(port, example="day")
    assert answer.status == 200
    assert answer.json["level"] == "good"
    assert answer.json["notes"] == []
    pair = demo.pair()
    sizes = {name: opened(text).size for name, text in answer.json["pictures"].items()}
    assert sizes.pop("infrared") == (320, 256)
    assert set(sizes) == {
        *("visible", "before", "after", "fused", "displacement", "certainty"),
        *("checkerboard_before", "checkerboard_after"),
    }
    assert set(sizes.values()) == {(640, 480)}
    registration = kept(answer.json, tmp_path)
    grid = geometry.project_grid(torch.from_numpy(pair.transform), (480, 640))
    seen = geometry.inside(grid, (256, 320))[0, 0].numpy()
    off = np.linalg.norm(registration.coordinates - grid[0].movedim(0, -1).numpy(), axis=-1)
    assert off[seen].mean() < 1
    fused = umfuse.fuse(pair.infrared, pair.visible, registration=registration).image
    with opened(answer.json["files"]["fused.png"]) as saved:
        difference = np.asarray(saved).astype(int) - np.asarray(fused)
    assert np.abs(difference).max() <= 1


def test_pictures_show_what_they_are_named_after(port):
    shown = fuse(port, example="day").json["pictures"]
    arrays = {name: np.asarray(opened(text).convert("L")) / 255 for name, text in shown.items()}
    board = np.asarray(draw.checkerboard(opened(shown["after"]), opened(shown["visible"])))
    mine = np.asarray(opened(shown["checkerboard_after"]).convert("RGB"))
    assert np.abs(mine.astype(int) - board).mean() < 3
    pair = demo.pair()
    truth = umfuse.Registration.from_transform(pair.transform, (256, 320), (480, 640))
    right = np.asarray(truth.apply(pair.infrared)).astype(float)
    inside = truth.valid_mask
    after, before = (
        np.corrcoef(right[inside], arrays[name][inside])[0, 1] for name in ("after", "before")
    )
    assert after > 0.97
    assert before < 0.8


def test_three_points_help_where_the_search_finds_nothing(port, turned, tmp_path):
    files = {"infrared": ("t.png", png(turned.infrared)), "visible": ("v.png", png(turned.visible))}
    alone = fuse(port, **files).json
    assert (alone["level"], alone["title"]) == ("poor", "Not aligned")
    helped = fuse(port, **files, points=json.dumps(turned.pairs)).json
    assert (helped["level"], helped["title"]) == ("good", "Aligned from your points")
    registration = kept(helped, tmp_path)
    marked = np.array(page_server.MARKED)
    true = geometry.project_points(torch.from_numpy(turned.transform), torch.from_numpy(marked))
    assert np.abs(registration.map_points(marked) - true.numpy()).max() < 1


def test_points_that_the_images_do_not_confirm_are_used_as_they_are(port, tmp_path):
    rng = np.random.default_rng(0)
    noise = [png(rng.integers(0, 256, size, np.uint8)) for size in ((64, 80), (120, 160, 3))]
    files = {"infrared": ("n.png", noise[0]), "visible": ("m.png", noise[1])}
    answer = fuse(port, **files, points=json.dumps(GOOD)).json
    assert answer["title"] == "Only as your points say"
    expected = points.transform(GOOD, (64, 80), (120, 160)).numpy()
    np.testing.assert_allclose(kept(answer, tmp_path).transform, expected, atol=1e-9)


def test_one_file_of_a_camera_that_takes_both(port, scene, tmp_path, monkeypatch):
    file = thermograms.street(scene)
    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=lambda path: file))
    path = thermograms.jpeg(tmp_path / "FLIR0123.jpg", thermograms.FLIR)
    answer = fuse(port, infrared=("FLIR0123.jpg", path.read_bytes())).json
    assert (answer["level"], answer["title"]) == ("good", "Aligned from the camera's placing")
    assert opened(answer["pictures"]["infrared"]).size == (160, 120)
    assert opened(answer["pictures"]["fused"]).size == (320, 240)
    # Beside its thermal image there is nothing to show, least of all its borders.
    shown = {name: np.asarray(opened(text)) for name, text in answer["pictures"].items()}
    assert shown["after"][:20].max() < 10
    beside = shown["checkerboard_after"][:20].astype(int) - shown["visible"][:20]
    assert np.abs(beside).mean() < 3
    assert np.abs(shown["checkerboard_after"].astype(int) - shown["visible"]).mean() > 10


def test_large_images_are_shown_small_and_kept_whole(port, scene, monkeypatch):
    monkeypatch.setattr(trial, "SIDE", 150)
    files = {"infrared": ("i.png", png(scene.infrared)), "visible": ("v.png", png(scene.visible))}
    answer = fuse(port, **files).json
    assert opened(answer["pictures"]["fused"]).size == (150, 113)
    assert opened(answer["pictures"]["checkerboard_after"]).size == (150, 113)
    assert max(opened(answer["pictures"]["displacement"]).size) <= 150
    assert opened(answer["files"]["fused.png"]).size == (320, 240)


def test_a_visible_image_of_floats_is_kept_as_grey(port, scene):
    grey = Image.fromarray(scene.visible).convert("L")
    floats = Image.fromarray(np.asarray(grey).astype(np.float32) / 255)
    content = io.BytesIO()
    floats.save(content, "TIFF")
    files = {"infrared": ("i.png", png(scene.infrared)), "visible": ("v.tif", content.getvalue())}
    answer = fuse(port, **files)
    assert answer.status == 200, answer.body
    assert opened(answer.json["files"]["fused.png"]).mode.startswith("I")


def test_what_the_log_says_of_the_images_is_on_the_page(port, scene):
    false_colours = np.stack([scene.infrared // 256 % 256] * 3, -1).astype(np.uint8)
    false_colours[..., 0] = 255
    files = {"infrared": ("i.png", png(false_colours)), "visible": ("v.png", png(scene.visible))}
    assert any("in colour" in note for note in fuse(port, **files).json["notes"])


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/file=/etc/passwd", "/gradio_api/file=/etc/passwd", "/file/etc/passwd", "//etc/passwd"),
        *("/../../../../../../etc/passwd", "/..%2f..%2f..%2f..%2fetc%2fpasswd"),
        *("/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/page/../app.py", "/page.js/../app.py"),
        *(
            "/app.py",
            "/static/page.js",
            "/page.js%00.py",
            "/..\\..\\etc\\passwd",
            "/.",
            "/etc/passwd",
        ),
        *("/page.css/../../../../../../../../etc/passwd", "/docs", "/openapi.json", "/tmp/"),
    ],
)
def test_no_file_of_the_server_can_be_read(port, path):
    answer = ask(port, "GET", path)
    assert answer.status == 404
    assert answer.json == {"error": "Not Found"}


def test_names_of_files_lead_nowhere(port, tmp_path):
    target = tmp_path / "written.png"
    for name in (str(target), f"../../../../../../..{target}", "/etc/passwd", "", "x\0.png"):
        answer = fuse(port, infrared=(name, b"junk"), visible=("v.png", b"junk"))
        assert answer.status in (400, 422)
        assert b"root:" not in answer.body
    assert not target.exists()


def test_messages_name_the_files_of_the_visitor_and_none_of_ours(port):
    answer = fuse(port, infrared=("mine.png", b"junk"), visible=("v.png", b"junk"))
    assert answer.status == 422
    assert "mine.png is in no format that can be read" in answer.json["error"]
    assert tempfile.gettempdir() not in answer.json["error"]


SCRAP = {
    **dict.fromkeys(("png", "tiff", "jpeg", "gif", "bmp", "webp", "ppm", "ico", "tga")),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "npz": b"PK\x03\x04",
    "pickle": b"\x80\x04.",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "mp4": b"\0\0\0\x18ftypmp42",
}


@pytest.mark.parametrize("kind", SCRAP)
def test_damaged_files_are_refused_in_words(port, kind):
    content = SCRAP[kind]
    if content is None:
        whole = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(whole, kind)
        content = whole.getvalue()[:400]
    good = png(np.eye(64, dtype=np.uint8) * 255)
    for files in ((content, good), (good, content)):
        names = [(f"{name}.{kind}", file) for name, file in zip("ab", files, strict=True)]
        answer = fuse(port, infrared=names[0], visible=names[1])
        assert answer.status == 422
        assert len(answer.json["error"]) > 20


def test_nothing_stays_on_the_disk(port, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = {"infrared": ("i.png", png(scene.infrared)), "visible": ("v.png", png(scene.visible))}
    assert fuse(port, **files).status == 200
    assert fuse(port, **{**files, "visible": ("v.png", b"junk")}).status == 422
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "there is no infrared image"),
        ({"visible": ("v.png", b"x")}, "there is no infrared image"),
        ({"example": "dusk"}, "there is no infrared image"),
        ({"infrared": "/etc/passwd"}, "there is no infrared image"),
        ({"example": "day", "points": "[]"}, "expected 3 pairs"),
        ({"infrared": ("a.png", png(Image.new("L", (64, 64))))}, "pass the visible image too"),
    ],
)
def test_a_form_that_cannot_be_meant_is_told_why(port, fields, message):
    answer = fuse(port, **fields)
    assert answer.status == 422
    assert message in answer.json["error"]


def test_a_form_of_another_kind_and_a_broken_one(port):
    assert ask(port, "POST", "/fuse", b"example=day").status == 422
    kind = {"Content-Type": "multipart/form-data"}
    assert ask(port, "POST", "/fuse", b"junk", kind).status == 400
    assert ask(port, "GET", "/fuse").status == 405
    body, kind = page_server.form(a="1", b="2", c="3")
    assert ask(port, "POST", "/fuse", body, {"Content-Type": kind}).status == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_more_bytes_than_allowed_are_not_taken(port, monkeypatch, chunked):
    monkeypatch.setattr(uploads, "MAX_BYTES", 2 * 2**20)
    body, kind = page_server.form(infrared=("i.png", bytes(3 * 2**20)))
    content = iter([body]) if chunked else body
    answer = ask(port, "POST", "/fuse", content, {"Content-Type": kind})
    assert answer.status == 413
    assert "more than 2 MB" in answer.json["error"]


def test_other_pages_cannot_use_it(port, model):
    assert fuse(port, {"Origin": "http://elsewhere.example"}, example="dusk").status == 403
    assert fuse(port, {"Origin": "null"}, example="dusk").status == 403
    mine = {"Origin": f"http://127.0.0.1:{port}"}
    assert (
        fuse(port, mine, example="dusk").status == 422
    )  # there is no such example, but it is heard
    with page_server.serving(ui.application(model, server.HERE)) as local:
        for host, status in (("elsewhere.example", 400), ("localhost", 200), ("[::1]:80", 200)):
            assert ask(local, "GET", "/", headers={"Host": host}).status == status


def test_every_answer_says_what_its_page_may_do(port):
    for answer in (
        *(ask(port, "GET", path) for path in ("/", "/page.js", "/points.js", "/page.css", "/no")),
        fuse(port),
    ):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_the_page_asks_nobody_else_for_anything(port):
    for name in ("index.html", "page.js", "points.js", "page.css"):
        text = (PAGE / name).read_text(encoding="utf-8")
        assert not re.search(r"https?:|[\"'(]//|@import", text), name
    assert f'data-max-bytes="{uploads.MAX_BYTES}"' in ask(port, "GET", "/").body.decode()


# ---- one at a time -------------------------------------------------------------------------------


def test_one_pair_at_a_time_and_not_too_many_waiting(monkeypatch):
    at_work, most, released = 0, 0, threading.Event()

    def slow(*_):
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        assert released.wait(30)
        time.sleep(0.01)
        at_work -= 1
        return trial.Trial(words.Words("good", "", "", ""), [], {}, {})

    monkeypatch.setattr(app, "attempt", slow)
    monkeypatch.setattr(app, "WAITING", 3)
    desk = app.Desk(SimpleNamespace())
    monkeypatch.setattr(app, "Desk", lambda model: desk)
    with (
        page_server.serving(ui.application(SimpleNamespace())) as port,
        ThreadPoolExecutor() as pool,
    ):
        asked = [pool.submit(fuse, port, example="day") for _ in range(4)]
        deadline = time.monotonic() + 30
        while desk.turn.statistics().tasks_waiting < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        refused = fuse(port, example="day")
        assert ask(port, "GET", "/").status == 200  # the page is there all the time
        released.set()
        assert [one.result().status for one in asked] == [200] * 4
    assert refused.status == 503
    assert "too many people" in refused.json["error"]
    assert most == 1


def test_who_has_gone_is_not_worked_for(monkeypatch):
    began, released, count = threading.Event(), threading.Event(), 0

    def slow(*_):
        nonlocal count
        count += 1
        began.set()
        assert released.wait(30)
        return trial.Trial(words.Words("good", "", "", ""), [], {}, {})

    monkeypatch.setattr(app, "attempt", slow)
    desk = app.Desk(SimpleNamespace())
    monkeypatch.setattr(app, "Desk", lambda model: desk)
    with (
        page_server.serving(ui.application(SimpleNamespace())) as port,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(fuse, port, example="day")
        assert began.wait(30)
        body, kind = page_server.form(example="day")
        with socket.create_connection(("127.0.0.1", port)) as gone:
            head = f"POST /fuse HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
            gone.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            deadline = time.monotonic() + 30
            while not desk.turn.statistics().tasks_waiting and time.monotonic() < deadline:
                time.sleep(0.01)
        time.sleep(0.1)
        released.set()
        assert first.result().status == 200
        assert fuse(port, example="day").status == 200
    assert count == 2


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (MemoryError(), 413, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 413, "not enough memory"),
        (RuntimeError("a secret of the server"), 500, "something went wrong"),
        (FileNotFoundError("gone"), 422, "gone"),
    ],
)
def test_errors_of_a_pair_are_told(error, status, message, monkeypatch):
    def broken(*_):
        raise error

    monkeypatch.setattr(app, "attempt", broken)
    with page_server.serving(ui.application(SimpleNamespace())) as port:
        answer = fuse(port, example="day")
    assert answer.status == status
    assert message in answer.json["error"]
    assert "secret" not in answer.json["error"]


# ---- the command ---------------------------------------------------------------------------------

interruptible = pytest.mark.skipif(sys.platform == "win32", reason="no other process sends Ctrl-C")


@interruptible
def test_the_command_serves_until_ctrl_c():
    command = [sys.executable, "-m", "umfuse", "demo", "--serve", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        url = run.stdout.readline()
        port = int(re.match(r"http://127\.0\.0\.1:(\d+)/ ", url)[1])
        assert b"<h1>umfuse</h1>" in ask(port, "GET", "/").body
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=20)
    assert (run.returncode, errors) == (0, "")


@pytest.mark.slow
@interruptible
def test_ctrl_c_lets_the_pair_in_work_be_finished(turned):
    files = {"infrared": ("i.png", png(turned.infrared)), "visible": ("v.png", png(turned.visible))}
    command = [sys.executable, "-m", "umfuse", "demo", "--serve", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as run, ThreadPoolExecutor() as pool:
        port = int(re.search(r":(\d+)/", run.stdout.readline())[1])
        asked = []
        for _ in range(2):
            asked.append(pool.submit(fuse, port, **files))
            time.sleep(0.5)
        run.send_signal(signal.SIGINT)
        assert [one.result().status for one in asked] == [200, 503]
        _, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (0, "")


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["demo", "--serve", "--port", str(port)]) == 1
    assert f"cannot listen at 127.0.0.1, port {port}" in capsys.readouterr().err
    assert cli.main(["demo", "--serve", "--port", "99999"]) == 1
    assert "expected a port from 0 to 65535" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *(("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)),
        *(("::", False), ("192.168.1.7", False), ("camera.local", False), ("", False)),
    ],
)
def test_an_address_that_others_reach_is_warned_of(host, local, monkeypatch, capsys):
    served = []
    monkeypatch.setattr(ui, "serve", lambda *arguments: served.append(arguments[1:3]))
    assert cli.main(["demo", "--serve", "--host", host, "--port", "1"]) == 0
    assert served == [(host, 1)]
    assert ("there is no password" in capsys.readouterr().err) == (not local)


def test_urls_can_be_typed():
    assert server.url("127.0.0.1", 80) == "http://127.0.0.1:80/"
    assert server.url("::1", 80) == "http://[::1]:80/"
    assert server.url("0.0.0.0", 80) == f"http://{socket.gethostname()}:80/"


def test_without_the_extra_the_command_names_it(monkeypatch, capsys):
    monkeypatch.delattr(umfuse, "ui")
    for module in [name for name in sys.modules if name.startswith("umfuse.ui")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    assert cli.main(["demo", "--serve"]) == 2
    assert "pip install 'umfuse[ui]'" in capsys.readouterr().err


# ---- files of real cameras -----------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("UMFUSE_DATA"), reason="needs UMFUSE_DATA")
def test_real_radiometric_files(port):
    pytest.importorskip("flyr")
    folder = Path(os.environ["UMFUSE_DATA"]) / "flir_rjpeg"
    files = {name: next(folder.glob(f"{name}.*")) for name in ("FLIR_E40", "FLIR_AX8")}
    answers = [fuse(port, infrared=(file.name, file.read_bytes())) for file in files.values()]
    assert [answer.status for answer in answers] == [422, 200]
    assert "holds temperatures, but no photo" in answers[0].json["error"]
    assert answers[1].json["title"] == "Aligned from the camera's placing"

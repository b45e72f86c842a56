"""The page to try umfuse as people use it: in a browser, wide and narrow, by mouse and finger."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import page_server
import pytest
import thermograms
from PIL import Image

import umfuse
from umfuse import images

ui = pytest.importorskip("umfuse.ui", reason="without the extra ui")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here"),
]

QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
WIDE = {"viewport": {"width": 1200, "height": 900}}
PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
PATIENCE = 120_000  # milliseconds, for a pair on a busy machine


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(model):
    with page_server.serving(ui.application(model)) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def visit(browser, address):
    """Opens the page; at the end nothing was asked of anybody else, and nothing went wrong."""
    contexts, asked, wrong = [], [], []

    def opened(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert asked
    assert [url for url in asked if not url.startswith((address, f"blob:{address}"))] == []
    assert [text for text in wrong if "status of 422" not in text] == []


@pytest.fixture(scope="module")
def files(scene, tmp_path_factory):
    """A pair that no search finds, as files: 16-bit thermal counts, and colour."""
    folder = tmp_path_factory.mktemp("files")
    turned = page_server.turned(scene)
    images.save(turned.infrared, folder / "thermal.tif")
    images.save(turned.visible, folder / "visible.png")
    return SimpleNamespace(
        infrared=folder / "thermal.tif", visible=folder / "visible.png", pairs=turned.pairs
    )


def done(page, title):
    """Waits for a result, and checks what is said of it."""
    heading = page.locator("#verdict h2")
    playwright.expect(heading).to_have_text(title, timeout=PATIENCE)


def drawn(page, selector) -> bool:
    return page.locator(selector).evaluate("image => image.decode().then(() => true, () => false)")


def no_wider_than_the_screen(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_example_from_the_first_click_to_the_files(visit, tmp_path):
    page = visit(**WIDE)
    page.get_by_role("button", name="by day").click()
    done(page, "Aligned")
    assert "Confidence 0.99" in page.locator("#verdict").inner_text()
    # Every view has its pictures, and says what they are.
    for name, said in (
        ("Fused", "fused image"),
        ("Aligned", "moved onto it"),
        ("Infrared only", "resized"),
        ("Checkerboard", "Squares of both images"),
        ("Displacement", "How far"),
        ("Certainty", "How certain"),
    ):
        view = page.get_by_role("button", name=name, exact=True)
        view.click()
        playwright.expect(view).to_have_attribute("aria-pressed", "true")
        playwright.expect(page.locator("#view figcaption")).to_contain_text(said)
        assert drawn(page, ".compare .right")
        assert page.locator(".compare .left").is_visible() == (
            name not in ("Displacement", "Certainty")
        )
    assert not page.locator("#hint").get_attribute("open")
    # The links give what umfuse would have given.
    saved = {}
    for link in ("image", "registration"):
        with page.expect_download() as waiting:
            page.locator(f"#save-{link}").click()
        saved[link] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(saved[link])
    with Image.open(saved["image"]) as fused:
        assert (saved["image"].name, fused.size, fused.mode) == ("fused.png", (640, 480), "RGB")
    assert umfuse.Registration.load(saved["registration"]).confidence > 0.9


def test_the_slider_parts_the_pictures_where_it_is_dragged(visit):
    page = visit(**WIDE)
    page.get_by_role("button", name="by night").click()
    done(page, "Aligned")
    box = page.locator(".compare").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 5, box["y"] + 60, steps=5)
    page.mouse.up()
    bar = page.locator(".compare .bar").bounding_box()
    assert abs(bar["x"] - box["x"] - box["width"] / 5) < box["width"] / 50
    slider = page.get_by_label("Where the left image ends")
    slider.press("End")
    bar = page.locator(".compare .bar").bounding_box()
    assert abs(bar["x"] - box["x"] - box["width"]) < 5


@pytest.mark.parametrize("options", [WIDE, PHONE], ids=["wide", "phone"])
def test_three_points_help_a_pair_that_no_search_finds(visit, files, options):
    page = visit(**options)
    touch = options is PHONE
    inputs = page.locator("input[type=file]")
    inputs.nth(0).set_input_files(files.infrared)
    inputs.nth(1).set_input_files(files.visible)
    assert page.locator(".drop .name").all_inner_texts() == ["thermal.tif", "visible.png"]
    assert no_wider_than_the_screen(page)
    page.get_by_role("button", name="Align and fuse").click()
    done(page, "Not aligned")
    assert page.locator("#hint").get_attribute("open") is not None
    use = page.get_by_role("button", name="Align with these points")
    boards = {name: page.locator(f"[data-image={name}]") for name in ("infrared", "visible")}
    for number, pair in enumerate(files.pairs):
        assert use.is_disabled()
        for (name, board), (x, y) in zip(boards.items(), pair, strict=True):
            wanted = f"place {number + 1} in the {name} image"
            playwright.expect(page.locator("#hint .task")).to_contain_text(wanted)
            board.scroll_into_view_if_needed()
            box = board.bounding_box()
            place = {"x": x * box["width"], "y": y * box["height"]}
            (board.tap if touch else board.click)(position=place)
    assert [board.locator(".mark").count() for board in boards.values()] == [3, 3]
    assert no_wider_than_the_screen(page)
    (use.tap if touch else use.click)()
    done(page, "Aligned from your points")
    # The marks stay, to be corrected.
    assert [board.locator(".mark").count() for board in boards.values()] == [3, 3]
    assert no_wider_than_the_screen(page)


def test_marks_can_be_moved_and_cleared(visit):
    page = visit(**WIDE)
    page.get_by_role("button", name="by day").click()
    done(page, "Aligned")
    page.locator("summary").click()
    board = page.locator("[data-image=visible]")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    board.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    mark = board.get_by_role("button", name="Point 1, visible image")
    mark.hover()
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4, steps=4)
    page.mouse.up()
    x, y = mark.evaluate("mark => mark.place")
    assert abs(x - 0.25) < 0.02
    assert abs(y - 0.25) < 0.02
    assert board.locator(".mark").count() == 1  # the end of the drag was no click
    mark.press("ArrowRight")
    assert mark.evaluate("mark => mark.place")[0] == pytest.approx(x + 0.002)
    for number in range(4):
        place = {"x": box["width"] * (0.5 + number / 10), "y": box["height"] * 0.8}
        board.click(position=place)
    assert board.locator(".mark").count() == 3
    # Without a mouse.
    other = page.locator("[data-image=infrared]")
    other.press("Enter")
    first = other.get_by_role("button", name="Point 1, infrared image")
    playwright.expect(first).to_be_focused()
    for key in ("Shift+ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    assert first.evaluate("mark => mark.place") == pytest.approx([0.498, 0.48])
    page.get_by_role("button", name="Clear").click()
    assert board.locator(".mark").count() == 0


def test_one_file_of_a_camera_that_takes_both_dropped_on_the_page(
    visit, scene, tmp_path, monkeypatch
):
    file = thermograms.street(scene)
    monkeypatch.setitem(sys.modules, "flyr", SimpleNamespace(unpack=lambda path: file))
    path = thermograms.jpeg(tmp_path / "FLIR0123.jpg", thermograms.FLIR)
    page = visit(**WIDE)
    box = page.locator(".drop").first.bounding_box()
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        where = {"x": box["x"] + 50, "y": box["y"] + 50}
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        devtools.send("Input.dispatchDragEvent", {"type": kind, **where, "data": data})
    playwright.expect(page.locator(".drop .name").first).to_have_text("FLIR0123.jpg")
    page.get_by_role("button", name="Align and fuse").click()
    done(page, "Aligned from the camera's placing")


def test_what_went_wrong_is_said_and_can_be_mended(visit, tmp_path, files):
    page = visit(**PHONE)
    status = page.locator("#status")
    start = page.get_by_role("button", name="Align and fuse")
    start.click()
    playwright.expect(status).to_contain_text("Choose an infrared image first")
    first = page.locator("input[type=file]").first
    first.set_input_files({"name": "<b>junk.png", "mimeType": "image/png", "buffer": b"junk"})
    page.locator("input[type=file]").nth(1).set_input_files(files.visible)
    start.click()
    playwright.expect(status).to_contain_text("<b>junk.png is in no format", timeout=PATIENCE)
    assert not page.locator("#result").is_visible()
    large = tmp_path / "large.tif"
    with large.open("wb") as file:
        file.truncate(ui.uploads.MAX_BYTES + 1)
    first.set_input_files(large)
    start.click()
    playwright.expect(status).to_contain_text("64 MB is the most here")
    assert no_wider_than_the_screen(page)
    page.get_by_role("button", name="by day").click()
    done(page, "Aligned")


def test_a_server_that_has_gone_is_told(browser, model):
    context = browser.new_context()
    page = context.new_page()
    with page_server.serving(ui.application(model)) as port:
        page.goto(f"http://127.0.0.1:{port}/")
    page.get_by_role("button", name="by day").click()
    playwright.expect(page.locator("#status")).to_contain_text("does not answer", timeout=PATIENCE)
    context.close()


def test_text_stands_out_from_its_ground_in_light_and_dark(browser, address):
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(address)
        colours = page.evaluate(
            """() => [".drop .name", "button.main", "h1", "header p"].map((selector) => {
                const element = document.querySelector(selector);
                let ground = element;
                while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") {
                    ground = ground.parentElement;
                }
                return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
            })"""
        )
        for pair in colours:
            darker, lighter = sorted(map(luminance, pair))
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (scheme, pair)  # WCAG 2.2, AA
        context.close()


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``, as WCAG 2.2 defines it."""
    values = np.array([int(part) for part in colour[4:-1].split(",")]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))

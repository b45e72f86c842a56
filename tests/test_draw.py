from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from umfuse import draw


def constant_field(x: float, y: float, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.broadcast_to(np.array([x, y], dtype=np.float32), (*size, 2))


@pytest.mark.parametrize(
    ("vector", "color"),
    [
        ((5, 0), (255, 0, 0)),
        ((0, 5), (128, 255, 0)),
        ((-5, 0), (0, 255, 255)),
        ((0, -5), (128, 0, 255)),
        ((0, 0), (255, 255, 255)),
        ((2.5, 0), (255, 128, 128)),
        ((50, 0), (255, 0, 0)),
        ((np.nan, 0), (128, 128, 128)),
    ],
)
def test_flow_color_shows_direction_and_length(
    vector: tuple[float, float], color: tuple[int, int, int]
) -> None:
    picture = np.asarray(draw.flow_color(constant_field(*vector), max_px=5))
    assert picture.shape == (40, 60, 3)
    # The middle: the legend, if any, is in a corner.
    assert np.abs(picture[20, 30].astype(int) - color).max() <= 1


def test_flow_color_scales_to_the_longest_vector() -> None:
    field = constant_field(2, 0).copy()
    field[5, 5] = (0, 8)
    picture = np.asarray(draw.flow_color(field))
    np.testing.assert_allclose(picture[5, 5], (128, 255, 0), atol=1)
    np.testing.assert_allclose(picture[20, 30], (255, 191, 191), atol=1)
    assert (np.asarray(draw.flow_color(np.zeros((4, 4, 2)))) == 255).all()
    assert np.asarray(draw.flow_color(np.full((4, 4, 2), np.nan))).std() == 0


def test_flow_color_has_a_legend_that_names_the_maximum() -> None:
    field = constant_field(10, 0, (240, 320))
    short, long = (np.asarray(draw.flow_color(field, max_px=px)) for px in (10, 10.04))
    other = np.asarray(draw.flow_color(field, max_px=20))
    np.testing.assert_array_equal(short[:150], np.broadcast_to([255, 0, 0], (150, 320, 3)))
    corner = (slice(-36, None), slice(0, 60))
    assert len(np.unique(short[corner].reshape(-1, 3), axis=0)) > 50  # the wheel
    np.testing.assert_array_equal(short[corner], long[corner])  # both say 10 px
    assert (short[corner] != other[corner]).any()
    still, little = (
        np.asarray(draw.flow_color(constant_field(x, 0, (240, 320)))) for x in (0, 1e-3)
    )
    assert (still[corner] != little[corner]).any()  # 0 px, not 0.001 px


def test_flow_color_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"expected a displacement of shape \(H, W, 2\), got"):
        draw.flow_color(np.zeros((2, 10, 10)))
    with pytest.raises(ValueError, match="expected max_px to be positive, got 0"):
        draw.flow_color(np.zeros((10, 10, 2)), max_px=0)


def test_certainty_color_grows_brighter() -> None:
    ramp = np.broadcast_to(np.linspace(0, 1, 101), (40, 101))
    picture = draw.certainty_color(ramp)
    colors = np.asarray(picture)
    assert colors.shape == (40, 101, 3)
    assert colors[0, 0].tolist() == [68, 1, 84]
    assert colors[0, 50].tolist() == [33, 145, 140]
    assert colors[0, 100].tolist() == [253, 231, 37]
    assert (np.diff(np.asarray(picture.convert("L"))[0].astype(int)) >= 0).all()
    lost = np.asarray(draw.certainty_color(np.full((9, 9), np.nan)))
    assert np.abs(lost.astype(int) - 128).max() <= 1


def test_certainty_color_shows_the_image_below() -> None:
    image = np.zeros((80, 160, 3), np.uint8)
    image[:, 80:] = (250, 240, 230)
    certainty = np.ones((40, 80))
    certainty[:10] = np.nan
    picture = np.asarray(draw.certainty_color(certainty, image)).astype(int)
    assert picture.shape == (40, 80, 3)
    assert (picture[15, 60] > picture[15, 20] + 50).all()  # the bright half
    assert picture[15, 20, 0] > 4 * picture[15, 20, 2]  # yellow
    assert np.ptp(picture[:10], axis=2).max() == 0  # no colour, but the image
    assert picture[5, 60, 0] > 200


def test_certainty_color_has_a_legend_from_0_to_1() -> None:
    picture = np.asarray(draw.certainty_color(np.full((240, 320), 0.5)))
    corner = picture[-30:, :130].reshape(-1, 3)
    for color in ((68, 1, 84), (253, 231, 37), (24, 26, 30)):
        assert (np.abs(corner.astype(int) - color).max(1) <= 8).any()
    assert (picture[:200] == picture[0, 0]).all()
    small = np.asarray(draw.certainty_color(np.full((60, 90), 0.5)))
    assert (small == small[0, 0]).all()


def test_certainty_color_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"expected a map of shape \(H, W\), got \(10, 10, 2\)"):
        draw.certainty_color(np.zeros((10, 10, 2)))


def test_checkerboard_takes_turns() -> None:
    a, b = np.full((40, 80), 10, np.uint8), np.full((40, 80, 3), 200, np.uint8)
    board = np.asarray(draw.checkerboard(a, b, cells=8))
    assert board.shape == (40, 80, 3)
    assert (board[:10, :10] == 10).all()
    assert (board[:10, 10:20] == 200).all()
    assert (board[10:20, :10] == 200).all()
    assert (board[10:20, 10:20] == 10).all()
    assert (board == 10).sum() == (board == 200).sum()


def test_checkerboard_refuses_other_sizes() -> None:
    with pytest.raises(ValueError, match="one size, got 80 x 40 and 81 x 40; resize"):
        draw.checkerboard(np.zeros((40, 80), np.uint8), np.zeros((40, 81), np.uint8))
    with pytest.raises(ValueError, match="at least 2 cells, got 1"):
        draw.checkerboard(np.zeros((40, 80)), np.zeros((40, 80)), cells=1)


def test_overlay_is_grey_where_both_agree() -> None:
    warm = np.array([[0, 255], [255, 0]], np.uint8)
    seen = np.array([[0, 255], [0, 255]], np.uint8)
    picture = np.asarray(draw.overlay(warm, seen))
    assert picture[0, 0].tolist() == [0, 0, 0]
    assert picture[0, 1].tolist() == [255, 255, 255]
    assert picture[1, 0].tolist() == [255, 0, 255]
    assert picture[1, 1].tolist() == [0, 255, 0]


GREY = np.arange(12 * 20).reshape(12, 20)


@pytest.mark.parametrize(
    ("image", "bottom", "top"),
    [
        (GREY.astype(np.uint8), 0, 239),
        (GREY[..., None].astype(np.uint8), 0, 239),
        (np.repeat(GREY[..., None], 3, 2).astype(np.uint8), 0, 239),
        ((GREY / 478).astype(np.float32), 0, 128),
        ((GREY / 478).astype(np.float64), 0, 128),
        ((GREY + 29000).astype(np.uint16), 0, 255),
        ((GREY + 29000).astype(">u2"), 0, 255),
        (GREY - 20.0, 0, 255),
        (GREY > 5, 0, 255),
        (Image.fromarray(GREY.astype(np.uint8)), 0, 239),
        (Image.fromarray(GREY.astype(np.uint8)).convert("RGB"), 0, 239),
        (Image.fromarray(GREY.astype(np.uint8)).convert("RGBA"), 0, 239),
        (Image.fromarray((GREY + 29000).astype(np.uint16)), 0, 255),
        (Image.fromarray((GREY + 29000).astype(np.int32)), 0, 255),
        (Image.fromarray((GREY / 478).astype(np.float32)), 0, 128),
    ],
)
def test_images_of_every_depth_are_shown(image: object, bottom: int, top: int) -> None:
    # A board of an image with itself is the image as it is shown.
    shown = np.asarray(draw.checkerboard(image, image))
    assert shown.shape == (12, 20, 3)
    assert shown.min() == bottom
    assert abs(int(shown.max()) - top) <= 1
    assert (np.diff(shown.reshape(-1, 3).astype(int), axis=0) >= 0).all()  # no wrap, no saturation


def test_nan_and_constant_images_are_shown() -> None:
    field = GREY * 1.0
    field[0, 0], field[0, 1] = np.nan, np.inf
    shown = np.asarray(draw.checkerboard(field, field))
    assert shown[0, 0, 0] == 0
    assert shown[0, 1, 0] == 255
    for constant in (np.full((9, 9), np.nan), np.full((9, 9), 400, np.uint16)):
        assert np.asarray(draw.checkerboard(constant, constant)).max() == 0


def test_what_is_no_image_is_refused() -> None:
    for shape in ((3, 12, 20), (12, 20, 2), (5,), (0, 4)):
        with pytest.raises(ValueError, match=r"expected an image \(H, W\) or \(H, W, 3\), got"):
            draw.overlay(np.zeros(shape), np.zeros(shape))
    with pytest.raises(TypeError, match="expected a NumPy array or a PIL image, got list"):
        draw.overlay([[1]], [[1]])


def test_sheet_places_panels_of_equal_size() -> None:
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    panels = [(f"panel {n}", np.full((30, 40, 3), c, np.uint8)) for n, c in enumerate(colors)]
    paper = np.asarray(draw.sheet(panels, columns=3))
    boxes = []
    for color in colors:
        y, x = np.nonzero((paper == color).all(axis=2))
        boxes.append((x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1))
        assert len(x) == 30 * 40
    assert {box[2:] for box in boxes} == {(40, 30)}
    assert boxes[0][1] == boxes[1][1] == boxes[2][1] < boxes[3][1]
    assert boxes[0][0] == boxes[3][0] < boxes[1][0] < boxes[2][0]


def test_sheet_limits_the_width_and_keeps_the_aspect() -> None:
    wide, tall = np.full((500, 1000), 255, np.uint8), np.full((300, 100), 254, np.uint8)
    paper = np.asarray(draw.sheet([("wide", wide), ("tall", tall)], columns=2, max_width=200))
    assert paper.shape[1] < 440
    y, x = np.nonzero((paper == 255).all(axis=2))
    assert (np.ptp(x) + 1, np.ptp(y) + 1) == (200, 100)
    y, x = np.nonzero((paper == 254).all(axis=2))
    assert (np.ptp(x) + 1, np.ptp(y) + 1) == (33, 100)


def test_sheet_writes_the_titles() -> None:
    image = np.zeros((100, 200), np.uint8)
    first, second = (np.asarray(draw.sheet([(title, image)])) for title in ("before", "after"))
    assert first.shape == second.shape
    assert (first != second).any()
    assert (np.asarray(draw.sheet([("before", image)])) == first).all()


def test_sheet_refuses_nothing_to_show() -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        draw.sheet([])
    with pytest.raises(ValueError, match="at least 1 column and a max_width of 16, got 0 and 640"):
        draw.sheet([("a", np.zeros((9, 9)))], columns=0)


def test_flicker_shows_both_images_for_ever() -> None:
    grey, colour = (
        np.full((300, 900), 90, np.uint8),
        np.full((300, 900, 3), (200, 40, 10), np.uint8),
    )
    with Image.open(io.BytesIO(draw.flicker(grey, colour, seconds=0.3))) as gif:
        assert (gif.format, gif.n_frames, gif.size) == ("GIF", 2, (640, 213))
        assert (gif.info["duration"], gif.info["loop"]) == (300, 0)
        shown = []
        for frame in range(2):
            gif.seek(frame)
            shown.append(gif.convert("RGB").getpixel((320, 100)))
    assert shown == [(90, 90, 90), (200, 40, 10)]


def test_flicker_refuses_what_cannot_be_meant() -> None:
    small, large = np.zeros((9, 9), np.uint8), np.zeros((9, 10), np.uint8)
    with pytest.raises(ValueError, match="two images of one size, got 9 x 9 and 10 x 9"):
        draw.flicker(small, large)
    with pytest.raises(ValueError, match=r"expected 0\.02 to 60 seconds .* got 0 and 640"):
        draw.flicker(small, small, seconds=0)


@pytest.mark.parametrize("with_fused", [False, True])
def test_registration_sheet(with_fused: bool) -> None:
    rng = np.random.default_rng(0)
    infrared = rng.integers(28000, 31000, (128, 160)).astype(np.uint16)
    visible = rng.integers(0, 256, (180, 240, 3)).astype(np.uint8)
    resized = Image.fromarray(infrared.astype(np.float32)).resize((240, 180))
    displacement = constant_field(3, 4, (180, 240))
    fused = visible if with_fused else None
    paper = draw.registration_sheet(infrared, visible, resized, resized, displacement, fused)
    assert paper.mode == "RGB"
    assert 3 * 240 < paper.width < 3 * 260
    assert 2 * 180 < paper.height < 2 * 210
    pixels = np.asarray(paper)
    # The visible image stands in the second panel, unscaled.
    left = 240 + 2 * 3
    assert any(
        (pixels[top : top + 180, left : left + 240] == visible).all() for top in range(10, 30)
    )
    last = pixels[paper.height // 2 + 40 : -10, 2 * 250 + 20 : -10]
    assert (last.std() > 10) == with_fused


def test_registration_sheet_shows_how_certain_it_is() -> None:
    visible = np.full((180, 240, 3), 128, np.uint8)
    panels = (visible[..., 0], visible, visible[..., 0], visible[..., 0])
    certainty = np.full((180, 240), np.nan)
    certainty[:, 120:] = 1
    for fused in (None, visible):
        paper = draw.registration_sheet(
            *panels, constant_field(0, 0, (180, 240)), fused, certainty=certainty
        )
        assert 4 * 240 < paper.width < 4 * 250
        assert 2 * 180 < paper.height < 2 * 210
        last = np.asarray(paper).astype(int)[:150, 3 * 245 :]  # above the legend
        rows, columns = (last[..., 0] - last[..., 2] > 60).nonzero()
        assert len(rows) > 110 * 120
        assert columns.min() >= 110


def test_registration_sheet_of_a_large_image_is_small() -> None:
    big = np.zeros((1500, 3000), np.uint8)
    displacement = constant_field(1, 0, (1500, 3000))
    paper = draw.registration_sheet(big, big, big, big, displacement)
    assert paper.width < 3 * 660

"""Which images belong together, by their names. The files are empty: nobody opens them."""

import pytest

from umfuse import pairing


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names(found, root):
    return {
        name: tuple(path.relative_to(root).as_posix() for path in both)
        for name, both in found.files.items()
    }


def test_stems_of_two_folders(tmp_path):
    make(tmp_path, "ir/a.png", "ir/b.TIF", "vis/a.jpg", "vis/b.png", "vis/c.png", "vis/notes.txt")
    found = pairing.find(tmp_path / "ir", tmp_path / "vis")
    assert names(found, tmp_path) == {
        "a": ("ir/a.png", "vis/a.jpg"),
        "b": ("ir/b.TIF", "vis/b.png"),
    }
    assert len(found.problems) == 1
    assert "c.png has no partner" in found.problems[0]


def test_templates_in_one_folder(tmp_path):
    make(tmp_path, "a_T.tif", "a_W.jpg", "b_T.tif", "c_W.jpg", "readme.png")
    found = pairing.find(tmp_path, tmp_path, "{stem}_T,{stem}_W")
    assert names(found, tmp_path) == {"a": ("a_T.tif", "a_W.jpg")}
    assert [problem.split("/")[-1] for problem in found.problems] == [
        "b_T.tif has no partner",
        "c_W.jpg has no partner",
    ]


def test_fields_that_one_template_has_are_free(tmp_path):
    make(tmp_path, "X_101500_0001_T.jpg", "X_101501_0001_W.jpg", "X_101501_0002_T.jpg")
    found = pairing.find(tmp_path, tmp_path, "X_{time}_{number}_T,X_{other}_{number}_W")
    assert names(found, tmp_path) == {"0001": ("X_101500_0001_T.jpg", "X_101501_0001_W.jpg")}


def test_what_is_not_unique_is_said_and_the_first_is_taken(tmp_path):
    make(tmp_path, "X_1_7_T.jpg", "X_2_7_T.jpg", "7_W.jpg")
    found = pairing.find(tmp_path, tmp_path, "X_{time}_{number}_T,{number}_W")
    assert names(found, tmp_path) == {"7": ("X_1_7_T.jpg", "7_W.jpg")}
    assert "X_2_7_T.jpg" in found.problems[0]


def test_a_suffix_in_a_template_tells_two_kinds_of_one_stem_apart(tmp_path):
    make(tmp_path, "a.tiff", "a.JPG", "b.tiff", "b.JPG")
    found = pairing.find(tmp_path, tmp_path, "{stem}.tiff,{stem}.jpg")
    assert names(found, tmp_path) == {"a": ("a.tiff", "a.JPG"), "b": ("b.tiff", "b.JPG")}


def test_dji_prefers_wide_to_visible_to_zoom(tmp_path, caplog):
    make(tmp_path, "D_1_T.JPG", "D_1_Z.JPG", "D_1_W.JPG", "D_2_T.JPG", "D_2_Z.JPG", "D_3_T.JPG")
    make(tmp_path, "D_3_V.JPG", "D_3_Z.JPG")
    found = pairing.find(tmp_path, tmp_path)
    assert names(found, tmp_path) == {
        "D_1": ("D_1_T.JPG", "D_1_W.JPG"),
        "D_2": ("D_2_T.JPG", "D_2_Z.JPG"),
        "D_3": ("D_3_T.JPG", "D_3_V.JPG"),
    }
    assert found.problems == []
    assert "scheme 'dji'" in caplog.text


def test_flir_names(tmp_path):
    make(tmp_path, "FLIR0001.jpg", "FLIR0001_rgb.jpg", "FLIR0002.jpg", "FLIR0002_rgb.jpg")
    found = pairing.find(tmp_path, tmp_path)
    assert names(found, tmp_path) == {
        "FLIR0001": ("FLIR0001.jpg", "FLIR0001_rgb.jpg"),
        "FLIR0002": ("FLIR0002.jpg", "FLIR0002_rgb.jpg"),
    }
    assert found.problems == []


@pytest.mark.parametrize("where", ["set00/V000/", "set00/V001/deep/", ""])
def test_kaist_folders(tmp_path, where):
    make(tmp_path, *(f"{where}{kind}/I{n}.jpg" for kind in ("lwir", "visible") for n in (0, 1)))
    found = pairing.find(tmp_path, tmp_path, "kaist")
    assert names(found, tmp_path) == {
        f"{where}I{n}": (f"{where}lwir/I{n}.jpg", f"{where}visible/I{n}.jpg") for n in (0, 1)
    }


def test_the_order_counts_as_people_do(tmp_path):
    make(tmp_path, "ir/t2.png", "ir/t10.png", "vis/x-1.png", "vis/x-9.png")
    found = pairing.find(tmp_path / "ir", tmp_path / "vis", "order")
    assert names(found, tmp_path) == {
        "t2": ("ir/t2.png", "vis/x-1.png"),
        "t10": ("ir/t10.png", "vis/x-9.png"),
    }
    make(tmp_path, "vis/x-10.png")
    with pytest.raises(ValueError, match="got 2 infrared and 3 visible"):
        pairing.find(tmp_path / "ir", tmp_path / "vis", "order")


def test_the_order_is_never_a_guess(tmp_path):
    make(tmp_path, "ir/t2.png", "ir/t10.png", "vis/x-1.png", "vis/x-9.png")
    with pytest.raises(ValueError, match=r"such as 't10.png' and 'x-1.png'"):
        pairing.find(tmp_path / "ir", tmp_path / "vis")


@pytest.mark.parametrize("rule", ["order", "stem", "{stem},{stem}", "{stem}.png,{stem}.png"])
def test_an_image_is_never_its_own_partner(tmp_path, rule):
    make(tmp_path, "a.png", "b.png")
    with pytest.raises(ValueError, match="own partner"):
        pairing.find(tmp_path, tmp_path, rule)


def test_nor_by_a_link(tmp_path):
    make(tmp_path, "ir/a.png", "ir/b.png", "vis/b.png")
    (tmp_path / "vis/a.png").symlink_to(tmp_path / "ir/a.png")
    found = pairing.find(tmp_path / "ir", tmp_path / "vis")
    assert list(found.files) == ["b"]
    assert "a.png is its own partner" in found.problems[0]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("by moonlight", "expected one of stem, order, dji, flir, kaist, or two templates"),
        ("{stem}_T", "two templates"),
        ("{a}_T,{b}_W", "no field in common"),
        ("{stem_T,{stem}_W", "fields in braces"),
        ("x_T,x_W", "fields in braces"),
    ],
)
def test_rules_that_mean_nothing(tmp_path, rule, message):
    make(tmp_path, "a_T.png", "a_W.png")
    with pytest.raises(ValueError, match=message):
        pairing.find(tmp_path, tmp_path, rule)


def test_folders_without_images_are_named(tmp_path):
    make(tmp_path, "ir/a.png", "vis/a.txt", "vis/.a.png")
    with pytest.raises(ValueError, match=r"vis' holds no image"):
        pairing.find(tmp_path / "ir", tmp_path / "vis")


def test_what_the_message_advises_helps(tmp_path):
    make(tmp_path, "ir/1_T.png", "vis/1_W.png", "ir/2_lwir.png", "vis/2_rgb.png")
    (tmp_path / "ir/1_T.png").unlink()
    with pytest.raises(ValueError, match=r'by templates, such as "\{stem\}_T,\{stem\}_W"'):
        pairing.find(tmp_path / "ir", tmp_path / "vis")
    found = pairing.find(tmp_path / "ir", tmp_path / "vis", "{stem}_lwir,{stem}_rgb")
    assert list(found.files) == ["2"]

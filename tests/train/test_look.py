"""What is looked at before pairs are trained on."""

import csv

import numpy as np
import pytest
from benchmarks import scenes
from PIL import Image

import umfuse
from umfuse.train import Aligner, PairDataset, fine_tune, look

SIZE = (192, 256)


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Three pairs: registered in ``ir``, as the camera saw them in ``raw``."""
    folder = tmp_path_factory.mktemp("street")
    for kind in ("ir", "raw", "vis"):
        (folder / kind).mkdir()
    for seed in range(3):
        scene = scenes.render(seed, SIZE, infrared_size=(160, 200))
        for kind, counts in (("ir", scene.aligned_infrared), ("raw", scene.infrared)):
            umfuse.images.save(counts, folder / kind / f"{seed}.png")
        umfuse.images.save(scene.visible, folder / "vis" / f"{seed}.png")
    return folder


@pytest.fixture
def noisy(street, tmp_path):
    """The raw pairs with one of noise."""
    for kind in ("raw", "vis"):
        (tmp_path / kind).mkdir()
        for path in (street / kind).iterdir():
            (tmp_path / kind / path.name).write_bytes(path.read_bytes())
    noise = np.random.default_rng(0).integers(0, 255, (120, 160), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "raw/noise.png")
    Image.fromarray(noise.T).save(tmp_path / "vis/noise.png")
    return tmp_path


def test_the_distance_of_a_pair(street):
    near = PairDataset(street / "ir", street / "vis")
    far = PairDataset(street / "raw", street / "vis")
    assert all(look.distance(*near.as_read(stem)) < 2 for stem in near.stems)
    assert all(look.distance(*far.as_read(stem)) > 15 for stem in far.stems)
    look.registered(near)
    with pytest.raises(ValueError, match=r"3 of 3 pairs .* are not registered: .* px apart"):
        look.registered(far)


def test_noise_says_nothing(noisy):
    pairs = PairDataset(noisy / "raw", noisy / "vis", only=["noise"])
    assert look.distance(*pairs.as_read("noise")) is None
    look.registered(pairs)


def test_not_more_than_eight_are_looked_at(street, monkeypatch):
    pairs = PairDataset(street / "ir", street / "vis")
    for count, seen in ((3, 3), (8, 8), (9, 5), (17, 6), (800, 8)):
        asked = []
        monkeypatch.setattr(pairs, "stems", [str(n) for n in range(count)])
        monkeypatch.setattr(pairs, "as_read", lambda stem: (stem, stem))
        monkeypatch.setattr(look, "distance", lambda ir, vis, asked=asked: asked.append(ir))
        look.registered(pairs)
        assert len(asked) == seen


def test_training_stops_and_both_remedies_of_its_message_help(street, tmp_path):
    folders = (street / "raw", street / "vis")
    model = umfuse.load(device="cpu")
    with pytest.raises(ValueError, match="registered=False, --unregistered") as refused:
        fine_tune(model, folders, tmp_path / "run", steps=1, batch=1)
    assert "registered=True, --yes-registered" in str(refused.value)
    assert not (tmp_path / "run").exists()
    fine_tune(model, folders, tmp_path / "insists", steps=1, batch=1, registered=True)
    fine_tune(model, folders, tmp_path / "aligns", steps=1, batch=1, registered=False)
    for run in ("insists", "aligns"):
        umfuse.load(tmp_path / run, device="cpu")


def test_damaged_images_are_named_before_the_first_step(noisy, tmp_path):
    for name in ("raw/1.png", "vis/2.png"):
        (noisy / name).write_bytes((noisy / name).read_bytes()[:300])
    with pytest.raises(ValueError, match="2 of 4 pairs cannot be read") as refused:
        fine_tune(
            umfuse.load(device="cpu"), (noisy / "raw", noisy / "vis"), tmp_path / "run", steps=1
        )
    for name in ("raw/1.png", "vis/2.png"):
        assert str(noisy / name) in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_pairs_that_are_left_out_are_listed_and_shown(noisy, tmp_path):
    pairs = PairDataset(noisy / "raw", noisy / "vis", align=Aligner())
    look.left_out(pairs, tmp_path / "out")
    with (tmp_path / "out/left_out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["pair"] == "noise"
    assert float(row["confidence"]) == pytest.approx(pairs.confidence["noise"], abs=1e-4)
    with Image.open(tmp_path / "out/left_out.png") as sheet:
        shown = np.asarray(sheet.convert("L"), dtype=float)
    assert shown.std() > 30
    look.left_out(PairDataset(noisy / "raw", noisy / "vis"), tmp_path / "none")
    assert not (tmp_path / "none").exists()

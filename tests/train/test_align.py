import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import scenes as demo
from PIL import Image
from room import room
from scenes import scene
from tiny_tasks import mrrn_task

import umfuse
from umfuse import geometry, metrics, search
from umfuse.pipeline import Alignment
from umfuse.search import SearchResult
from umfuse.train import Aligner, CropConfig, Crops, PairDataset
from umfuse.train.align import Place, largest_rectangle
from umfuse.train.tasks import MrrnLossWeights

SIZE, INFRARED_SIZE = (192, 256), (160, 200)


@pytest.fixture(scope="module")
def rendered():
    return demo.render(3, SIZE, infrared_size=INFRARED_SIZE)


@pytest.fixture(scope="module")
def folders(rendered, tmp_path_factory):
    """A raw pair "good" of two cameras, and "lost", whose infrared image is noise."""
    folder = tmp_path_factory.mktemp("raw")
    counts = rendered.infrared
    noise = np.random.default_rng(0).integers(0, 255, INFRARED_SIZE, dtype=np.uint8)
    for kind, images in (
        ("ir", {"good": counts, "lost": noise}),
        ("vis", {"good": rendered.visible, "lost": rendered.visible}),
    ):
        (folder / kind).mkdir()
        for stem, image in images.items():
            Image.fromarray(image).save(folder / kind / f"{stem}.png")
    return folder / "ir", folder / "vis"


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A folder of what was found: each pair is searched once for all tests."""
    return tmp_path_factory.mktemp("places")


@pytest.fixture
def searches(monkeypatch):
    """Instead of searching, notes that it should and is content with resizing."""
    calls = []

    def resize(infrared, visible):
        calls.append(visible.shape)
        size = tuple(visible.shape[-2:]), tuple(infrared.shape[-2:])
        return SearchResult(geometry.resize_transform(*size), 0.7, 9.0, 9.0, 0.0, 0.5)

    monkeypatch.setattr(search, "find_transform", resize)
    return calls


def test_a_raw_pair_is_brought_on_one_grid(folders, rendered, known):
    pairs = PairDataset(*folders, only=["good"], align=Aligner(folder=known))
    pair = pairs[0]
    assert pair["infrared"].shape[1:] == pair["visible"].shape[1:]
    place = pairs._places["good"]
    truth = torch.from_numpy(rendered.transform)
    plain = geometry.resize_transform(SIZE, INFRARED_SIZE)
    assert metrics.grid_error(plain, truth, SIZE) > 10
    assert metrics.grid_error(place.transform, truth, SIZE) < 2.5
    top, left, height, width = place.rectangle.tolist()
    assert (height, width) == pair["infrared"].shape[1:]
    assert rendered.valid[top : top + height, left : left + width].mean() > 0.99
    assert height * width > 0.6 * rendered.valid.sum()
    # 16-bit counts, seen on the visible grid by the second camera of the truth
    counts = rendered.aligned_infrared[top : top + height, left : left + width].astype(float)
    resized = PairDataset(*folders, only=["good"])[0]["infrared"][0]
    resized = resized[top : top + height, left : left + width]

    def alike(image):
        return np.corrcoef(image.flatten().numpy(), counts.flatten())[0, 1]

    assert alike(pair["infrared"][0]) > 0.9
    assert alike(pair["infrared"][0]) > alike(resized) + 0.1


def test_pairs_that_cannot_be_aligned_are_dropped_and_named(folders, known, caplog):
    pairs = PairDataset(*folders, align=Aligner(folder=known))
    assert pairs.stems == ["good"]
    assert len(pairs) == 1
    assert pairs.dropped == ["lost"]
    assert pairs.confidence["good"] > 0.3 > pairs.confidence["lost"]
    assert "1 of 2 pairs are left out" in caplog.text
    assert "lost (0." in caplog.text
    with pytest.raises(ValueError, match="none of 1 pairs could be aligned"):
        PairDataset(*folders, only=["lost"], align=Aligner(folder=known))
    kept = PairDataset(*folders, only=["lost"], align=Aligner(least=0.0, folder=known))
    assert kept.stems == ["lost"]


def test_what_was_found_is_kept_on_disk(folders, tmp_path, searches):
    aligner = Aligner(folder=tmp_path / "places")
    first = PairDataset(*folders, only=["good"], align=aligner)[0]
    assert len(searches) == 1
    again = PairDataset(*folders, only=["good"], align=aligner)[0]
    assert len(searches) == 1
    assert all(torch.equal(first[name], again[name]) for name in first)
    PairDataset(*folders, only=["good"], align=Aligner(longest=128, folder=tmp_path / "places"))
    assert len(searches) == 2  # another size is another question
    assert {path.suffix for path in (tmp_path / "places").iterdir()} == {".safetensors"}


def test_a_damaged_file_is_found_again(folders, tmp_path, searches):
    aligner = Aligner(folder=tmp_path)
    PairDataset(*folders, only=["good"], align=aligner)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:40])
    PairDataset(*folders, only=["good"], align=aligner)
    assert len(searches) == 2
    PairDataset(*folders, only=["good"], align=aligner)
    assert len(searches) == 2


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
def test_a_folder_that_cannot_be_written_to_is_told(folders, tmp_path, searches, capsys):
    aligner = Aligner(folder=tmp_path)
    with room(100), pytest.raises(OSError, match=r"cannot write .*\.safetensors: .*check space"):
        PairDataset(*folders, only=["good"], align=aligner)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        PairDataset(*folders, only=["good"], align=Aligner(folder=tmp_path / "file"))


def test_a_model_adds_its_displacement():
    class Model:
        device = torch.device("cpu")

        def register(self, infrared, visible):
            height, width = visible.shape[-2:]
            plain = geometry.resize_transform((height, width), tuple(infrared.shape[-2:]))
            field = torch.zeros(1, 2, height, width)
            field[:, 0] = torch.linspace(4, 8, width)
            alignment = Alignment(plain[None], field, torch.ones(1, dtype=torch.bool), None)
            return alignment, [SearchResult(plain, 0.9, 9.0, 9.0, 0.0, 0.5)]

    infrared, visible = scene(1, 96, 128), scene(1, 96, 128).expand(-1, 3, -1, -1)
    aligner = Aligner(model=Model())
    place = aligner.find(infrared, visible)
    assert aligner.usable(place)
    moved, _ = aligner.apply(place, infrared, visible)
    assert place.rectangle.tolist()[3] in range(116, 122)  # what moved in from outside is cut off
    field = torch.zeros(1, 2, 96, 128)
    field[:, 0] = torch.linspace(4, 8, 128)
    expected = geometry.warp(infrared, field)[0][..., : moved.shape[-2], : moved.shape[-1]]
    assert (moved - expected).abs().mean() < 2e-3
    assert (moved - infrared[..., : moved.shape[-2], : moved.shape[-1]]).abs().mean() > 0.02


def test_the_model_is_part_of_the_question():
    infrared, visible = scene(1, 96, 128), scene(1, 96, 128).expand(-1, 3, -1, -1).contiguous()
    model = umfuse.load(device="cpu")
    names = {Aligner(model=model)._key(infrared, visible)}
    names.add(Aligner()._key(infrared, visible))
    with torch.no_grad():
        next(model.mrrn.parameters()).add_(1)
    names.add(Aligner(model=model)._key(infrared, visible))
    names.add(Aligner()._key(infrared, 1 - visible))
    assert len(names) == 4


def test_large_visible_images_are_reduced(rendered):
    visible = torch.from_numpy(rendered.visible).permute(2, 0, 1)[None] / 255
    aligner = Aligner(longest=128)
    size = INFRARED_SIZE
    place = Place(
        geometry.resize_transform((96, 128), size),
        torch.zeros(1, 2, 1, 1),
        torch.tensor([0, 0, 96, 128]),
        torch.tensor(1.0),
    )
    infrared, reduced = aligner.apply(place, torch.rand(1, 1, *size), visible)
    assert reduced.shape == (1, 3, 96, 128)
    assert infrared.shape == (1, 1, 96, 128)


def test_the_largest_rectangle_is_valid_throughout():
    valid = torch.zeros(120, 200, dtype=torch.bool)
    valid[10:100, 30:150] = True
    top, left, height, width = largest_rectangle(valid)
    assert valid[top : top + height, left : left + width].all()
    assert height * width > 0.9 * 90 * 120
    assert largest_rectangle(torch.ones(50, 70, dtype=torch.bool)) == (0, 0, 50, 70)
    assert largest_rectangle(torch.zeros(50, 70, dtype=torch.bool)) == (0, 0, 0, 0)
    turned = torch.ones(64, 64, dtype=torch.bool).triu()
    top, left, height, width = largest_rectangle(turned)
    assert turned[top : top + height, left : left + width].all()
    assert height * width > 900


def test_raw_pairs_train_registration_without_any_truth(folders, known):
    pairs = PairDataset(*folders, align=Aligner(folder=known))
    crops = Crops(pairs, CropConfig(size=(96, 96), scale=(1, 1)))
    batch = {name: value[None] for name, value in crops[0].items()}
    unknown = MrrnLossWeights(distance=0, match=0, similarity=1, reverse=0.2, smooth=0.1)
    parts = mrrn_task(deform=None, weights=unknown)(batch)
    parts["loss"].backward()
    assert parts["similarity"] > 0


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif("UMFUSE_DATA" not in os.environ, reason="UMFUSE_DATA is not set")
def test_real_raw_pairs_are_aligned_to_a_few_pixels():
    folder = Path(os.environ["UMFUSE_DATA"]) / "train/roadscene"
    truths = json.loads((folder / "homography.json").read_text())
    stems = sorted(truths)[::22]
    pairs = PairDataset(folder / "ir_raw", folder / "vis_hr", only=stems, align=Aligner())
    grid = PairDataset(folder / "ir", folder / "vis", only=stems)
    assert len(pairs) >= len(stems) - 1
    errors = []
    for stem in pairs.stems:
        size = tuple(grid[grid.stems.index(stem)]["visible"].shape[1:])
        found = pairs._places[stem].transform
        visible = umfuse.images.read(next((folder / "vis_hr").glob(f"{stem}.*"))).size
        reduced = tuple(max(8, round(side * 640 / max(visible))) for side in visible)
        transform = found @ geometry.resize_transform(size, reduced)
        truth = torch.tensor(truths[stem]["H"], dtype=torch.float64)
        errors.append(float(metrics.grid_error(transform, truth, size)))
    assert np.median(errors) < 4
    assert max(errors) < 25


def test_places_found_in_inference_mode_can_be_trained_on(folders, tmp_path):
    with torch.inference_mode():
        infrared, visible = scene(1, 96, 128), scene(1, 96, 128).expand(-1, 3, -1, -1)
        model = umfuse.load(device="cpu")
        for aligner in (Aligner(), Aligner(model), Aligner(folder=tmp_path)):
            for _ in range(2):
                place = aligner.find(infrared, visible)
                assert not any(part.is_inference() for part in place)
    weight = torch.ones(1, 1, 96, 128, requires_grad=True)
    (registered, _) = aligner.apply(place, weight * infrared.clone(), visible.clone())
    registered.square().sum().backward()
    assert weight.grad.abs().sum() > 0


def test_a_dataset_is_aligned_as_it_would_have_been(folders, known):
    raw = PairDataset(*folders, only=["good"])
    before = raw[0]
    aligned = raw.aligned(Aligner(folder=known))
    expected = PairDataset(*folders, only=["good"], align=Aligner(folder=known))
    assert aligned.confidence == expected.confidence
    assert all(torch.equal(aligned[0][name], expected[0][name]) for name in before)
    assert raw.align is None
    assert all(torch.equal(raw[0][name], before[name]) for name in before)

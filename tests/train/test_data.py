import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader

from umfuse.train import CropConfig, Crops, PairDataset
from umfuse.train.augment import Photometric
from umfuse.train.data import Rendered, hold_out


def test_pairs_meet_by_stem_and_stay_in_range(pair_folders):
    pairs = PairDataset(*pair_folders)
    assert pairs.stems == ["a", "b", "c"]
    pair = pairs[1]
    assert pair["infrared"].shape == (1, 72, 96)
    assert pair["visible"].shape == (3, 72, 96)
    expected = np.asarray(Image.open(pair_folders[0] / "b.png"), dtype=np.float32) / 255
    np.testing.assert_allclose(pair["infrared"][0].numpy(), expected, atol=1e-6)
    assert pair["visible"].min() >= 0
    assert pair["visible"].max() <= 1


def test_suffixes_may_differ(pair_folders):
    ir, vis = pair_folders
    Image.open(ir / "a.png").save(ir / "a.bmp")
    (ir / "a.png").unlink()
    assert len(PairDataset(ir, vis)) == 3


def test_another_size_is_brought_to_the_visible_grid(pair_folders):
    ir, vis = pair_folders
    whole = PairDataset(ir, vis)[0]["infrared"]
    Image.open(ir / "a.png").resize((48, 36), Image.Resampling.BOX).save(ir / "a.png")
    pair = PairDataset(ir, vis)[0]
    assert pair["infrared"].shape == (1, 72, 96)
    assert (pair["infrared"] - whole).abs().mean() < 0.05


def test_orphans_are_named_with_the_folder_that_lacks_them(pair_folders):
    ir, vis = pair_folders
    (vis / "b.png").unlink()
    with pytest.raises(ValueError, match=r"1 images.*b.png has no partner in .*vis; rename"):
        PairDataset(ir, vis)


def test_one_stem_twice_is_refused(pair_folders):
    ir, vis = pair_folders
    Image.open(ir / "a.png").save(ir / "a.bmp")
    with pytest.raises(ValueError, match="has the same stem"):
        PairDataset(ir, vis)


def test_missing_and_empty_folders_are_told_apart(tmp_path, pair_folders):
    with pytest.raises(ValueError, match="is not a folder"):
        PairDataset(tmp_path / "none", pair_folders[1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no image"):
        PairDataset(tmp_path / "empty", pair_folders[1])


def test_pairs_by_a_rule(pair_folders):
    for path in pair_folders[0].iterdir():
        path.rename(path.with_name(f"{path.stem}_T.png"))
    with pytest.raises(ValueError, match="say what their names are by templates"):
        PairDataset(*pair_folders)
    assert PairDataset(*pair_folders, pair="{stem}_T,{stem}").stems == ["a", "b", "c"]


def test_only_and_without_choose_stems(pair_folders):
    assert PairDataset(*pair_folders, only=["c"]).stems == ["c"]
    assert PairDataset(*pair_folders, without=["c"]).stems == ["a", "b"]
    with pytest.raises(ValueError, match="no pair is called 'z'"):
        PairDataset(*pair_folders, without=["z"])
    with pytest.raises(ValueError, match="no pairs are left"):
        PairDataset(*pair_folders, without=["a", "b", "c"])


def test_the_cache_keeps_within_its_room(pair_folders):
    ir, vis = pair_folders
    one = 4 * 72 * 96 * 4  # float32 bytes of a pair
    pairs = PairDataset(ir, vis, cache=one)
    first = [pairs[0], pairs[1]]
    for folder in (ir, vis):
        for file in folder.iterdir():
            Image.new("L", (96, 72)).save(file)
    assert torch.equal(pairs[0]["infrared"], first[0]["infrared"])
    assert pairs[1]["infrared"].max() == 0


def test_a_crop_depends_on_its_number_alone(pair_folders):
    augmentation = Photometric(
        gamma=0.5, contrast=0.3, brightness=0.1, noise=0.05, blur=1, invert=0.5
    )
    config = CropConfig(size=(40, 48), infrared=augmentation, visible=augmentation)
    crops = Crops(PairDataset(*pair_folders), config, seed=1)
    seen = [crops[k] for k in range(6)]
    again = Crops(PairDataset(*pair_folders), config, seed=1)[4]
    for name, value in again.items():
        assert torch.equal(value, seen[4][name])
    assert seen[0]["infrared"].shape == (1, 40, 48)
    assert not torch.equal(seen[0]["infrared"], seen[3]["infrared"])
    other = Crops(PairDataset(*pair_folders), config, seed=2)[4]
    assert not torch.equal(other["infrared"], again["infrared"])


def test_every_pair_is_seen_once_an_epoch(pair_folders):
    pairs = PairDataset(*pair_folders)
    whole = CropConfig(size=(72, 96), scale=(1, 1), flip=False)
    crops = Crops(pairs, whole)
    for epoch in range(3):
        seen = [crops[3 * epoch + k]["infrared"] for k in range(3)]
        found = [[torch.equal(crop, pairs[i]["infrared"]) for i in range(3)] for crop in seen]
        assert sorted(row.index(True) for row in found) == [0, 1, 2]


def test_both_images_are_cropped_alike(pair_folders):
    ir, _ = pair_folders
    same = shutil.copytree(ir, ir.with_name("same"))
    crops = Crops(PairDataset(ir, same), CropConfig(size=(40, 40), scale=(0.7, 1.4)))
    for k in range(8):
        crop = crops[k]
        assert (crop["infrared"] - crop["visible"]).abs().max() < 1e-5


def test_small_pictures_are_enlarged_to_the_crop(pair_folders):
    crops = Crops(PairDataset(*pair_folders), CropConfig(size=(128, 128)))
    assert crops[0]["visible"].shape == (3, 128, 128)


def test_several_sets_are_joined_and_collated(pair_folders):
    pairs = PairDataset(*pair_folders)
    crops = Crops(ConcatDataset([pairs, pairs]), CropConfig(size=(32, 32)))
    batch = next(iter(DataLoader(crops, batch_size=4, sampler=range(4))))
    assert batch["infrared"].shape == (4, 1, 32, 32)
    assert batch["seed"].shape == (4,)


def test_augmentation_do_nothing_at_zero_and_stay_in_range():
    image = torch.rand(1, 20, 30)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(Photometric()(image, generator), image)
    wild = Photometric(gamma=2, contrast=2, brightness=1, noise=1, blur=3, invert=0.5)
    for _ in range(10):
        changed = wild(image, generator)
        assert changed.min() >= 0
        assert changed.max() <= 1
    assert torch.allclose(Photometric(invert=1.0)(image, generator), 1 - image)


def test_a_curve_changes_levels_not_places():
    image = torch.linspace(0, 1, 64).expand(1, 8, 64)
    curves = []
    for seed in range(8):
        curved = Photometric(curve=1.0)(image, torch.Generator().manual_seed(seed))
        assert 0 <= curved.min() <= curved.max() <= 1
        assert (curved == curved[:, :1]).all()  # one level in, one level out
        assert (curved - image).abs().max() > 0.05
        curves.append(curved[0, 0])
    falls = [bool((curve.diff() < -1e-4).any()) for curve in curves]
    assert any(falls)
    never = Photometric(curve=0.0)(image, torch.Generator().manual_seed(0))
    assert torch.equal(never, image)


def test_augmentation_are_exact_under_autocast():
    augmentation, image = Photometric(blur=3.0, curve=1.0), torch.rand(1, 24, 24)
    expected = augmentation(image, torch.Generator().manual_seed(1))
    with torch.autocast("cpu", torch.bfloat16):
        found = augmentation(image, torch.Generator().manual_seed(1))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_white_that_is_blurred_and_inverted_stays_a_number():
    augmentation = Photometric(gamma=0.7, blur=1.5, invert=1.0)
    white = torch.ones(1, 40, 40)
    for seed in range(20):
        assert augmentation(white, torch.Generator().manual_seed(seed)).isfinite().all()


def test_lost_colour_leaves_three_equal_channels():
    image = torch.rand(3, 20, 30)
    grey = Photometric(grey=1.0)(image, torch.Generator().manual_seed(0))
    assert torch.equal(grey[0], grey[2])
    expected = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    assert torch.allclose(grey[0], expected, atol=1e-6)


def test_a_rendered_pseudo_infrared_is_cropped_with_its_pair(pair_folders):
    class Negative(torch.nn.Module):
        def forward(self, visible):
            return 1 - visible[:, :1]

    rendered = Rendered(PairDataset(*pair_folders), Negative())
    crop = Crops(rendered, CropConfig(size=(40, 40), scale=(0.7, 1.4)))[2]
    assert (crop["pseudo"] - (1 - crop["visible"][:1])).abs().max() < 1e-5


class Negative(torch.nn.Module):
    """Renders what is bright dark, and counts how often."""

    calls = 0

    def forward(self, visible):
        self.calls += 1
        return 1 - visible[:, :1]


def test_rendered_images_keep_within_their_room(pair_folders):
    one = 72 * 96 * 4  # float32 bytes
    for room, calls in ((0, 6), (one, 5), (2 * one + 1, 4), (3 * one, 3)):
        network = Negative()
        rendered = Rendered(PairDataset(*pair_folders), network, cache=room)
        first, second = ([rendered[k]["pseudo"] for k in range(3)] for _ in range(2))
        assert network.calls == calls
        assert all(torch.equal(*both) for both in zip(first, second, strict=True))


def test_what_is_kept_can_be_trained_on_whoever_asked_first(pair_folders):
    rendered = Rendered(PairDataset(*pair_folders), Negative())
    with torch.inference_mode():
        rendered[0]
    weight = torch.ones((), requires_grad=True)
    for index in (0, 1):
        for image in rendered[index].values():
            (weight * image).square().sum().backward()
            assert weight.grad > 0


def test_each_camera_has_a_range_of_its_own(pair_folders):
    plain = PairDataset(*pair_folders)[0]
    pairs = PairDataset(*pair_folders, ir_range=(0, 510), vis_range=(0, 1020))
    torch.testing.assert_close(pairs[0]["infrared"], plain["infrared"] / 2)
    torch.testing.assert_close(pairs[0]["visible"], plain["visible"] / 4)


def test_the_held_out_are_spread_and_the_rest_is_the_rest():
    pairs = [{"infrared": torch.full((1, 1, 1), float(k))} for k in range(10)]

    def numbers(part):
        return [int(part[k]["infrared"]) for k in range(len(part))]

    rest, held = hold_out(pairs, 0.3)
    assert numbers(held) == [1, 4, 7]
    assert sorted(numbers(rest) + numbers(held)) == list(range(10))
    assert hold_out(pairs, 0) == (pairs, None)

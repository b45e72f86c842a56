import copy
import hashlib
import logging

import fake_hub
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from fake_hub import COMMIT, FakeHub
from scenes import scene
from torch import nn

from umfuse.train import losses, perceptual
from umfuse.train.perceptual import Mind, Pixels, Vgg19, vgg19
from umfuse.weights import WeightsError

SIZES = (64, 64, "M", 128, 128, "M", *(4 * [256]), "M", *(4 * [512]), "M", *(4 * [512]), "M")


@pytest.fixture(scope="module")
def network():
    """VGG-19's convolutions as torchvision stacks them, with random values."""
    torch.manual_seed(0)
    layers, inputs = [], 3
    for size in SIZES:
        if size == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(inputs, size, 3, padding=1), nn.ReLU()]
            nn.init.kaiming_normal_(layers[-2].weight)
            inputs = size
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def state(network):
    named = {f"features.{key}": value for key, value in network.state_dict().items()}
    return {**named, "head.fc.weight": torch.zeros(10, 4)}


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "model.safetensors"
    safetensors.torch.save_file(state, path)
    return path


@pytest.fixture
def hub(file, monkeypatch):
    server = FakeHub(perceptual.REPO, {perceptual.FILE: file.read_bytes()})
    fake_hub.use(monkeypatch, server.url)
    monkeypatch.setattr(perceptual, "REVISION", COMMIT)
    monkeypatch.setattr(perceptual, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    yield server
    server.close()


def test_the_layers_of_vgg19_are_the_first_of_each_block(network, file):
    image = torch.rand(2, 1, 48, 64)
    normalised = (
        image.expand(-1, 3, -1, -1) - torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    ) / (torch.tensor([0.229, 0.224, 0.225])[:, None, None])
    maps = vgg19(file)(image)
    with torch.no_grad():
        for end, found in zip((2, 7, 12, 21, 30), maps, strict=True):
            torch.testing.assert_close(found, network[:end](normalised), atol=1e-4, rtol=1e-4)
    assert [tuple(one.shape[1:]) for one in maps] == [
        (64, 48, 64),
        (128, 24, 32),
        (256, 12, 16),
        (512, 6, 8),
        (512, 3, 4),
    ]
    assert Vgg19.layer_weights == (1 / 32, 1 / 16, 1 / 8, 1, 1)


def test_vgg19_lets_gradients_through_but_is_not_trained(file):
    features = vgg19(file)
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    sum(one.mean() for one in features(image)).backward()
    assert image.grad.abs().sum() > 0
    assert copy.deepcopy(features) is features  # a copy of a task does not hold another 50 MB


def test_the_sha256_of_a_file_is_told_and_a_pickle_is_no_such_file(state, file, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    vgg19(file)
    assert hashlib.sha256(file.read_bytes()).hexdigest() in caplog.text
    path = tmp_path / "vgg19.pth"
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"as safetensors.*model\.safetensors of timm/vgg19"):
        vgg19(path)


def test_it_comes_from_the_hub_once(hub, tmp_path):
    image = torch.rand(1, 3, 16, 16)
    first = vgg19(cache_dir=tmp_path)(image)
    hub.requests.clear()
    again = vgg19(cache_dir=tmp_path, local_files_only=True)(image)
    assert hub.requests == []
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_a_file_that_is_not_the_known_one_is_refused(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "SHA256", "0" * 64)
    with pytest.raises(WeightsError, match=r"damaged: expected sha256 0{64}"):
        vgg19(cache_dir=tmp_path)


def test_offline_the_way_out_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r'features "mind", which need no download.*timm/vgg19'):
        vgg19(cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(WeightsError, match=r'there is no file.*Use the features "mind"'):
        vgg19(tmp_path / "none.pth")


def test_the_pinned_file_is_named_whole():
    assert len(perceptual.REVISION) == 40
    assert len(perceptual.SHA256) == 64
    int(perceptual.REVISION, 16), int(perceptual.SHA256, 16)


def test_another_network_is_refused(state, tmp_path):
    def refused(changed, message):
        safetensors.torch.save_file(changed, tmp_path / "other.safetensors")
        with pytest.raises(WeightsError, match=message):
            vgg19(tmp_path / "other.safetensors")

    few = {key: value for key, value in state.items() if not key.startswith("features.34")}
    refused(few, r"features\.34\.bias should be of shape \(512,\), got None")
    normed = {**state, "features.1.running_mean": torch.zeros(64)}
    refused(normed, r"features\.1\.running_mean should be of shape None")
    refused({**state, "features.0.weight": torch.zeros(64, 1, 3, 3)}, r"got \(64, 1, 3, 3\)")
    refused({"head.fc.weight": torch.zeros(10, 4)}, "not the 16 convolutions")
    (tmp_path / "cut.safetensors").write_bytes(b"{}")
    with pytest.raises(WeightsError, match="cannot read"):
        vgg19(tmp_path / "cut.safetensors")


def test_features_have_names(file, monkeypatch):
    assert isinstance(perceptual.load(), Mind)
    assert isinstance(perceptual.load("mind"), Mind)
    assert isinstance(perceptual.load("pixels"), Pixels)
    assert isinstance(perceptual.load(file), Vgg19)
    assert perceptual.load(file) is perceptual.load(file)
    asked = []
    monkeypatch.setattr(perceptual, "vgg19", asked.append)
    perceptual.load("vgg19")
    assert asked == [None]
    perceptual.load.cache_clear()


def test_mind_is_blind_to_which_side_is_brighter():
    image = scene(1)
    features = Mind()
    lifted = (image + 0.01).sqrt()
    darker = (1.05 - lifted).square() - 0.01  # the inverse, in the scale that the features see
    for one, other in zip(features(image), features(darker), strict=True):
        # Up to the rounding of averages at coarse levels, which are of squares.
        assert (one - other).abs().mean() < 0.05
        assert (one - other.flip(3)).abs().mean() > 0.15


def test_mind_describes_every_channel_and_level():
    image = torch.rand(2, 3, 24, 40)
    maps = Mind(levels=2)(image)
    assert [tuple(one.shape) for one in maps] == [(2, 24, 24, 40), (2, 24, 12, 20)]
    assert all(bool(((one >= 0) & (one <= 1)).all()) for one in maps)
    alone = Mind(levels=2)(image[:, 1:2])
    for whole, part in zip(maps, alone, strict=True):
        assert torch.equal(whole[:, 8:16], part)
    assert sum(Mind(levels=2).layer_weights) == 1


def test_mind_of_a_ramp_knows_the_direction_of_the_edge():
    ramp = ((torch.arange(32.0) / 40) ** 2).expand(1, 1, 32, 32) - 0.01  # linear after the root
    (maps,) = Mind(levels=1)(ramp.clamp_min(0))
    inner = maps[0, :, 10:-10, 10:-10].mean((1, 2))
    across = [0, 2, 3, 4, 5, 7]  # all neighbours but those straight up and down
    assert inner[1] == inner[6] == 1
    assert inner[across].max() < 0.5


def test_a_flat_image_is_described_by_nothing():
    image = torch.full((1, 1, 24, 24), 0.4, requires_grad=True)
    maps = Mind()(image)
    sum(one.sum() for one in maps).backward()
    assert all(bool((one == 1).all()) for one in maps)
    assert image.grad.isfinite().all()


def test_mind_prefers_the_right_place_across_modalities():
    infrared = scene(2, 96, 96)
    visible = 0.2 + 0.6 * (1 - infrared) ** 1.5
    features = Mind()
    there = features(visible[..., 16:80, 16:80])

    def loss(right):
        moved = features(infrared[..., 16:80, 16 + right : 80 + right])
        return losses.similarity(there, moved, features.layer_weights)

    assert loss(0) < loss(1) < loss(2) < loss(4) < loss(8)


def test_features_run_under_autocast(file):
    image = torch.rand(1, 1, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        for features in (Mind(), vgg19(file)):
            maps = features(image)
            same = losses.similarity(maps, maps, features.layer_weights)
            assert same == 0
            assert same.dtype == torch.float32
    expected = Mind()(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(Mind()(image), expected, strict=True))
    assert F.mse_loss(expected[0], torch.zeros_like(expected[0])) > 0

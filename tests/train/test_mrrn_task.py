import pytest
import torch
import torch.nn.functional as F
from tiny_tasks import descend, mrrn_task

from umfuse import geometry
from umfuse.networks import Cpstn, CpstnConfig
from umfuse.networks.mrrn import MrrnOutput
from umfuse.train import DeformConfig
from umfuse.train.augment import Photometric
from umfuse.train.perceptual import Pixels
from umfuse.train.tasks import MrrnLossWeights
from umfuse.train.tasks.mrrn import _at_level

UNKNOWN = MrrnLossWeights(distance=0, match=0, similarity=1, reverse=0.2, smooth=0.05)


class Says(torch.nn.Module):
    """An MRRN that always finds the same field."""

    def __init__(self, displacement):
        super().__init__()
        self.displacement = displacement
        self.config = type("Config", (), {"in_channels": 1})

    def forward(self, fixed, moving):
        return MrrnOutput(self.displacement, ())


def test_it_starts_at_staying(batch):
    parts = mrrn_task()(batch)
    assert parts["input"] > 1
    assert parts["error"] == pytest.approx(float(parts["input"]), rel=0.1)


def test_a_protocol_may_deform(batch):
    task = mrrn_task(deform="paper")
    parts = task(batch)
    assert 0.1 < parts["input"] < 3  # at most about 2.5 px at 256 x 256, here a third
    assert torch.equal(task(batch)["input"], parts["input"])
    assert not torch.equal(task({**batch, "seed": torch.tensor([9, 4])})["input"], parts["input"])


def test_it_draws_from_the_seed_of_the_batch(batch):
    task = mrrn_task(single_modality=0.5)
    first = task(batch)["loss"]
    assert torch.equal(task(batch)["loss"], first)
    other = task({**batch, "seed": torch.tensor([99, 4])})["loss"]
    assert not torch.equal(other, first)


@pytest.mark.parametrize("pseudo", [False, True])
def test_crops_of_one_camera_are_of_either(batch, pseudo, monkeypatch):
    """Both images are then of the infrared or of the visible image, one with other augmentation."""
    task, seen = mrrn_task(single_modality=1.0, augmentation=Photometric(gamma=0.5)), []
    monkeypatch.setattr(task, "terms", lambda *args: seen.append(args[:3]) or 1 / 0)
    if pseudo:
        batch = {**batch, "pseudo": torch.rand_like(batch["infrared"])}
    for seed in range(8):
        with pytest.raises(ZeroDivisionError):
            task({**batch, "seed": torch.tensor([seed, 0])})
    kinds = set()
    for infrared, fixed, source in seen:
        assert torch.equal(fixed, source)
        for k in range(2):
            kind = "infrared" if torch.equal(infrared[k], batch["infrared"][k]) else "visible"
            kinds.add(kind)
            if kind == "visible":
                torch.testing.assert_close(fixed[k], batch["visible"][k, :1])
            other = fixed[k] if kind == "infrared" else infrared[k]
            levels = batch[kind][k, :1].flatten()[:50]
            assert torch.equal(levels.argsort(), other.flatten()[:50].argsort())  # as gamma does
    assert kinds == {"infrared", "visible"}


def test_a_bridge_leads_from_one_camera_to_the_other(batch, monkeypatch):
    task, seen = mrrn_task(bridge=(0.5, 1.0), augmentation=Photometric()), []
    monkeypatch.setattr(task, "terms", lambda *args: seen.append(args[:3]) or 1 / 0)
    for seed in range(8):
        with pytest.raises(ZeroDivisionError):
            task({**batch, "seed": torch.tensor([seed, 0])})
    parts = []
    for infrared, fixed, source in seen:
        torch.testing.assert_close(infrared, batch["infrared"])
        torch.testing.assert_close(source, batch["visible"][:, :1])
        for k in range(2):
            way = source[k] - infrared[k]
            part = ((fixed[k] - infrared[k]) * way).sum() / way.square().sum()
            torch.testing.assert_close(fixed[k], torch.lerp(infrared[k], source[k], part))
            parts.append(float(part))
    assert 0.5 <= min(parts) < 0.6
    assert 0.9 < max(parts) <= 1


def test_likeness_may_be_that_to_the_aligned_image(batch):
    """Staying costs nothing where nothing was deformed, however different the fixed image is."""
    still = DeformConfig(mean=(0, 0))
    weights = MrrnLossWeights(distance=0, match=0, similarity=1)
    choice = {"deform": still, "weights": weights, "perceptual": Pixels()}
    stay = Says(torch.zeros(2, 2, *(side - 16 for side in batch["infrared"].shape[-2:])))
    for aligned in (False, True):
        task = mrrn_task(**choice, aligned=aligned)
        task.network = stay
        assert (task(batch)["similarity"] < 1e-6) == aligned


@pytest.mark.parametrize(
    "option", [{"aligned": True}, {"bridge": (0.0, 1.0)}, {"single_modality": 0.1}]
)
def test_what_needs_a_known_displacement_says_so(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        mrrn_task(deform=None, weights=UNKNOWN, **option)


def test_the_matching_term_falls_as_descriptors_learn(batch):
    torch.manual_seed(0)
    history = descend(mrrn_task(weights=MrrnLossWeights(distance=0, match=1)), batch, 15, 4e-3)
    assert history[-1]["match"] < 0.9 * history[0]["match"]


def test_padding_does_not_stretch_the_truth():
    """Levels of a padded network are compared at their own places."""
    truth = torch.arange(80.0).expand(1, 2, 80, 80) / 10
    valid = torch.ones(1, 1, 80, 80)
    coarse, weight, stride = _at_level(torch.zeros(1, 2, 24, 24), truth, valid)
    assert stride == 4
    expected = (torch.arange(20) * 4 + 1.5) / 10 / 4
    torch.testing.assert_close(coarse[0, 0, 3, :20], expected)
    assert weight[..., :20, :20].min() == 1
    assert weight[..., 20:].max() == weight[..., 20:, :].max() == 0


def test_it_uses_the_pseudo_infrared_that_it_gets(batch):
    torch.manual_seed(0)
    cpstn = Cpstn(CpstnConfig(filters=4, blocks=1))
    task = mrrn_task(cpstn=cpstn)
    with torch.no_grad():
        pseudo = cpstn(batch["visible"])
        rendered = task(batch)["loss"]
        given = task({**batch, "pseudo": pseudo})["loss"]
        other = task({**batch, "pseudo": 1 - pseudo})["loss"]
    torch.testing.assert_close(rendered, given)
    assert given != other
    assert not any(p.requires_grad for p in cpstn.parameters())


def test_similarity_alone_finds_a_displacement_that_nobody_told(batch):
    torch.manual_seed(0)
    task = mrrn_task(weights=UNKNOWN)  # the visible image is a dark-for-light infrared one
    history = descend(task, batch, 40, 4e-3)
    assert history[0]["error"] == pytest.approx(history[0]["input"], rel=0.1)
    assert history[-1]["error"] < 0.6 * history[-1]["input"]


def pair(shift):
    """A smooth image, and what a camera shifted by some pixels to the left sees of it."""
    coarse = torch.rand(1, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    wide = F.interpolate(coarse, (96, 96), mode="bicubic").clamp(0, 1)
    return wide[..., 16:80, 16:80], wide[..., 16:80, 16 - shift : 80 - shift]


def measure(fixed, moving, displacement, weights=UNKNOWN):
    task = mrrn_task(deform=None, weights=weights)
    task.network = Says(displacement)
    batch = {"infrared": moving, "visible": fixed.expand(-1, 3, -1, -1), "seed": torch.zeros(1)}
    return task(batch)


def test_both_terms_of_eq_13_vanish_where_the_field_is_right():
    fixed, moving = pair(3)
    truth = torch.zeros(1, 2, 64, 64)
    truth[:, 0] = 3.0  # registered[x] = moving[x + 3]
    right, still = measure(fixed, moving, truth), measure(fixed, moving, 0 * truth)
    wrong = measure(fixed, moving, -truth)
    for name in ("similarity", "reverse"):
        assert right[name] < 0.1 * still[name]
        assert still[name] < wrong[name]
    expected = right["similarity"] + 0.2 * right["reverse"] + 0.05 * right["smooth"]
    torch.testing.assert_close(right["loss"], expected)


def test_the_reverse_term_uses_the_inverse_not_the_negative():
    fixed, _ = pair(0)
    y, x = torch.meshgrid(*2 * (torch.linspace(-1, 1, 64),), indexing="ij")
    field = torch.stack((7 * torch.sin(2 * y) * x, 7 * torch.cos(2 * x) * y))[None]
    inverse, error = geometry.invert(field)
    assert error[..., 12:-12, 12:-12].max() < 0.05
    assert (inverse + field).abs().mean() > 0.3
    moving = geometry.warp(fixed, inverse)[0]
    by_inverse = measure(fixed, moving, field)["reverse"]
    by_negative = measure(fixed, geometry.warp(fixed, -field)[0], field)["reverse"]
    assert by_inverse < 0.3 * by_negative


def test_what_leaves_the_frame_does_not_count():
    fixed, moving = pair(12)
    truth = torch.zeros(1, 2, 64, 64)
    truth[:, 0] = 12.0
    # A sixth of the registered image is a repeated border: it would be most of the difference.
    assert measure(fixed, moving, truth)["similarity"] < 0.03


def test_a_pair_with_no_truth_has_no_error_to_tell(batch):
    parts = mrrn_task(deform=None, weights=UNKNOWN)(batch)
    assert parts.keys() == {"loss", "distance", "match", "similarity", "reverse", "smooth"}
    assert parts["distance"] == parts["match"] == 0


@pytest.mark.parametrize(
    "changes",
    [{}, {"weights": UNKNOWN, "single_modality": 0.5}, {"weights": MrrnLossWeights(match=0)}],
)
def test_terms_that_need_a_truth_are_refused_without_one(changes):
    with pytest.raises(ValueError, match="no displacement is known"):
        mrrn_task(deform=None, **changes)

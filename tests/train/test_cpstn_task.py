import pytest
import torch
from tiny_tasks import PAPER_CPSTN, cpstn_task, cycle_task, slopes

from umfuse.networks import Cpstn, CpstnConfig
from umfuse.train import losses
from umfuse.train.tasks import CpstnLossWeights, CpstnTask

NOTHING = dict.fromkeys(
    ("content", "edge", "structure", "perceptual", "style", "adversarial", "critic"), 0.0
)


def only(**weights):
    return CpstnLossWeights(**{**NOTHING, **weights})


def players(task):
    return [
        task.network,
        *([] if task.back is None else [task.back]),
        task.adversary,
        *([] if task.back_adversary is None else [task.back_adversary]),
    ]


def test_the_players_are_trained_apart(batch):
    for make in (cpstn_task, cycle_task):
        task = make()
        half = len(players(task)) // 2
        task.weights = only(adversarial=1.0)
        steep = [slopes(task(batch)["loss"], player) for player in players(task)]
        assert all(steep[:half])
        assert not any(steep[half:])
        task.weights = only(critic=1.0)
        steep = [slopes(task(batch)["loss"], player) for player in players(task)]
        assert not any(steep[:half])
        assert all(steep[half:])


@pytest.mark.parametrize("term", ["content", "edge"])
def test_cross_regularisation_trains_each_generator_on_its_own_modality(batch, term):
    task = cycle_task(only(**{term: 1.0}))
    parts, rendered = task.terms(batch["infrared"], batch["visible"], torch.Generator())
    imagined = task.back(batch["infrared"])
    loss = getattr(losses, term)
    expected = loss(rendered, batch["infrared"]) + loss(imagined, batch["visible"])
    torch.testing.assert_close(parts[term], expected)
    assert slopes(parts[term], task.network) > 0
    assert slopes(parts[term], task.back) > 0


@pytest.mark.parametrize("term", ["perceptual", "style"])
def test_the_cycle_compares_what_comes_back(batch, term):
    class Twice:
        """Generators' stand-in for features: the images themselves, in two layers."""

        layer_weights = (0.5, 2.0)

        def __call__(self, image):
            return [image, 3 * image]

    task = cycle_task(only(**{term: 1.0}), perceptual=Twice())
    infrared, visible = batch["infrared"], batch["visible"]
    expected = 0
    for image, again in (
        (visible, task.back(task.network(visible))),
        (infrared, task.network(task.back(infrared))),
    ):
        for weight, factor in ((0.5, 1), (2.0, 3)):
            a, b = factor * image, factor * again
            if term == "style":
                a, b = (torch.einsum("bihw,bjhw->bij", x, x) / x[0].numel() for x in (a, b))
            expected = expected + weight * (a - b).square().mean()
    torch.testing.assert_close(task(batch)["loss"], expected)


def test_a_perfect_cycle_costs_nothing(batch):
    class Grey(torch.nn.Module):
        """Its own inverse on grey pictures."""

        def __init__(self, config):
            super().__init__()
            self.config = config

        def forward(self, image):
            return image[:, :1].expand(-1, self.config.out_channels, -1, -1)

    forth = Grey(CpstnConfig())
    back = Grey(CpstnConfig(in_channels=1, out_channels=3))
    task = CpstnTask(forth, PAPER_CPSTN, back=back, filters=8)
    parts = task({**batch, "visible": batch["infrared"].expand(-1, 3, -1, -1)})
    for name in ("content", "perceptual", "style"):
        assert parts[name] == 0


def test_without_a_way_back_there_is_no_cycle(batch):
    task = cpstn_task()
    parts = task(batch)
    assert parts["perceptual"] == parts["style"] == 0
    assert task.back is None
    with pytest.raises(ValueError, match="compare cycles: pass the way back"):
        cpstn_task(CpstnLossWeights(style=100))


def test_a_way_back_that_is_none_is_refused():
    with pytest.raises(ValueError, match="must turn 1 channels into 3"):
        cpstn_task(back=Cpstn(CpstnConfig(filters=4, blocks=1)))


def test_the_result_is_the_way_to_infrared():
    task = cycle_task()
    assert dict(task.networks) == {"cpstn": task.network}

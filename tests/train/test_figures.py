import math

import pytest
import torch

from umfuse.train.distributed import World
from umfuse.train.figures import Figures

ALONE = World(torch.device("cpu"))


def add(figures, step, *losses, norm=1.0, stop=False):
    views = [{"image": torch.full((1, 2), float(step))} for _ in losses]
    parts = [{"loss": torch.tensor(loss), "two": torch.tensor(2 * loss)} for loss in losses]
    figures.add(step, views, parts, torch.tensor(norm), stop)


@pytest.mark.parametrize("lag", [0, 1])
def test_figures_are_means_over_microbatches_and_steps(tmp_path, lag):
    figures = Figures(tmp_path, ALONE, lag)
    add(figures, 0, 1.0, 2.0, norm=5.0)
    add(figures, 1, 3.0, 4.0, norm=7.0)
    assert figures.loss == (1.5 if lag else 3.5)
    assert figures.take() == {"loss": 2.5, "two": 5.0, "gradient_norm": 6.0}
    assert figures.loss == 3.5
    add(figures, 2, 8.0, 8.0)
    assert figures.take() == {"loss": 8.0, "two": 16.0, "gradient_norm": 1.0}


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_the_batch_that_is_saved_is_the_one_to_blame(tmp_path, lag, loss, norm):
    figures = Figures(tmp_path, ALONE, lag)
    add(figures, 4, 1.0)
    if lag:
        add(figures, 5, loss, 1.0, norm=norm)
    with pytest.raises(FloatingPointError, match="not finite at step 5"):
        add(figures, 5 + lag, loss, 1.0, norm=norm)
    saved = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    assert saved["step"] == 5
    assert torch.equal(saved["batch"]["image"], torch.full((2, 2), 5.0))


def test_nothing_is_saved_unseen(tmp_path):
    figures = Figures(tmp_path, ALONE, lag=1)
    add(figures, 0, math.nan)
    with pytest.raises(FloatingPointError, match="at step 0"):
        figures.settle()


def test_the_wish_to_stop_is_kept(tmp_path):
    figures = Figures(tmp_path, ALONE, lag=0)
    add(figures, 0, 1.0)
    assert not figures.stop
    add(figures, 1, 1.0, stop=True)
    add(figures, 2, 1.0)
    assert figures.stop
    assert "stop" not in figures.take()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_on_the_gpu_does_not_wait_for_its_figures(tmp_path):
    figures = Figures(tmp_path, World(torch.device("cuda")), lag=1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(4):
            loss = {"loss": torch.full((), float(step), device="cuda")}
            figures.add(step, [{}], [loss], loss["loss"], False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert figures.loss == 2
    assert figures.take() == {"loss": 1.5, "gradient_norm": 1.5}

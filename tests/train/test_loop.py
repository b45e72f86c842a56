import json
import logging

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from umfuse.train import TrainConfig, fit, latest

CONFIG = TrainConfig(
    steps=12, batch=2, lr=1e-2, warmup=2, ema=0.9, bf16=False, log_every=4, save_every=5
)


class Noise(Dataset):
    """View k is drawn from k alone."""

    def __getitem__(self, index):
        return {"image": torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(index))}


class Task(nn.Module):
    """Fits a convolution to a blur, and draws from the run's own randomness as dropout does."""

    def __init__(self, poison=None):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(0.5), nn.Conv2d(4, 1, 1))
        self.fixed = nn.Parameter(torch.ones(()), requires_grad=False)
        self.calls, self.poison = 0, poison

    def forward(self, batch):
        self.calls += 1
        target = nn.functional.avg_pool2d(batch["image"], 3, 1)
        loss = (self.network(batch["image"]) - target).square().mean()
        return {"loss": loss * (float("nan") if self.calls == self.poison else 1), "plain": loss}


def lines(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def equal(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_run_that_stopped_goes_on_bit_for_bit(tmp_path, stop):
    straight = Task()
    expected = fit(straight, Noise(), CONFIG, tmp_path / "straight")
    fit(Task(), Noise(), CONFIG, tmp_path / "stopped", stop=stop)
    assert latest(tmp_path / "stopped").name == f"step-{stop:08d}"
    torch.manual_seed(123)  # the randomness of the run comes from its checkpoint
    resumed = Task()
    average = fit(resumed, Noise(), CONFIG, tmp_path / "stopped")
    assert equal(resumed, straight)
    assert equal(average, expected)
    assert not equal(average, straight)


def test_workers_change_nothing(tmp_path):
    from dataclasses import replace

    expected = fit(Task(), Noise(), CONFIG, tmp_path / "none")
    two = fit(Task(), Noise(), replace(CONFIG, workers=2), tmp_path / "two")
    assert equal(two, expected)


def test_the_loss_falls(tmp_path):
    from dataclasses import replace

    config = replace(CONFIG, steps=60, log_every=10)
    fit(Task(), Noise(), config, tmp_path)
    logged = [line["loss"] for line in lines(tmp_path)]
    assert logged[-1] < 0.7 * logged[0]


def test_a_finished_run_gives_its_result_again(tmp_path):
    first = fit(Task(), Noise(), CONFIG, tmp_path)
    task = Task()
    again = fit(task, Noise(), CONFIG, tmp_path)
    assert task.calls == 0
    assert equal(again, first)


def test_a_crash_while_saving_costs_one_checkpoint_at_most(tmp_path, monkeypatch):
    save, calls = torch.save, []

    def crash(state, file):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half of it")
            raise OSError("No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="No space"):
        fit(Task(), Noise(), CONFIG, tmp_path / "run")
    assert [f.name for f in sorted((tmp_path / "run/checkpoints").iterdir())] == [
        "step-00000005",
        "unfinished-step-00000010",
    ]
    resumed = fit(Task(), Noise(), CONFIG, tmp_path / "run")
    assert equal(resumed, fit(Task(), Noise(), CONFIG, tmp_path / "straight"))
    assert not list((tmp_path / "run/checkpoints").glob("unfinished-*"))


def test_old_checkpoints_are_dropped(tmp_path):
    from dataclasses import replace

    fit(Task(), Noise(), replace(CONFIG, save_every=3, keep=2), tmp_path)
    names = [folder.name for folder in sorted((tmp_path / "checkpoints").iterdir())]
    assert names == ["step-00000009", "step-00000012"]


def test_nan_stops_the_run_and_leaves_the_batch(tmp_path):
    task = Task(poison=7)
    with pytest.raises(FloatingPointError, match="at step 6"):
        fit(task, Noise(), CONFIG, tmp_path)
    bad = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    views = Noise()
    expected = torch.stack([views[12]["image"], views[13]["image"]])
    assert torch.equal(bad["batch"]["image"], expected)
    assert latest(tmp_path).name == "step-00000005"
    assert all(bool(p.isfinite().all()) for p in task.parameters())


def test_another_config_is_not_continued(tmp_path):
    from dataclasses import replace

    fit(Task(), Noise(), CONFIG, tmp_path, stop=2)
    with pytest.raises(ValueError, match="begun with other values of lr, seed"):
        fit(Task(), Noise(), replace(CONFIG, lr=1.0, seed=3), tmp_path)


def test_the_log_holds_means_rates_and_figures(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    fit(Task(), Noise(), CONFIG, tmp_path, validate=lambda task: {"score": 0.5}, validate_every=8)
    log = lines(tmp_path)
    assert [line["step"] for line in log] == [4, 8, 8, 12, 12]
    assert [line.get("score") for line in log] == [None, None, 0.5, None, 0.5]
    assert log[0].keys() >= {"loss", "plain", "lr", "gradient_norm", "s_per_step"}
    assert "min left" in caplog.text


def test_the_average_follows_but_what_is_not_trained_is_copied(tmp_path):
    task = Task()
    task.fixed.data.fill_(3)
    average = fit(task, Noise(), CONFIG, tmp_path)
    assert average.fixed == 3
    assert not average.training
    assert not any(p.requires_grad for p in average.parameters())


def test_the_rate_rises_then_falls():
    config = TrainConfig(steps=100, lr=1.0, warmup=10, final_lr=0.1)
    rates = [config.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1)
    assert rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.55)
    assert rates[99] == pytest.approx(0.1, abs=1e-3)
    assert sorted(rates[10:], reverse=True) == rates[10:]


def test_impossible_configs_are_refused():
    with pytest.raises(ValueError, match="batch must be at least 1"):
        TrainConfig(steps=1, batch=0)


def test_bfloat16_and_channels_last_train_too(tmp_path):
    from dataclasses import replace

    task = Task()
    fit(task, Noise(), replace(CONFIG, bf16=True, channels_last=True), tmp_path)
    assert all(p.dtype == torch.float32 for p in task.parameters())
    assert all("loss" not in line or line["loss"] < 10 for line in lines(tmp_path))

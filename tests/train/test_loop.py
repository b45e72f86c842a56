import contextlib
import json
import logging
import signal
import threading
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tiny import CONFIG, Noise, Task, equal
from torch import nn

import umfuse
from umfuse import geometry, images
from umfuse.config import UmfuseConfig
from umfuse.networks import CpstnConfig, Difn, DifnConfig, MrrnConfig
from umfuse.pipeline import Umfuse
from umfuse.train import CropConfig, Crops, PairDataset, fit
from umfuse.train.checkpoints import latest
from umfuse.train.config import read_config
from umfuse.train.tasks import DifnTask


def lines(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def checkpoints(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def scores(*values):
    """Returns a `validate` that gives these figures in turn."""
    left = list(values)
    return lambda average: {"score": left.pop(0)}


# ---- a run and its resumption -------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop", [1, 5, 7])
def test_a_run_that_stopped_goes_on_bit_for_bit(tmp_path, stop, accumulate):
    config = replace(CONFIG, accumulate=accumulate)
    straight = Task()
    expected = fit(straight, Noise(), config, tmp_path / "straight")
    fit(Task(), Noise(), config, tmp_path / "stopped", stop=stop)
    assert latest(tmp_path / "stopped").name == f"step-{stop:08d}"
    torch.manual_seed(123)  # the randomness of the run comes from its checkpoint
    resumed = Task()
    average = fit(resumed, Noise(), config, tmp_path / "stopped")
    assert equal(resumed, straight)
    assert equal(average, expected)
    assert not equal(average, straight)


def test_workers_change_nothing(tmp_path):
    expected = fit(Task(), Noise(), CONFIG, tmp_path / "none")
    two = fit(Task(), Noise(), replace(CONFIG, workers=2), tmp_path / "two")
    assert equal(two, expected)


def test_the_loss_falls(tmp_path):
    fit(Task(), Noise(), replace(CONFIG, steps=60, log_every=10), tmp_path)
    logged = [line["loss"] for line in lines(tmp_path)]
    assert logged[-1] < 0.7 * logged[0]


def test_a_finished_run_gives_its_result_again(tmp_path):
    first = fit(Task(), Noise(), CONFIG, tmp_path)
    task = Task()
    again = fit(task, Noise(), CONFIG, tmp_path)
    assert task.calls == 0
    assert equal(again, first)
    assert not again.training


def test_another_config_is_not_continued(tmp_path):
    fit(Task(), Noise(), CONFIG, tmp_path, stop=5)
    with pytest.raises(ValueError, match="begun with other values of lr, seed"):
        fit(Task(), Noise(), replace(CONFIG, lr=1.0, seed=3), tmp_path)
    with pytest.raises(ValueError, match="begun with other values of steps"):
        fit(Task(), Noise(), replace(CONFIG, steps=20), tmp_path)


def test_what_does_not_change_the_result_may_change(tmp_path):
    expected = fit(Task(), Noise(), CONFIG, tmp_path / "straight")
    fit(Task(), Noise(), CONFIG, tmp_path / "run", stop=4)
    other = replace(CONFIG, workers=1, log_every=1, save_every=3, keep=9)
    assert equal(fit(Task(), Noise(), other, tmp_path / "run"), expected)
    assert [line["step"] for line in lines(tmp_path / "run")] == [4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert [int(name[5:]) for name in checkpoints(tmp_path / "run")] == [4, 6, 9, 12]


def test_a_run_at_a_constant_rate_may_be_prolonged(tmp_path):
    constant = replace(CONFIG, final_lr=1.0)
    expected = fit(Task(), Noise(), constant, tmp_path / "straight")
    fit(Task(), Noise(), replace(constant, steps=7), tmp_path / "run")
    assert equal(fit(Task(), Noise(), constant, tmp_path / "run"), expected)


def test_what_was_logged_after_the_checkpoint_is_logged_once(tmp_path):
    task = Task(poison=11)
    with pytest.raises(FloatingPointError):
        fit(task, Noise(), replace(CONFIG, log_every=2), tmp_path)
    assert lines(tmp_path)[-1]["step"] == 10
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 11, "lo')  # killed while writing
    (tmp_path / "checkpoints/step-00000010").rename(tmp_path / "away")
    fit(Task(), Noise(), replace(CONFIG, log_every=2), tmp_path)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 6, 8, 10, 12]


# ---- what an update is --------------------------------------------------------------


def test_the_papers_optimiser_is_adam_at_a_constant_rate(tmp_path):
    papers = replace(
        CONFIG, lr=1e-3, betas=(0.9, 0.999), weight_decay=0, warmup=0, final_lr=1, clip=None, ema=0
    )
    ours, theirs, crops = Task(dropout=0), Task(dropout=0), Noise()
    average = fit(ours, crops, papers, tmp_path)
    adam = torch.optim.Adam(theirs.network.parameters(), 1e-3)
    for step in range(papers.steps):
        pair = crops[2 * step], crops[2 * step + 1]
        adam.zero_grad()
        theirs({name: torch.stack([one[name] for one in pair]) for name in pair[0]})[
            "loss"
        ].backward()
        adam.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert equal(average, ours)


class Plain(Task):
    """Draws nothing: its loss on a batch is the mean of those on the crops."""

    def __init__(self):
        super().__init__(dropout=0)

    def forward(self, batch):
        target = nn.functional.avg_pool2d(batch["image"], 3, 1)
        return {"loss": (self.network(batch["image"]) - target).square().mean()}


def test_microbatches_add_up_to_the_batch(tmp_path):
    whole, parts = Plain(), Plain()
    config = replace(CONFIG, batch=4)
    fit(whole, Noise(), config, tmp_path / "whole")
    fit(parts, Noise(), replace(config, accumulate=4), tmp_path / "parts")
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    logs = lines(tmp_path / "whole"), lines(tmp_path / "parts")
    assert len(logs[0]) == CONFIG.steps // CONFIG.log_every
    for one, other in zip(*logs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-4)


def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    with pytest.raises(ValueError, match="multiple of accumulate times the number of processes"):
        fit(Task(), Noise(), replace(CONFIG, batch=3, accumulate=2), tmp_path)


class Players(nn.Module):
    """A loud player and a quiet one."""

    def __init__(self, **groups):
        super().__init__()
        self.loud, self.quiet = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3))
        self.fixed = nn.Parameter(torch.zeros(3), requires_grad=False)

    def forward(self, batch):
        return {"loss": (1e4 * self.loud + self.quiet).sum()}


class TwoPlayers(Players):
    def parameter_groups(self):
        return [{"params": [self.loud, self.fixed], "lr_scale": 0.5}, {"params": [self.quiet]}]


class OnePlayer(Players):
    def parameter_groups(self):
        return [{"params": [self.loud]}]


def test_players_are_clipped_apart_and_have_their_own_rate(tmp_path, monkeypatch):
    gradients = {}

    def remember(self):
        for group in self.param_groups:
            for p in group["params"]:
                gradients.setdefault(group["lr_scale"], []).append((group["lr"], p.grad.norm()))

    monkeypatch.setattr(torch.optim.AdamW, "step", remember)
    config = replace(CONFIG, steps=1, lr=1.0, warmup=0)
    fit(TwoPlayers(), Noise(), config, tmp_path / "two")
    [(loud_rate, loud)], [(quiet_rate, quiet)] = gradients[0.5], gradients[1.0]
    assert (loud_rate, quiet_rate) == (0.5, 1.0)
    assert loud.item() == pytest.approx(1, rel=1e-4)
    assert quiet.item() == pytest.approx(1, rel=1e-4)
    gradients.clear()
    fit(Players(), Noise(), config, tmp_path / "one")
    (_, loud), (_, quiet) = gradients[1.0]
    assert loud.item() == pytest.approx(1, rel=1e-4)
    assert quiet.item() == pytest.approx(1e-4, rel=1e-3)


def test_a_parameter_in_no_group_is_refused(tmp_path):
    with pytest.raises(ValueError, match="every trained parameter of the task once"):
        fit(OnePlayer(), Noise(), CONFIG, tmp_path)


def test_the_average_follows_but_what_is_not_trained_is_copied(tmp_path):
    task = Task()
    task.network.append(nn.BatchNorm2d(1))
    task.fixed.data.fill_(3)
    average = fit(task, Noise(), CONFIG, tmp_path)
    assert average.fixed == 3
    assert torch.equal(average.network[3].running_mean, task.network[3].running_mean)
    assert average.network[3].num_batches_tracked == CONFIG.steps
    assert not torch.equal(average.network[0].weight, task.network[0].weight)
    assert not average.training
    assert not any(p.requires_grad for p in average.parameters())


def test_bfloat16_and_channels_last_train_too(tmp_path):
    task = Task()
    fit(task, Noise(), replace(CONFIG, bf16=True, channels_last=True), tmp_path)
    assert all(p.dtype == torch.float32 for p in task.parameters())
    losses = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    assert len(losses) > 1
    assert max(losses) < 10


def test_nan_stops_the_run_and_leaves_the_batch(tmp_path):
    task = Task(poison=7)
    with pytest.raises(FloatingPointError, match="at step 6"):
        fit(task, Noise(), CONFIG, tmp_path)
    bad = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    crops = Noise()
    expected = torch.stack([crops[12]["image"], crops[13]["image"]])
    assert torch.equal(bad["batch"]["image"], expected)
    assert latest(tmp_path).name == "step-00000005"
    assert all(bool(p.isfinite().all()) for p in task.parameters())


class Lost(nn.Module):
    """Samples an image at places that are no numbers."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, batch):
        field = (self.shift * float("nan")).expand(len(batch["image"]), 2, 8, 8)
        return {"loss": geometry.warp(batch["image"], field)[0].sum() + field.sum()}


def test_coordinates_that_are_no_numbers_stop_the_run_and_not_the_process(tmp_path):
    with pytest.raises(FloatingPointError, match="at step 0"):
        fit(Lost(), Noise(), CONFIG, tmp_path)


# ---- checkpoints --------------------------------------------------------------------


def test_old_checkpoints_are_dropped(tmp_path):
    fit(Task(), Noise(), replace(CONFIG, save_every=3, keep=2), tmp_path)
    assert checkpoints(tmp_path) == ["step-00000009", "step-00000012"]


SCORES = (float("nan"), 0.5, 0.9, 0.4, 0.4, 0.6)
VALIDATED = replace(CONFIG, steps=6, keep=1)


@pytest.mark.parametrize(("mode", "step"), [("min", 4), ("max", 3)])
@pytest.mark.parametrize("stop", [None, 3, 4, 5])
def test_the_best_checkpoint_is_kept_beside_the_newest(tmp_path, mode, step, stop):
    wanted = {"validate_every": 1, "best": "score", "mode": mode, "validate": scores(*SCORES)}
    if stop is not None:
        fit(Task(), Noise(), VALIDATED, tmp_path, stop=stop, **wanted)
    fit(Task(), Noise(), VALIDATED, tmp_path, **wanted)
    assert checkpoints(tmp_path) == ["best", "step-00000006"]
    best = torch.load(tmp_path / "checkpoints/best/state.pt")
    assert best["step"] == step
    expected = fit(Task(), Noise(), VALIDATED, tmp_path / "straight", stop=step).state_dict()
    assert all(torch.equal(best["average"][name], expected[name]) for name in expected)
    assert [line["score"] for line in lines(tmp_path) if "score" in line][1:] == list(SCORES[1:])


def test_the_best_by_another_figure_begins_anew(tmp_path):
    fit(
        Task(),
        Noise(),
        VALIDATED,
        tmp_path,
        stop=3,
        validate=scores(0.1),
        validate_every=3,
        best="score",
    )
    fit(
        Task(),
        Noise(),
        VALIDATED,
        tmp_path,
        validate=scores(0.2),
        validate_every=6,
        best="score",
        mode="max",
    )
    assert torch.load(tmp_path / "checkpoints/best/state.pt")["step"] == 6


def test_a_best_that_is_not_measured_is_refused(tmp_path):
    with pytest.raises(ValueError, match="figure of validate, which is not given"):
        fit(Task(), Noise(), CONFIG, tmp_path, best="score")
    with pytest.raises(ValueError, match=r"best='loss' is none of validate's figures \['score'\]"):
        fit(Task(), Noise(), CONFIG, tmp_path, validate=scores(1), validate_every=1, best="loss")


def test_a_run_folder_loads_as_a_model(tmp_path, pair_folders):
    crops = Crops(PairDataset(*pair_folders), CropConfig(size=(48, 48)))
    sizes = UmfuseConfig(
        CpstnConfig(filters=4, blocks=1), MrrnConfig(channels=(4, 4)), DifnConfig(features=4)
    )

    def export(task, folder):
        model = Umfuse(sizes)
        model.difn.load_state_dict(task.network.state_dict())
        model.save_pretrained(folder)

    run, config = tmp_path / "run", replace(CONFIG, steps=4, save_every=2)
    average = fit(DifnTask(Difn(sizes.difn)), crops, config, run, export=export)
    for folder in (run, run / "checkpoints/step-00000004"):
        assert equal(umfuse.load(folder, device="cpu").difn, average.network)
    assert not equal(umfuse.load(run / "checkpoints/step-00000002").difn, average.network)


def test_what_the_caller_draws_changes_nothing(tmp_path):
    def draw(*_):
        torch.rand(3)
        return {"score": 1.0}

    def sample(average):
        draw()
        return Image.new("L", (4, 4))

    expected = fit(Task(), Noise(), CONFIG, tmp_path / "without")
    hooks = {"validate": draw, "validate_every": 1, "sample": sample, "sample_every": 2}
    average = fit(Task(), Noise(), CONFIG, tmp_path / "with", export=draw, **hooks)
    assert equal(average, expected)


@pytest.mark.parametrize("poison", [None, 7])
@pytest.mark.parametrize("stop", [None, 4])
def test_the_callers_randomness_goes_on_as_if_nothing_had_been_drawn(tmp_path, poison, stop):
    task = Task(poison=poison)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    with contextlib.nullcontext() if poison is None else pytest.raises(FloatingPointError):
        fit(task, Noise(), CONFIG, tmp_path, stop=stop)
        if poison is not None:
            fit(task, Noise(), CONFIG, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


# ---- what a folder remembers --------------------------------------------------------


class TooLarge(Task):
    """Has no room for its first batch."""

    def forward(self, batch):
        raise RuntimeError("out of memory")


def test_what_could_not_make_a_step_is_not_remembered(tmp_path):
    began = []
    wrong = replace(CONFIG, lr=3.0, bf16=True, channels_last=False)
    for task, error in ((OnePlayer(), ValueError), (TooLarge(), RuntimeError)):
        with pytest.raises(error):
            fit(task, Noise(), wrong, tmp_path / "run", started=lambda: began.append(1))
        assert not (tmp_path / "run/train.json").exists()
        assert not began
    expected = fit(Task(), Noise(), CONFIG, tmp_path / "straight")
    average = fit(Task(), Noise(), CONFIG, tmp_path / "run", started=lambda: began.append(1))
    assert equal(average, expected)
    assert read_config(tmp_path / "run") == CONFIG
    assert began == [1]


@pytest.mark.parametrize("native", [False, True])
def test_a_run_goes_on_with_the_precision_that_it_began_with(tmp_path, native, monkeypatch):
    auto = replace(CONFIG, bf16=None)
    monkeypatch.setattr("umfuse.train.config.has_bf16", lambda kind: native)
    expected = fit(Task(), Noise(), replace(CONFIG, bf16=native), tmp_path / "straight")
    fit(Task(), Noise(), auto, tmp_path / "run", stop=5)
    assert read_config(tmp_path / "run").bf16 is native
    monkeypatch.setattr("umfuse.train.config.has_bf16", lambda kind: not native)
    assert equal(fit(Task(), Noise(), auto, tmp_path / "run"), expected)


def test_a_task_is_trained_where_it_is_unless_it_is_said(tmp_path):
    class Elsewhere(Exception):
        pass

    def join(device, here):
        raise Elsewhere(device, here)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("umfuse.train.distributed.join", join)
        for device in (None, "cpu"):
            with pytest.raises(Elsewhere) as asked:
                fit(Task().to("meta"), Noise(), replace(CONFIG, device=device), tmp_path)
            assert asked.value.args == (device, torch.device("meta"))


# ---- what a run tells ---------------------------------------------------------------


def test_the_log_holds_means_rates_and_figures(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    fit(Task(), Noise(), CONFIG, tmp_path, validate=lambda task: {"score": 0.5}, validate_every=8)
    log = lines(tmp_path)
    assert [line["step"] for line in log] == [4, 8, 8, 12, 12]
    assert [line.get("score") for line in log] == [None, None, 0.5, None, 0.5]
    assert log[0].keys() >= {"loss", "plain", "lr", "gradient_norm", "s_per_step", "wait_s"}
    assert "min left" in caplog.text


def test_a_line_is_the_mean_since_the_line_before(tmp_path):
    fit(Task(), Noise(), CONFIG, tmp_path / "fours")
    fit(Task(), Noise(), replace(CONFIG, log_every=1), tmp_path / "ones")
    single = [line["loss"] for line in lines(tmp_path / "ones")]
    assert len(single) == CONFIG.steps == 4 * len(lines(tmp_path / "fours"))
    for index, line in enumerate(lines(tmp_path / "fours")):
        assert line["loss"] == pytest.approx(sum(single[4 * index : 4 * index + 4]) / 4, rel=1e-5)


class Slow(Noise):
    """Takes 10 ms a view."""

    def __getitem__(self, index):
        time.sleep(0.01)
        return super().__getitem__(index)


def test_the_log_tells_how_long_a_step_waits_for_views(tmp_path):
    fit(Task(), Slow(), replace(CONFIG, accumulate=2), tmp_path)
    log = lines(tmp_path)
    assert len(log) == CONFIG.steps // CONFIG.log_every
    for line in log:
        assert 0.02 <= line["wait_s"] <= line["s_per_step"]


def test_samples_are_drawn_of_the_average(tmp_path):
    seen = []

    def sample(average):
        seen.append(average.network[0].weight.clone())
        return Image.new("RGB", (8, 8), (len(seen), 0, 0))

    average = fit(Task(), Noise(), CONFIG, tmp_path, sample=sample, sample_every=5)
    files = sorted((tmp_path / "samples").iterdir())
    assert [file.name for file in files] == [f"step-{step:08d}.png" for step in (5, 10, 12)]
    assert [images.read(file).values[0, 0, 0, 0] for file in files] == [1, 2, 3]
    assert torch.equal(seen[-1], average.network[0].weight)


# ---- stopping -----------------------------------------------------------------------


class Signalled(Task):
    """Gets signals in its fifth call."""

    def __init__(self, *signals):
        super().__init__()
        self.signals = signals

    def forward(self, batch):
        if self.calls == 4:
            for number in self.signals:
                signal.raise_signal(number)
        return super().forward(batch)


def test_ctrl_c_ends_the_step_saves_and_goes_on_bit_for_bit(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        fit(Signalled(signal.SIGINT), Noise(), replace(CONFIG, accumulate=2), tmp_path / "run")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert latest(tmp_path / "run").name == "step-00000003"  # two microbatches a step
    assert lines(tmp_path / "run")[-1]["step"] == 3
    config = replace(CONFIG, accumulate=2)
    resumed = fit(Task(), Noise(), config, tmp_path / "run")
    assert equal(resumed, fit(Task(), Noise(), config, tmp_path / "straight"))


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(Signalled(signal.SIGINT, signal.SIGINT), Noise(), CONFIG, tmp_path)
    assert latest(tmp_path) is None


def test_sigterm_takes_its_course_after_the_checkpoint(tmp_path):
    found = []
    former = signal.signal(signal.SIGTERM, lambda *_: found.append(latest(tmp_path).name))
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(Signalled(signal.SIGTERM), Noise(), CONFIG, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert found == ["step-00000005"]


def test_another_thread_trains_without_touching_signals(tmp_path):
    seen = []

    class Looking(Task):
        def forward(self, batch):
            seen.append(signal.getsignal(signal.SIGINT))
            return super().forward(batch)

    thread = threading.Thread(target=fit, args=(Looking(), Noise(), CONFIG, tmp_path))
    thread.start()
    thread.join()
    assert set(seen) == {signal.getsignal(signal.SIGINT)}
    assert latest(tmp_path).name == "step-00000012"


# ---- on a GPU -----------------------------------------------------------------------

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
ON_GPU = replace(CONFIG, device="cuda", workers=1, log_every=CONFIG.steps, save_every=CONFIG.steps)


@pytest.mark.gpu
@gpu
def test_a_run_on_the_gpu_goes_on_bit_for_bit(tmp_path):
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        task = Task()  # which seeds all devices
        expected = fit(Task(), Noise(), ON_GPU, tmp_path / "straight")
        fit(Task(), Noise(), ON_GPU, tmp_path / "stopped", stop=5)
        torch.cuda.manual_seed(123)
        before = torch.cuda.get_rng_state()
        assert equal(fit(task, Noise(), ON_GPU, tmp_path / "stopped"), expected)
        assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@gpu
def test_nothing_waits_for_the_gpu_between_lines_of_the_log(tmp_path):
    class Strict(Plain):
        def forward(self, batch):
            self.calls += 1
            inner = 1 < self.calls < CONFIG.steps
            torch.cuda.set_sync_debug_mode("error" if inner else "default")
            return super().forward(batch)

    try:
        fit(Strict(), Noise(), ON_GPU, tmp_path)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@gpu
def test_nan_on_the_gpu_leaves_the_batch_and_no_checkpoint(tmp_path):
    with pytest.raises(FloatingPointError, match="at step 4"):
        fit(Task(poison=5), Noise(), replace(ON_GPU, save_every=5), tmp_path)
    bad = torch.load(tmp_path / "nan_batch.pt", weights_only=True)
    assert bad["batch"]["seed"].tolist() == [8, 9]
    assert latest(tmp_path) is None

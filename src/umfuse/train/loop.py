"""The training loop: any task, any stream of views, and a run that continues bit for bit.

`fit` knows no loss. A task is a module whose call on a batch returns ``"loss"`` and its named
parts; the stream is a dataset that answers to every number from 0 up, such as `umfuse.train.Views`.
A run folder holds ``log.jsonl`` (a line every few steps) and ``checkpoints/step-N/state.pt``;
the newest checkpoint is where the run goes on.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

logger = logging.getLogger(__name__)

Batch = dict[str, Tensor]
Validate = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class TrainConfig:
    """How a task is trained.

    Attributes:
        steps: Updates of the whole run.
        batch: Views an update.
        lr: Peak learning rate of AdamW.
        final_lr: Learning rate at the end, as part of the peak (cosine).
        warmup: Steps over which the rate rises from zero.
        betas: Of AdamW.
        weight_decay: Of AdamW, for weights of two dimensions and more.
        clip: Largest norm of the gradient.
        ema: Decay of the running mean of the weights, which is the result; 0 takes the last ones.
        bf16: Whether the task runs under bfloat16 autocast.
        channels_last: Whether weights and images lie channels last, quicker for convolutions.
        seed: Of everything that is random.
        workers: Processes that prepare views; 0 prepares them between the steps.
        log_every: Steps between lines of the log.
        save_every: Steps between checkpoints.
        keep: Checkpoints that are kept.
        device: Where the task runs.
    """

    steps: int
    batch: int = 8
    lr: float = 1e-3
    final_lr: float = 0.02
    warmup: int = 50
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.998
    bf16: bool = True
    channels_last: bool = True
    seed: int = 0
    workers: int = 0
    log_every: int = 50
    save_every: int = 250
    keep: int = 2
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        part = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (
            self.final_lr + (1 - self.final_lr) * (1 + math.cos(math.pi * min(1.0, part))) / 2
        )


def fit(
    task: nn.Module,
    data: Dataset[Batch],
    config: TrainConfig,
    out: str | os.PathLike[str],
    *,
    validate: Validate | None = None,
    validate_every: int = 500,
    stop: int | None = None,
) -> nn.Module:
    """Trains a task and returns its averaged copy, in evaluation mode.

    If ``out`` holds checkpoints, the run goes on from the newest: on one device it then equals,
    bit for bit, the run that was never stopped. The end of a run is a checkpoint too, so calling
    `fit` on a finished run returns its result.

    Args:
        task: ``task(batch)`` returns a dict of scalars with ``"loss"``. It is trained in place.
        data: Gives the view of any number from 0 up, as a dict of tensors of one size.
        config: How to train.
        out: The run folder, made if missing.
        validate: Measures the averaged task; its figures go to the log.
        validate_every: Steps between these.
        stop: Step after which this call ends early, with a checkpoint; None runs to the end.

    Raises:
        ValueError: If the run in ``out`` was begun with another config.
        FloatingPointError: If a loss is not finite. The batch is saved as ``out/nan_batch.pt``.
    """
    run = Path(out)
    run.mkdir(parents=True, exist_ok=True)
    _check_config(run / "train.json", config)
    torch.manual_seed(config.seed)
    device = torch.device(config.device)
    task.to(device)
    if config.channels_last:
        task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = _optimiser(task, config)
    average = copy.deepcopy(task).requires_grad_(False)
    start = _resume(run, task, average, optimiser)
    end = config.steps if stop is None else min(stop, config.steps)
    views = DataLoader(
        data,
        batch_size=config.batch,
        sampler=range(start * config.batch, end * config.batch),
        num_workers=config.workers,
        generator=torch.Generator(),  # or the loader would draw from the run's own randomness
    )
    parameters = [p for p in task.parameters() if p.requires_grad]
    sums: dict[str, Tensor] = {}
    since, begun = start, time.monotonic()
    for step, batch in enumerate(views, start):
        task.train()
        batch = {name: _place(value, device, config) for name, value in batch.items()}
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            parts: dict[str, Tensor] = task(batch)
        parts["loss"].backward()
        norm = nn.utils.clip_grad_norm_(parameters, config.clip)
        if not bool(parts["loss"].isfinite() & norm.isfinite()):
            _save_bad_batch(run, batch, parts, step)
        optimiser.step()
        _follow(average, task, min(config.ema, (1 + step) / (10 + step)))
        for name, value in {**parts, "gradient_norm": norm}.items():
            sums[name] = sums.get(name, torch.zeros(())) + value.detach().float().cpu()
        done = step + 1
        if done % config.log_every == 0 or done == end:
            line = {name: float(value) / (done - since) for name, value in sums.items()}
            seconds = (time.monotonic() - begun) / (done - start)
            _log(run, {"step": done, "lr": config.rate(step), "s_per_step": seconds, **line})
            left = (config.steps - done) * seconds / 60
            logger.info("step %d/%d %s, %.1f min left", done, config.steps, _short(line), left)
            sums, since = {}, done
        if validate is not None and (done % validate_every == 0 or done == config.steps):
            figures = validate(average.eval())
            _log(run, {"step": done, **figures})
            logger.info("step %d %s", done, _short(figures))
        if done % config.save_every == 0 or done == end:
            _save(run, done, task, average, optimiser, config.keep)
    return average.eval()


def latest(run: str | os.PathLike[str]) -> Path | None:
    """Returns the newest checkpoint folder of a run, or None if there is none."""
    # Folders get this name when they are complete: what a crash left has another one.
    found = sorted(Path(run).glob("checkpoints/step-*"))
    return found[-1] if found else None


def _optimiser(task: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    trained = [p for p in task.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


def _place(value: Tensor, device: torch.device, config: TrainConfig) -> Tensor:
    if config.channels_last and value.dim() == 4:
        return value.to(device, memory_format=torch.channels_last)
    return value.to(device)


@torch.no_grad()
def _follow(average: nn.Module, task: nn.Module, decay: float) -> None:
    """Moves the averaged weights towards the task's; everything that is not trained is copied."""
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    theirs = dict(task.named_parameters())
    for name, ours in average.named_parameters():
        ours.lerp_(theirs[name], 1 - decay if name in trained else 1.0)


def _resume(
    run: Path, task: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> int:
    folder = latest(run)
    if folder is None:
        return 0
    state: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True, map_location="cpu")
    task.load_state_dict(state["task"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    torch.set_rng_state(state["random"])
    logger.info("going on from %s", folder)
    return state["step"]


def _save(
    run: Path,
    step: int,
    task: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    keep: int,
) -> None:
    """Writes a checkpoint beside the others, then gives it its name, then drops the oldest."""
    folder = run / "checkpoints"
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("unfinished-*"):
        shutil.rmtree(stale)
    unfinished, final = folder / f"unfinished-{step:08d}", folder / f"step-{step:08d}"
    unfinished.mkdir()
    state = {
        "step": step,
        "task": task.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": torch.get_rng_state(),
    }
    with (unfinished / "state.pt").open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if final.exists():
        shutil.rmtree(final)
    unfinished.rename(final)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def _check_config(path: Path, config: TrainConfig) -> None:
    """Writes the config of a new run; a run that exists must have been begun with the same."""
    ours = json.loads(json.dumps(asdict(config)))
    if not path.exists():
        path.write_text(json.dumps(ours, indent=2) + "\n", encoding="utf-8")
        return
    theirs = json.loads(path.read_text(encoding="utf-8"))
    changed = sorted(name for name in ours if ours[name] != theirs.get(name))
    if changed:
        raise ValueError(
            f"the run in {str(path.parent)!r} was begun with other values of {', '.join(changed)}: "
            "choose another folder, or the same config to go on"
        )


def _save_bad_batch(run: Path, batch: Batch, parts: dict[str, Tensor], step: int) -> None:
    path = run / "nan_batch.pt"
    torch.save({"step": step, "batch": batch}, path)
    values = {name: float(value.detach()) for name, value in parts.items()}
    raise FloatingPointError(
        f"the loss or its gradient is not finite at step {step}: {values}; the batch is saved in "
        f"{str(path)!r}, the weights are those of the newest checkpoint. Try a lower rate, or "
        "bf16=False"
    )


def _log(run: Path, line: dict[str, float]) -> None:
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({name: float(f"{value:.6g}") for name, value in line.items()}) + "\n")


def _short(values: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in values.items())

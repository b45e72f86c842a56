"""How a task is trained, and the file that remembers it: ``RUN/train.json``."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from umfuse import files
from umfuse.devices import has_bf16


@dataclass(frozen=True)
class TrainConfig:
    """How a task is trained.

    The optimiser is AdamW. The paper's, Adam at a constant rate, is ``betas=(0.9, 0.999),
    weight_decay=0, warmup=0, final_lr=1, clip=None, ema=0``.

    Attributes:
        steps: Updates of the whole run.
        batch: Examples an update, over all processes.
        accumulate: Microbatches that each process makes of its part of an update, for less memory.
            ``batch`` must be a multiple of this times the number of processes.
        lr: Peak learning rate.
        final_lr: Learning rate at the end, as part of the peak (cosine); 1 keeps it constant.
        warmup: Steps over which the rate rises from zero.
        betas: Of AdamW.
        weight_decay: Of AdamW, for weights of two dimensions and more.
        clip: Largest norm of the gradient; None leaves it as it is.
        ema: Decay of the running mean of the weights, which is the result; 0 takes the last ones.
        bf16: Whether the task runs under bfloat16 autocast; None does where the device has
            instructions of its own for it.
        channels_last: Whether weights and images lie channels last, quicker for convolutions.
        seed: Of everything that is random.
        workers: Processes that prepare examples; 0 prepares them between the steps.
        log_every: Steps between lines of the log.
        save_every: Steps between checkpoints.
        keep: Newest checkpoints that are kept, beside the best.
        tensorboard: Whether the log and the samples are written for TensorBoard too.
        device: Where the task runs; None is where it is. Under ``torchrun`` ``"cuda"``, or a task
            that is on a GPU, means one GPU a process.
    """

    steps: int
    batch: int = 8
    accumulate: int = 1
    lr: float = 1e-3
    final_lr: float = 0.02
    warmup: int = 50
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    clip: float | None = 1.0
    ema: float = 0.998
    bf16: bool | None = None
    channels_last: bool = True
    seed: int = 0
    workers: int = 0
    log_every: int = 50
    save_every: int = 250
    keep: int = 2
    tensorboard: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "log_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be above 0, or None to leave it out, got {self.clip}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be in [0, 1), got {self.ema}")

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        part = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (
            self.final_lr + (1 - self.final_lr) * (1 + math.cos(math.pi * min(1.0, part))) / 2
        )

    def settled(self, kind: str, before: TrainConfig | None = None) -> TrainConfig:
        """Returns the config with `bf16` decided.

        Args:
            kind: Of the device, such as ``"cpu"``.
            before: The config of the run until now, whose answer stands.
        """
        if self.bf16 is not None:
            return self
        known = None if before is None else before.bf16
        return replace(self, bf16=has_bf16(kind) if known is None else known)

    def conflicts(self, other: TrainConfig, done: int) -> list[str]:
        """Returns the fields whose values forbid going on as another config began.

        Those that say how a run is carried out forbid nothing. Nor do more steps, if the rates
        so far are the same.

        Args:
            other: The config until now.
            done: Steps that were done with it.
        """
        names = [
            field.name
            for field in fields(self)
            if field.name not in {*_MANNER, "steps"}
            and getattr(self, field.name) != getattr(other, field.name)
        ]
        if not names and any(self.rate(step) != other.rate(step) for step in range(done)):
            names.append("steps")
        return names


# How a run is carried out; the other fields say what comes out of it.
_MANNER = frozenset(
    {
        *("accumulate", "channels_last", "workers", "device"),
        *("log_every", "save_every", "keep", "tensorboard"),
    }
)


def read_config(run: str | os.PathLike[str]) -> TrainConfig:
    """Returns the config of a run.

    Args:
        run: The run folder.

    Raises:
        ValueError: If it is none, or one of a newer umfuse.
    """
    path = Path(run) / "train.json"
    if not path.is_file():
        raise ValueError(f"{os.fspath(run)!r} is no run folder: it holds no {path.name}")
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if unknown := sorted(values.keys() - {field.name for field in fields(TrainConfig)}):
        raise ValueError(f"{str(path)!r} has unknown keys {unknown}: install the umfuse of the run")
    values["betas"] = tuple(values["betas"])
    return TrainConfig(**values)


def write_config(run: str | os.PathLike[str], config: TrainConfig) -> None:
    """Writes the config of a run into its folder, completely or not at all."""
    files.write_text(Path(run) / "train.json", json.dumps(asdict(config), indent=2) + "\n")

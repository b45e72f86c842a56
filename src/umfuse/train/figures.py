"""The figures of every step: read without keeping the device waiting, and guarded against NaN."""

from __future__ import annotations

import math
from collections import deque
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor

from umfuse.train.distributed import World
from umfuse.train.types import Batch, Parts


class Figures:
    """Collects what a task returns, as means over microbatches, processes and steps.

    To read a figure is to wait for the device that computes it. On a GPU those of a step are
    therefore read when the next step is under way, and until then its examples are held.

    Args:
        run: Where the examples of a step that is not finite are saved.
        world: The processes that train.
        lag: Steps by which reading is behind.

    Attributes:
        loss: Of the newest step that was read; NaN before the first.
        stop: Whether a process wants to stop; the same in all of them.
    """

    def __init__(self, run: Path, world: World, lag: int) -> None:
        self.loss = math.nan
        self.stop = False
        self._run, self._world, self._lag = run, world, lag
        self._under_way: deque[_Step] = deque()
        self._read: list[dict[str, float]] = []

    def add(
        self, step: int, batches: list[Batch], parts: list[Parts], norm: Tensor, stop: bool
    ) -> None:
        """Takes the figures of a step.

        Args:
            step: Its number.
            batches: Its microbatches.
            parts: What the task returned for each of them.
            norm: Of the gradient.
            stop: Whether this process wants to stop.

        Raises:
            FloatingPointError: As `settle`.
        """
        names = list(parts[0])
        means = torch.stack([_stack([one[name] for name in names]) for one in parts]).mean(0)
        others = _stack([norm, norm.new_full((), stop)])
        values = _HostCopy(self._world.mean(torch.cat([means, others])))
        names += ["gradient_norm", "stop"]
        self._under_way.append(_Step(step, batches, names, values))
        self.settle(self._lag)

    def settle(self, lag: int = 0) -> None:
        """Reads the figures of all steps but the newest ``lag``.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite; in every process alike.
        """
        while len(self._under_way) > lag:
            step = self._under_way.popleft()
            figures = dict(zip(step.names, step.values.read(), strict=True))
            self.stop |= figures.pop("stop") > 0
            if not (math.isfinite(figures["loss"]) and math.isfinite(figures["gradient_norm"])):
                self._give_up(step, figures)
            self.loss = figures["loss"]
            self._read.append(figures)

    def take(self) -> dict[str, float]:
        """Returns the means over the steps since this was last called."""
        self.settle()
        read, self._read = self._read, []
        return {name: math.fsum(one[name] for one in read) / len(read) for name in read[0]}

    def _give_up(self, step: _Step, figures: dict[str, float]) -> None:
        path = self._run / "nan_batch.pt"
        parts = [one for process in self._world.gather(step.batches) for one in process]
        if self._world.rank == 0:
            batch = {name: torch.cat([one[name] for one in parts]).cpu() for name in parts[0]}
            torch.save({"step": step.number, "batch": batch}, path)
        raise FloatingPointError(
            f"the loss or its gradient is not finite at step {step.number}: {figures}; the batch "
            f"is saved in {str(path)!r}, the newest checkpoint is from before. Try a lower rate, "
            "or bf16=False"
        )


class _HostCopy:
    """A copy of a tensor on the host, for which only the reader waits."""

    def __init__(self, tensor: Tensor) -> None:
        self._copied = torch.cuda.Event() if tensor.is_cuda else None
        self._tensor = tensor.to("cpu", non_blocking=tensor.is_cuda)  # into pinned memory
        if self._copied is not None:
            self._copied.record()

    def read(self) -> list[float]:
        if self._copied is not None:
            self._copied.synchronize()
        return cast("list[float]", self._tensor.tolist())


class _Step(NamedTuple):
    number: int
    batches: list[Batch]
    names: list[str]
    values: _HostCopy


def _stack(scalars: list[Tensor]) -> Tensor:
    return torch.stack([scalar.detach().float() for scalar in scalars])

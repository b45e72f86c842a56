"""The training loop: any task, any stream of examples, and a run that continues bit for bit.

`fit` knows no loss. A task is a module whose call on a batch returns ``"loss"`` and its named
parts; the stream is a dataset that answers to every number from 0 up, such as
`umfuse.train.Crops`. Which examples an update sees follows from its own number alone, so a run
folder may be left and taken up at any step. It holds ``train.json`` (the config), ``log.jsonl``,
``checkpoints`` and, where wanted, ``samples`` and ``tensorboard``.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from umfuse.train import checkpoints, distributed
from umfuse.train.config import TrainConfig, read_config, write_config
from umfuse.train.distributed import World
from umfuse.train.figures import Figures
from umfuse.train.interrupt import Interrupt, shield
from umfuse.train.journal import Journal
from umfuse.train.learner import Learner
from umfuse.train.randomness import own_randomness
from umfuse.train.types import Batch

logger = logging.getLogger(__name__)

Validate = Callable[[nn.Module], dict[str, float]]
Export = Callable[[nn.Module, Path], object]
Sample = Callable[[nn.Module], Image.Image]


def fit(
    task: nn.Module,
    data: Dataset[Batch],
    config: TrainConfig,
    out: str | os.PathLike[str],
    *,
    validate: Validate | None = None,
    validate_every: int = 500,
    best: str | None = None,
    mode: Literal["min", "max"] = "min",
    export: Export | None = None,
    sample: Sample | None = None,
    sample_every: int = 500,
    stop: int | None = None,
    started: Callable[[], object] | None = None,
) -> nn.Module:
    """Trains a task and returns its averaged copy, in evaluation mode.

    If ``out`` holds checkpoints, the run goes on from the newest: on one device it then equals,
    bit for bit, the run that was never stopped (on CUDA so far as its kernels are deterministic).
    The end of a run is a checkpoint too, so calling `fit` on a finished run returns its result.
    The config may change in how the run is carried out (``accumulate``, ``channels_last``,
    ``workers``, ``device``, ``log_every``, ``save_every``, ``keep``, ``tensorboard``) and in
    ``steps`` where that changes no rate so far, as at a constant rate.

    On Ctrl-C, or SIGTERM, the step in progress ends and a checkpoint is written before the signal
    takes its course. A second one takes it at once.

    The caller's own global randomness is the same afterwards as before.

    Under ``torchrun`` every process computes its part of each update, and the first one alone
    validates and writes. ``n`` processes do what one does with ``n`` times the microbatches, but
    each has its own buffers, extra state and global randomness.

    Args:
        task: ``task(batch)`` returns a dict of scalars with ``"loss"``, of the same names each
            time. It is trained in place; it may be `Grouped`.
        data: Gives the example of any number from 0 up, as a dict of tensors of one size.
        config: How to train.
        out: The run folder, made if missing.
        validate: Measures the averaged task; its figures go to the log.
        validate_every: Steps between these.
        best: The figure of ``validate`` by which ``checkpoints/best`` is kept.
        mode: Whether the least or the largest is the best.
        export: ``export(average, folder)`` adds files to a checkpoint before it is complete, such
            as those of ``Umfuse.save_pretrained``, with which ``umfuse.load(out)`` loads the run.
        sample: Draws what the averaged task does, for ``samples/step-N.png``.
        sample_every: Steps between these.
        stop: Step after which this call ends early, with a checkpoint; None runs to the end.
        started: Called by the first process once a step has proved possible, when the run folder
            begins to remember.

    Raises:
        ValueError: If the run in ``out`` was begun with another config, ``batch`` cannot be
            divided, ``best`` is no figure of ``validate``, or a trained parameter is in no group.
        ImportError: If TensorBoard is wanted and not installed.
        FloatingPointError: If a loss is not finite. The batch is saved as ``out/nan_batch.pt``.
        KeyboardInterrupt: If the run was interrupted, after its checkpoint.
    """
    if best is not None and validate is None:
        raise ValueError(f"best={best!r} is a figure of validate, which is not given")
    run, world = Path(out), distributed.join(config.device, next(task.parameters()).device)
    if config.batch % (config.accumulate * world.size):
        raise ValueError(
            "batch must be a multiple of accumulate times the number of processes, got "
            f"{config.batch}, {config.accumulate} and {world.size}"
        )
    newest = checkpoints.latest(run)
    state = None if newest is None else checkpoints.read(newest)
    start: int = 0 if state is None else state["step"]
    if len(set(world.gather(start))) > 1:
        raise ValueError(f"the processes do not see the same checkpoints in {str(run)!r}")
    config, names = _settle(config, world, None if state is None else read_config(run), start)
    if names:
        raise ValueError(
            f"the run in {str(run)!r} was begun with other values of {', '.join(names)}: choose "
            "another folder, or the same config to go on"
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(own_randomness(world.device, config.seed + world.rank))
        learner = Learner(task, config, world)
        record = _Record(best, mode)
        if state is not None:
            learner.restore(state)
            record.restore(state["best"])
            logger.info("going on from %s", newest)
        del state  # it takes as much memory as the learner
        end = config.steps if stop is None else min(stop, config.steps)
        if start >= end:
            return learner.average.module()

        interrupt = stack.enter_context(Interrupt())
        # Before the journal, since processes are better forked before threads are started.
        stream = iter(_loader(data, config, world, range(start, end)))
        journal = None
        if world.rank == 0:
            run.mkdir(parents=True, exist_ok=True)
            journal = stack.enter_context(
                Journal(run, start, config.steps, tensorboard=config.tensorboard)
            )
        figures = Figures(run, world, lag=1 if world.device.type == "cuda" else 0)
        waited, since, begun = 0.0, start, time.monotonic()
        for step in range(start, end):
            asked = time.monotonic()
            batches = [next(stream) for _ in range(config.accumulate)]
            waited += time.monotonic() - asked
            batches = [learner.place(batch) for batch in batches]
            parts, norm = learner.differentiate(batches)
            if step == start and journal is not None:
                # Not before: what could not make a step is nothing to go on with.
                write_config(run, config)
                if started is not None:
                    started()
            figures.add(step, batches, parts, norm, interrupt.received is not None)
            learner.update(step)

            done = step + 1
            last = done == end or figures.stop
            if journal is not None:
                journal.advance(figures.loss)
            if done % config.log_every == 0 or last:
                means, now = figures.take(), time.monotonic()
                if journal is not None:
                    times = {
                        "s_per_step": (now - begun) / (done - since),
                        "wait_s": waited / (done - since),
                    }
                    journal.progress(done, {"lr": config.rate(step), **times, **means})
                waited, since, begun = 0.0, done, now
            improved = False
            if validate is not None and (done % validate_every == 0 or done == config.steps):
                figures.settle()
                if journal is not None:
                    with own_randomness(world.device):
                        measured = validate(learner.average.module())
                    journal.validation(done, measured)
                    improved = record.improve(measured)
                improved = world.gather(improved)[0]
            if sample is not None and (done % sample_every == 0 or done == config.steps):
                figures.settle()
                if journal is not None:
                    with own_randomness(world.device):
                        journal.picture(done, sample(learner.average.module()))
            if improved or done % config.save_every == 0 or last:
                figures.settle()
                state = {"step": done, "best": asdict(record), **learner.state()}
                if journal is not None:
                    with own_randomness(world.device):
                        checkpoints.write(
                            run,
                            state,
                            keep=config.keep,
                            best=improved,
                            export=export and functools.partial(export, learner.average.module()),
                        )
            if last:
                if figures.stop:
                    logger.warning("interrupted after step %d, from where it can go on", done)
                break
        world.gather(None)  # a process that returned finds the run complete
    if figures.stop:
        raise KeyboardInterrupt
    return learner.average.module()


@dataclass
class _Record:
    """The best figure of a run so far."""

    name: str | None
    mode: Literal["min", "max"]
    value: float | None = None

    def improve(self, figures: dict[str, float]) -> bool:
        """Takes the figures of a validation and returns whether they are the best."""
        if self.name is None:
            return False
        if self.name not in figures:
            raise ValueError(f"best={self.name!r} is none of validate's figures {sorted(figures)}")
        value, sign = float(figures[self.name]), 1 if self.mode == "min" else -1
        if not sign * value < (math.inf if self.value is None else sign * self.value):
            return False
        self.value = value
        return True

    def restore(self, state: dict[str, Any]) -> None:
        if (state["name"], state["mode"]) == (self.name, self.mode):
            self.value = state["value"]


def _settle(
    config: TrainConfig, world: World, before: TrainConfig | None, done: int
) -> tuple[TrainConfig, list[str]]:
    """Returns the config with all decided, and what forbids going on as before."""
    kind = world.device.type
    settled = config.settled(kind, before)
    return settled, [] if before is None else settled.conflicts(before.settled(kind), done)


def _loader(
    data: Dataset[Batch], config: TrainConfig, world: World, steps: range
) -> DataLoader[Batch]:
    """Returns the microbatches of this process, one step's after the other."""
    return DataLoader(
        data,
        batch_sampler=_numbers(config, world, steps),
        num_workers=config.workers,
        pin_memory=world.device.type == "cuda",
        worker_init_fn=shield,
        generator=torch.Generator(),  # or the loader would draw from the run's own randomness
    )


def _numbers(config: TrainConfig, world: World, steps: range) -> Iterator[list[int]]:
    """Yields the numbers of the examples of each microbatch.

    An update's examples are consecutive, its microbatches consecutive parts of them, those of one
    process neighbours: the order of one process with more microbatches.
    """
    size = config.batch // (config.accumulate * world.size)
    for step in steps:
        for part in range(config.accumulate):
            first = step * config.batch + (world.rank * config.accumulate + part) * size
            yield list(range(first, first + size))

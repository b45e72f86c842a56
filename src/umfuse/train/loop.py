"""The training loop: any task, any stream of views, and a run that continues bit for bit.

`fit` knows no loss. A task is a module whose call on a batch returns ``"loss"`` and its named
parts; the stream is a dataset that answers to every number from 0 up, such as `umfuse.train.Views`.
Which views an update sees follows from its own number alone, so a run folder may be left and taken
up at any step. It holds ``train.json`` (the config), ``log.jsonl``, ``checkpoints`` and, where
wanted, ``samples`` and ``tensorboard``.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, cast, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from typing_extensions import NotRequired

from umfuse.train import checkpoints, distributed
from umfuse.train.average import Average
from umfuse.train.checkpoints import State
from umfuse.train.config import TrainConfig, read_config, write_config
from umfuse.train.distributed import World
from umfuse.train.figures import Batch, Figures, Parts
from umfuse.train.interrupt import Interrupt, shield
from umfuse.train.journal import Journal

logger = logging.getLogger(__name__)

Validate = Callable[[nn.Module], dict[str, float]]
Export = Callable[[nn.Module, Path], object]
Sample = Callable[[nn.Module], Image.Image]


class ParameterGroup(TypedDict):
    """Parameters whose gradients are clipped together."""

    params: Iterable[nn.Parameter]
    lr_scale: NotRequired[float]
    """Factor of the learning rate; 1 if not given."""


@runtime_checkable
class Grouped(Protocol):
    """A task that trains more than one player, each with its own gradient norm and rate."""

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Returns groups that together hold every trained parameter once."""
        ...


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

    Under ``torchrun`` every process computes its part of each update, and the first one alone
    validates and writes. ``n`` processes do what one does with ``n`` times the microbatches, but
    each has its own buffers, extra state and global randomness.

    Args:
        task: ``task(batch)`` returns a dict of scalars with ``"loss"``, of the same names each
            time. It is trained in place; it may be `Grouped`.
        data: Gives the view of any number from 0 up, as a dict of tensors of one size.
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

    Raises:
        ValueError: If the run in ``out`` was begun with another config, ``batch`` cannot be
            divided, ``best`` is no figure of ``validate``, or a trained parameter is in no group.
        ImportError: If TensorBoard is wanted and not installed.
        FloatingPointError: If a loss is not finite. The batch is saved as ``out/nan_batch.pt``.
        KeyboardInterrupt: If the run was interrupted, after its checkpoint.
    """
    if best is not None and validate is None:
        raise ValueError(f"best={best!r} is a figure of validate, which is not given")
    run, world = Path(out), distributed.join(config.device)
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
    if state is not None and (names := config.conflicts(read_config(run), start)):
        raise ValueError(
            f"the run in {str(run)!r} was begun with other values of {', '.join(names)}: choose "
            "another folder, or the same config to go on"
        )
    if world.rank == 0:
        run.mkdir(parents=True, exist_ok=True)
        write_config(run, config)
    torch.manual_seed(config.seed + world.rank)
    learner = _Learner(task, config, world)
    record = _Record(best, mode)
    if state is not None:
        learner.restore(state)
        record.restore(state["best"])
        logger.info("going on from %s", newest)
    del state  # it takes as much memory as the learner
    end = config.steps if stop is None else min(stop, config.steps)
    if start >= end:
        return learner.average.module()

    with contextlib.ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        # Before the journal, since processes are better forked before threads are started.
        views = iter(_loader(data, config, world, range(start, end)))
        journal = None
        if world.rank == 0:
            journal = stack.enter_context(
                Journal(run, start, config.steps, tensorboard=config.tensorboard)
            )
        figures = Figures(run, world, lag=1 if world.device.type == "cuda" else 0)
        waited, since, begun = 0.0, start, time.monotonic()
        for step in range(start, end):
            asked = time.monotonic()
            batches = [next(views) for _ in range(config.accumulate)]
            waited += time.monotonic() - asked
            batches = [learner.place(batch) for batch in batches]
            parts, norm = learner.differentiate(batches)
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
                    with _undisturbed(world.device):
                        measured = validate(learner.average.module())
                    journal.validation(done, measured)
                    improved = record.improve(measured)
                improved = world.gather(improved)[0]
            if sample is not None and (done % sample_every == 0 or done == config.steps):
                figures.settle()
                if journal is not None:
                    with _undisturbed(world.device):
                        journal.picture(done, sample(learner.average.module()))
            if improved or done % config.save_every == 0 or last:
                figures.settle()
                state = {"step": done, "best": asdict(record), **learner.state()}
                if journal is not None:
                    with _undisturbed(world.device):
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


class _Learner:
    """A task and what trains it: everything that goes on in a checkpoint."""

    def __init__(self, task: nn.Module, config: TrainConfig, world: World) -> None:
        self._config, self._world = config, world
        self._task = task.to(world.device)
        world.broadcast(task)
        if config.channels_last:
            task.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        task.train()
        groups = _groups(task)
        self._groups = [list(group["params"]) for group in groups]
        self._parameters = [parameter for group in self._groups for parameter in group]
        self._optimiser = torch.optim.AdamW(
            [
                {
                    "params": [p for p in group["params"] if (p.dim() > 1) == decays],
                    "weight_decay": config.weight_decay if decays else 0.0,
                    "lr_scale": group.get("lr_scale", 1.0),
                }
                for group in groups
                for decays in (True, False)
            ],
            betas=config.betas,
        )
        self.average = Average(task, config.ema)

    def place(self, batch: Batch) -> Batch:
        """Returns a batch where the task is, in the layout of the task."""
        placed: Batch = {}
        for name, value in batch.items():
            images = self._config.channels_last and value.dim() == 4
            layout = torch.channels_last if images else torch.preserve_format
            placed[name] = value.to(self._world.device, non_blocking=True, memory_format=layout)
        return placed

    def differentiate(self, batches: Sequence[Batch]) -> tuple[list[Parts], Tensor]:
        """Computes the clipped gradient of the mean loss over all batches of all processes.

        Returns:
            What the task returned for each batch, and the norm of the gradient before clipping.
        """
        self._optimiser.zero_grad(set_to_none=True)
        config, every = self._config, len(batches) * self._world.size
        parts: list[Parts] = []
        for batch in batches:
            device = self._world.device.type
            with torch.autocast(device, torch.bfloat16, enabled=config.bf16):
                part: Parts = self._task(batch)
            # A NaN has no gradient worth having, and that of `grid_sample` dies of one on the CPU.
            if device != "cpu" or bool(part["loss"].isfinite()):
                (part["loss"] / every).backward()
            parts.append({name: value.detach() for name, value in part.items()})
        self._world.sum_gradients(self._parameters)
        largest = math.inf if config.clip is None else config.clip
        norms = [nn.utils.clip_grad_norm_(group, largest) for group in self._groups]
        together = torch.stack([norm.to(self._world.device) for norm in norms])
        return parts, cast("Tensor", together.norm())

    def update(self, step: int) -> None:
        """Moves the weights, and the average after them."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.rate(step) * group["lr_scale"]
        self._optimiser.step()
        self.average.follow(step)

    def state(self) -> State:
        """Returns what `restore` takes. Every process must call it."""
        weights: dict[str, Any] = self._task.state_dict(keep_vars=True)
        shared = {name: v.detach() for name, v in weights.items() if isinstance(v, nn.Parameter)}
        # Buffers and extra state, such as a pool of images, follow what this process saw.
        own = {name: v for name, v in weights.items() if name not in shared}
        random = {"cpu": torch.get_rng_state()}
        if self._world.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self._world.device)
        return {
            "task": shared,
            "processes": self._world.gather({"task": own, "random": random}),
            "average": self.average.module().state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: State) -> None:
        """Goes on from a checkpoint, with as many processes as there are now."""
        rank, processes = self._world.rank, state["processes"]
        own = processes[rank % len(processes)]
        self._task.load_state_dict({**state["task"], **own["task"]})
        self.average.module().load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        if rank < len(processes):  # two with the same draws would be one too few
            torch.set_rng_state(own["random"]["cpu"])
            if self._world.device.type == "cuda" and "cuda" in own["random"]:
                torch.cuda.set_rng_state(own["random"]["cuda"], self._world.device)


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


def _groups(task: nn.Module) -> list[ParameterGroup]:
    """Returns the trained parameters by group, all in one if the task names none."""
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    if not isinstance(task, Grouped):
        return [{"params": trained}]
    groups: list[ParameterGroup] = [
        {**group, "params": [parameter for parameter in group["params"] if parameter.requires_grad]}
        for group in task.parameter_groups()
    ]
    if sorted(id(p) for group in groups for p in group["params"]) != sorted(map(id, trained)):
        raise ValueError("parameter_groups must hold every trained parameter of the task once")
    return groups


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
    """Yields the numbers of the views of each microbatch.

    An update's views are consecutive, its microbatches consecutive parts of them, those of one
    process neighbours: the order of one process with more microbatches.
    """
    size = config.batch // (config.accumulate * world.size)
    for step in steps:
        for part in range(config.accumulate):
            first = step * config.batch + (world.rank * config.accumulate + part) * size
            yield list(range(first, first + size))


@contextlib.contextmanager
def _undisturbed(device: torch.device) -> Generator[None]:
    """Lets a caller's function draw what it likes: the run's own randomness goes on as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield

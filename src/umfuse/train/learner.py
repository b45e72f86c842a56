"""A task and what trains it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypedDict, cast, runtime_checkable

import torch
from torch import Tensor, nn
from typing_extensions import NotRequired

from umfuse.train.average import Average
from umfuse.train.checkpoints import State
from umfuse.train.config import TrainConfig
from umfuse.train.distributed import World
from umfuse.train.types import Batch, Parts


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


class Learner:
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
            with torch.autocast(device, torch.bfloat16, enabled=bool(config.bf16)):
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

"""The processes that train together, as ``torchrun`` starts them.

A process on its own is a world of one, in which nothing here does anything. Gradients are added up
by one all-reduce after the last backward pass. `DistributedDataParallel`, which does it during the
pass, wants every network called through its wrapper and every parameter reached; a task calls its
networks as it likes, and what overlapping would save of a few megabytes does not show.
"""

from __future__ import annotations

import atexit
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        device: Where this process trains.
        rank: Its number, from 0; process 0 is the one that writes.
        size: How many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    def broadcast(self, module: nn.Module) -> None:
        """Gives the module of every process the parameters and buffers of process 0."""
        if self.size > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.detach(), 0)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces the gradients by their sum over all processes.

        A parameter that some processes reached has a gradient in all of them afterwards; one that
        none reached still has none.
        """
        if self.size == 1:
            return
        reached = [parameter.grad is not None for parameter in parameters]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [cast("Tensor", parameter.grad) for parameter in parameters]
        counts = gradients[0].new_tensor(reached)
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), counts])
        dist.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        *sums, counts = cast("list[Tensor]", flat.split([*sizes, len(sizes)]))
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view_as(gradient))
        if not all(reached):  # a process that reached them all need not wait for the counts
            for parameter, count in zip(parameters, counts, strict=True):
                if not count:
                    parameter.grad = None

    def mean(self, tensor: Tensor) -> Tensor:
        """Returns the mean of a tensor over all processes."""
        if self.size > 1:
            dist.all_reduce(tensor := tensor.clone())
            tensor /= self.size
        return tensor

    def gather(self, value: T) -> list[T]:
        """Returns the value of every process, by rank; tensors in it come on the CPU."""
        if self.size == 1:
            return [value]
        file = io.BytesIO()
        torch.save(value, file)
        files: list[bytes] = [b""] * self.size
        dist.all_gather_object(files, file.getvalue())
        return [torch.load(io.BytesIO(one), "cpu", weights_only=True) for one in files]


def is_first() -> bool:
    """Says whether this process is the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def join(device: str | None, here: torch.device = _CPU) -> World:
    """Returns the world that the variables ``RANK``, ``LOCAL_RANK`` and ``WORLD_SIZE`` tell of.

    A process group that exists is used. Otherwise one is made (NCCL on CUDA, gloo elsewhere) that
    lasts as long as the process.

    Args:
        device: Such as ``"cpu"`` or ``"cuda"``, which then is the GPU of this process's own number;
            None is where the task is, or any GPU if several processes find it on one.
        here: Where the task is.
    """
    place = here if device is None else torch.device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and not dist.is_initialized():
        return World(place)
    if place.type == "cuda":
        if device is None or place == torch.device("cuda"):
            place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
        atexit.register(_leave)
    return World(place, dist.get_rank(), dist.get_world_size())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()

"""What tasks share: their base, the randomness of a batch, and the sum of weighed terms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from umfuse.train.types import Batch, Parts


class Task(nn.Module):
    """A module that trains networks of `umfuse.pipeline.Umfuse`."""

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks that are trained, by their names in the pipeline: the result of training."""

    @abstractmethod
    @override
    def forward(self, batch: Batch) -> Parts:
        """Returns ``loss`` and its parts, scalars."""


def randomness(batch: Batch) -> torch.Generator:
    """Returns the randomness of a batch, which depends on its first example alone."""
    return torch.Generator().manual_seed(int(batch["seed"][0]))


def total(parts: Parts, weights: Any) -> Tensor:  # noqa: ANN401
    """Returns the sum of parts by the weights of their names, the fields of a dataclass."""
    return torch.stack([weight * parts[name] for name, weight in asdict(weights).items()]).sum()

"""What the parts of training hand to each other."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

Pair = dict[str, Tensor]
"""Images ``(C, H, W)`` of one place by name: ``infrared``, ``visible``, perhaps ``pseudo``."""

Batch = dict[str, Tensor]
"""What a task trains on: tensors by name, the examples along the first axis."""

Parts = dict[str, Tensor]
"""What a task returns: scalars by name, ``loss`` and what it consists of."""


class Pairs(Protocol):
    """Anything that gives pairs by number: a dataset, or several of them joined."""

    def __len__(self) -> int:
        """Returns the number of pairs."""
        ...

    def __getitem__(self, index: int, /) -> Pair:
        """Returns one pair."""
        ...

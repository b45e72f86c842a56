"""Figures of a task on pairs that it is not trained on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from umfuse.train.config import TrainConfig
from umfuse.train.crops import Crops


class Validation:
    """Measures a task's parts on the same crops each time, for `fit`.

    Args:
        crops: Of pairs that are held out.
        config: How the task runs, settled.
        count: Crops that are looked at.
    """

    def __init__(self, crops: Crops, config: TrainConfig, count: int = 48) -> None:
        self.crops, self.config, self.count = crops, config, count

    @torch.no_grad()
    def __call__(self, task: nn.Module) -> dict[str, float]:
        """Returns the mean of every part, by its name behind ``held_out_``."""
        device = next(task.parameters()).device
        batch = self.config.batch // self.config.accumulate
        loader = DataLoader(
            self.crops, batch, sampler=range(self.count), generator=torch.Generator()
        )
        sums: dict[str, Tensor] = {}
        for one in loader:
            placed = {name: value.to(device) for name, value in one.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=bool(self.config.bf16)):
                parts: dict[str, Tensor] = task(placed)
            for name, part in parts.items():
                sums[name] = sums.get(name, torch.zeros(())) + part.float().cpu() / len(loader)
        return {f"held_out_{name}": float(value) for name, value in sums.items()}

"""The running mean of the weights, which is what a run is for."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """Follows a task in training by an exponential moving average of its trained weights.

    Args:
        task: In training; its place and layout must not change any more.
        decay: What stays of the mean at each step, less at first; 0 takes the last weights.
    """

    def __init__(self, task: nn.Module, decay: float) -> None:
        self._task, self._decay = task, decay
        self._mean = copy.deepcopy(task).requires_grad_(False)
        both = list(zip(self._mean.parameters(), task.parameters(), strict=True))
        self._ours = tuple(ours for ours, theirs in both if theirs.requires_grad)
        self._theirs = tuple(theirs for _, theirs in both if theirs.requires_grad)

    def follow(self, step: int) -> None:
        """Takes the weights after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._ours, self._theirs, step)

    @torch.no_grad()
    def module(self) -> nn.Module:
        """Returns the mean in evaluation mode; what is not trained is as in the task."""
        for ours, theirs in zip(self._mean.parameters(), self._task.parameters(), strict=True):
            if not theirs.requires_grad:
                ours.copy_(theirs)
        for ours, theirs in zip(self._mean.buffers(), self._task.buffers(), strict=True):
            ours.copy_(theirs)
        return self._mean.eval()

"""A tiny task and its stream, which tests train in this process and in others."""

import torch
from torch import nn
from torch.utils.data import Dataset

from umfuse.train import TrainConfig

CONFIG = TrainConfig(
    steps=12, batch=2, lr=1e-2, warmup=2, ema=0.9, bf16=False, log_every=4, save_every=5
)


class Noise(Dataset):
    """View k is drawn from k alone."""

    def __getitem__(self, index):
        image = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(index))
        return {"image": image, "seed": torch.tensor(index)}


class Task(nn.Module):
    """Fits a convolution to a blur.

    It draws from the run's own randomness as dropout does, and from the batch's as `MrrnTask` does.
    """

    def __init__(self, dropout=0.5, poison=None):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout(dropout), nn.Conv2d(4, 1, 1))
        self.fixed = nn.Parameter(torch.ones(()), requires_grad=False)
        self.calls, self.poison = 0, poison

    def forward(self, batch):
        self.calls += 1
        generator = torch.Generator().manual_seed(int(batch["seed"][0]))
        image = batch["image"]
        image = image + 0.1 * torch.randn(image.shape, generator=generator).to(image.device)
        target = nn.functional.avg_pool2d(batch["image"], 3, 1)
        loss = (self.network(image) - target).square().mean()
        return {"loss": loss * (float("nan") if self.calls == self.poison else 1), "plain": loss}


def equal(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)

"""Draws from torch's global randomness that leave that of the caller as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import torch


@contextlib.contextmanager
def own_randomness(device: torch.device, seed: int | None = None) -> Generator[None]:
    """Gives its block a global randomness of its own, on the CPU and where it computes.

    Afterwards, be it by an exception, that of the caller goes on as if nothing had been drawn.

    Args:
        device: Where the block computes.
        seed: Where the block's randomness begins; None begins where the caller's is.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if seed is not None:
            # Not torch.manual_seed, which seeds the devices too that are not restored.
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
        yield

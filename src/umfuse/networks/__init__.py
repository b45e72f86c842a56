"""The three networks of the paper: pure tensor to tensor, sizes only in their configs."""

from __future__ import annotations

from umfuse.networks.cpstn import Cpstn, CpstnConfig
from umfuse.networks.difn import Difn, DifnConfig
from umfuse.networks.mrrn import Mrrn, MrrnConfig, MrrnOutput

__all__ = ["Cpstn", "CpstnConfig", "Difn", "DifnConfig", "Mrrn", "MrrnConfig", "MrrnOutput"]

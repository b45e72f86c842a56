"""The three networks of the paper, and the matcher that may stand for the second.

Pure tensor to tensor, sizes only in their configs.
"""

from __future__ import annotations

from umfuse.networks.cpstn import Cpstn, CpstnConfig
from umfuse.networks.difn import Difn, DifnConfig
from umfuse.networks.matcher import Matcher, MatcherConfig
from umfuse.networks.mrrn import Match, Mrrn, MrrnConfig, MrrnOutput

__all__ = [
    "Cpstn",
    "CpstnConfig",
    "Difn",
    "DifnConfig",
    "Match",
    "Matcher",
    "MatcherConfig",
    "Mrrn",
    "MrrnConfig",
    "MrrnOutput",
]

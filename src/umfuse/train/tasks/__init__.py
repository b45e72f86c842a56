"""What each network is trained for: modules whose call on a batch returns ``"loss"`` and its parts.

A batch is what `umfuse.train.Crops` gives, collated: ``infrared`` (B, 1, H, W) and ``visible``
(B, 3, H, W) in [0, 1] on one grid, and ``seed`` (B,), from which a task draws what else is random.
Numbers of equations are those of doi:10.24963/ijcai.2022/487.
"""

from __future__ import annotations

from umfuse.train.tasks.common import Task
from umfuse.train.tasks.cpstn import CpstnLossWeights, CpstnTask
from umfuse.train.tasks.difn import DifnLossWeights, DifnTask
from umfuse.train.tasks.joint import JointLossWeights, JointTask
from umfuse.train.tasks.mrrn import MrrnLossWeights, MrrnTask

__all__ = [
    "CpstnLossWeights",
    "CpstnTask",
    "DifnLossWeights",
    "DifnTask",
    "JointLossWeights",
    "JointTask",
    "MrrnLossWeights",
    "MrrnTask",
    "Task",
]

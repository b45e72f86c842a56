"""What each network is trained for: modules whose call on a batch returns ``"loss"`` and its parts.

A batch is what `umfuse.train.Views` gives, collated: ``infrared`` (B, 1, H, W) and ``visible``
(B, 3, H, W) in [0, 1] on one grid, and ``seed`` (B,), from which a task draws what else is random.
Numbers of equations are those of doi:10.24963/ijcai.2022/487.
"""

from __future__ import annotations

from umfuse.train.tasks.common import Batch, Parts, Task
from umfuse.train.tasks.cpstn import CpstnTask, CpstnWeights
from umfuse.train.tasks.difn import DifnTask, DifnWeights
from umfuse.train.tasks.joint import JointTask, JointWeights
from umfuse.train.tasks.mrrn import MrrnTask, MrrnWeights

__all__ = [
    "Batch",
    "CpstnTask",
    "CpstnWeights",
    "DifnTask",
    "DifnWeights",
    "JointTask",
    "JointWeights",
    "MrrnTask",
    "MrrnWeights",
    "Parts",
    "Task",
]

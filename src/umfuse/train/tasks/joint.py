"""All three networks at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from typing_extensions import override

from umfuse.config import Fixed
from umfuse.filters import luma
from umfuse.train.learner import ParameterGroup
from umfuse.train.tasks.common import Task, randomness, total
from umfuse.train.tasks.cpstn import CpstnTask
from umfuse.train.tasks.difn import DifnTask
from umfuse.train.tasks.mrrn import MrrnTask
from umfuse.train.types import Batch, Parts


@dataclass(frozen=True)
class JointLossWeights:
    """Weights of the three networks' losses in Eq. 20; the paper's are 1."""

    cpstn: float = 1.0
    mrrn: float = 1.0
    difn: float = 1.0


class JointTask(Task):
    """Trains the three networks end to end: L_total, Eq. 20.

    The infrared image is registered on the pseudo-infrared one that CPSTN just made, and DIFN
    fuses it as registered by the field that MRRN just found. So registration trains CPSTN too, if
    it is registered to, and fusion trains MRRN. (The authors' own "joint" training moves DIFN
    alone.)

    Args:
        cpstn: Its own networks and terms.
        mrrn: The same; without a CPSTN of its own. ``single_modality`` is not used.
        difn: The same.
        weights: Of the three.
        fixed: What the infrared image is registered to; see `umfuse.pipeline.UmfuseConfig`.

    Raises:
        ValueError: If ``mrrn`` holds a CPSTN, which it would keep from training.
    """

    def __init__(
        self,
        cpstn: CpstnTask,
        mrrn: MrrnTask,
        difn: DifnTask,
        weights: JointLossWeights | None = None,
        *,
        fixed: Fixed = "pseudo-infrared",
    ) -> None:
        super().__init__()
        if mrrn.cpstn is not None:
            raise ValueError("the MrrnTask of a JointTask gets what CPSTN renders: pass cpstn=None")
        self.cpstn, self.mrrn, self.difn = cpstn, mrrn, difn
        self.weights, self.fixed = weights or JointLossWeights(), fixed

    @property
    @override
    def networks(self) -> Mapping[str, nn.Module]:
        return {**self.cpstn.networks, **self.mrrn.networks, **self.difn.networks}

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Returns the groups of CPSTN, and one for each of the other two networks."""
        others = (self.mrrn.network, self.difn.network)
        groups: list[ParameterGroup] = [{"params": list(one.parameters())} for one in others]
        return [*self.cpstn.parameter_groups(), *groups]

    @override
    def forward(self, batch: Batch) -> Parts:
        """Returns ``loss``, the losses ``cpstn``, ``mrrn`` and ``difn``, and the parts of each.

        The name of a part is ``NETWORK_PART``.
        """
        generator = randomness(batch)
        infrared, visible = batch["infrared"], batch["visible"]
        translated, pseudo = self.cpstn.terms(infrared, visible, generator)
        grey = luma(visible)
        fixed = pseudo if self.fixed == "pseudo-infrared" else grey
        registered = self.mrrn.terms(infrared, fixed, grey, generator)
        rows, columns = registered.inner
        parts = {
            "cpstn": translated,
            "mrrn": registered.parts,
            "difn": self.difn.terms(registered.infrared, grey[..., rows, columns]),
        }
        sums = {name: total(parts[name], getattr(self, name).weights) for name in parts}
        named = {f"{name}_{part}": v for name, group in parts.items() for part, v in group.items()}
        return {"loss": total(sums, self.weights), **sums, **named}

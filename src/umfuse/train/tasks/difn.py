"""Fusion of registered pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from typing_extensions import override

from umfuse.filters import luma
from umfuse.networks import Difn
from umfuse.train import losses
from umfuse.train.tasks.common import Task, total
from umfuse.train.types import Batch, Parts


@dataclass(frozen=True)
class DifnLossWeights:
    """Weights of the terms of Eq. 19, and of some that keep the contrast beside them.

    The paper's are 1, 20, 5, and 0 for the others. The saliency mean alone halves the contrast, as
    every average does; most terms beside it want that of both sources, at the level of their mean.

    Attributes:
        structure: λ_ssim, of Eq. 16.
        gradient: λ_JG, of Eq. 17.
        saliency: λ_svs, of Eq. 18.
        differences: Of what the fused image lacks of each source beyond the other.
        fidelity: Of the visual information of both sources.
        edges: Of what the fused image lacks of the edges of both sources.
        daylight: Of how much darker bright and empty places get.
    """

    structure: float = 2.0
    gradient: float = 40.0
    saliency: float = 4.0
    differences: float = 2.5
    fidelity: float = 1.5
    edges: float = 7.0
    daylight: float = 100.0


class DifnTask(Task):
    """Trains the fusion of registered pairs by L_fus, Eq. 16 to 19.

    The saliency weights are those of the registered infrared image that comes in. The terms that
    are not the paper's are computed only if they weigh.

    Args:
        network: Trained in place.
        weights: Of the terms.
    """

    def __init__(self, network: Difn, weights: DifnLossWeights | None = None) -> None:
        super().__init__()
        self.network = network
        self.weights = weights or DifnLossWeights()

    @property
    @override
    def networks(self) -> Mapping[str, nn.Module]:
        return {"difn": self.network}

    @override
    def forward(self, batch: Batch) -> Parts:
        """Returns ``loss``, and its terms by the names of their weights.

        Those that are not the paper's are 0 where they do not weigh.
        """
        parts = self.terms(batch["infrared"], luma(batch["visible"]))
        return {"loss": total(parts, self.weights), **parts}

    def terms(self, infrared: Tensor, visible: Tensor) -> Parts:
        """Returns the parts of the loss for a registered pair, both ``(B, 1, H, W)``."""
        fused: Tensor = self.network(infrared, visible)
        images = (fused, infrared, visible)
        parts = {
            "structure": losses.structure(*images),
            "gradient": losses.joint_gradient(*images),
            "saliency": losses.self_visual_saliency(*images),
        }
        for name in ("differences", "fidelity", "edges", "daylight"):
            wanted = getattr(self.weights, name)
            parts[name] = getattr(losses, name)(*images) if wanted else infrared.new_zeros(())
        return parts

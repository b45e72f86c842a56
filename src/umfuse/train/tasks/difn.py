"""Fusion of registered pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from typing_extensions import override

from umfuse.networks import Difn
from umfuse.pipeline import luma
from umfuse.train import losses
from umfuse.train.tasks.common import Batch, Parts, Task, total


@dataclass(frozen=True)
class DifnWeights:
    """Weights of the terms of Eq. 19, and of the intensity term beside them.

    The paper's are 1, 20, 5 and 0. Between the two L1 terms of nearly equal weight the level is
    free, and the gradient decides: more intensity ends in a plain maximum, washed out; more
    saliency in grey targets.

    Attributes:
        structure: λ_ssim, of Eq. 16.
        gradient: λ_JG, of Eq. 17.
        saliency: λ_svs, of Eq. 18.
        intensity: Of the distance to the brighter source.
    """

    structure: float = 0.5
    gradient: float = 45.0
    saliency: float = 3.0
    intensity: float = 4.0


class DifnTask(Task):
    """Trains the fusion of registered pairs by L_fus, Eq. 16 to 19.

    The saliency weights are those of the registered infrared image that comes in. The intensity
    term draws the result to the brighter source: the saliency mean alone washes the contrast out.

    Args:
        network: Trained in place.
        weights: Of the terms.
    """

    def __init__(self, network: Difn, weights: DifnWeights | None = None) -> None:
        super().__init__()
        self.network = network
        self.weights = weights or DifnWeights()

    @property
    @override
    def networks(self) -> Mapping[str, nn.Module]:
        return {"difn": self.network}

    @override
    def forward(self, batch: Batch) -> Parts:
        """Returns ``loss``, ``structure``, ``gradient``, ``saliency`` and ``intensity``."""
        parts = self.terms(batch["infrared"], luma(batch["visible"]))
        return {"loss": total(parts, self.weights), **parts}

    def terms(self, infrared: Tensor, visible: Tensor) -> Parts:
        """Returns the parts of the loss for a registered pair, both ``(B, 1, H, W)``."""
        fused: Tensor = self.network(infrared, visible)
        return {
            "structure": losses.structure(fused, infrared, visible),
            "gradient": losses.joint_gradient(fused, infrared, visible),
            "saliency": losses.self_visual_saliency(fused, infrared, visible),
            "intensity": losses.intensity(fused, infrared, visible),
        }

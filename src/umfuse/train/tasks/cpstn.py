"""Translation from visible to infrared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from umfuse import search
from umfuse.filters import luma
from umfuse.networks import Cpstn
from umfuse.train import losses
from umfuse.train.critic import Adversary
from umfuse.train.learner import ParameterGroup
from umfuse.train.perceptual import Mind, Perceptual
from umfuse.train.tasks.common import Task, randomness, total
from umfuse.train.types import Batch, Parts


@dataclass(frozen=True)
class CpstnLossWeights:
    """Weights of the terms; the paper's are 8, 8, 0, 1, 100, 1 and 1.

    With few pairs, and those 1-2 px apart, a strong critic invents texture: edges of the rendered
    image then lie where neither source has any, and registration is what they are for.

    Attributes:
        content: λ_c, of L_con in Eq. 11.
        edge: λ_e, of L_edge in Eq. 11.
        structure: Of the difference between the orientation of the edges of the rendered image and
            those of the visible one.
        perceptual: λ_p, of the cycle's Eq. 8.
        style: λ_s, of the cycle's Eq. 9.
        adversarial: Of L_GAN, for the generators.
        critic: Of L_GAN, for the critics.
    """

    content: float = 8.0
    edge: float = 2.0
    structure: float = 4.0
    perceptual: float = 0.0
    style: float = 0.0
    adversarial: float = 0.2
    critic: float = 1.0


class CpstnTask(Task):
    """Trains the way from visible to infrared on registered crops.

    With a way back it is the paper's training: two generators G_A and G_B, a critic for what each
    makes (LSGAN), the perceptual style transfer of the two cycles (Eq. 8 to 10) and the cross
    regularisation (Eq. 11 and 12), which compares each generator's image with the real one of the
    same place. (The authors' own training cropped the two independently.) Without a way back each
    sum has its infrared term alone, and there is no cycle.

    One call trains both players: a generator is judged by a critic whose weights are held constant,
    a critic by images that are detached. The structure term, L1 between orientation features, keeps
    the edges where the visible image has them; in the training without a cycle it stands in for
    Eq. 8.

    Args:
        network: The generator G_A, trained in place.
        weights: Of the terms.
        back: The generator G_B, from infrared to visible, trained in place.
        perceptual: Features of Eq. 8 and 9; None means `Mind`.
        filters: Of the critics' first layer; 64 in the paper.
        pool: Former fakes that a critic sees again.
        sigma: Scale of the orientation features, pixels.

    Raises:
        ValueError: If ``back`` does not undo ``network``, or Eq. 8 or 9 has weight without it.
    """

    def __init__(
        self,
        network: Cpstn,
        weights: CpstnLossWeights | None = None,
        *,
        back: Cpstn | None = None,
        perceptual: Perceptual | None = None,
        filters: int = 32,
        pool: int = 50,
        sigma: float = 1.5,
    ) -> None:
        super().__init__()
        self.weights = weights or CpstnLossWeights()
        there = network.config
        if back is None and (self.weights.perceptual or self.weights.style):
            raise ValueError(
                "the perceptual and style terms compare cycles: pass the way back, or weigh them 0"
            )
        if back is not None and (back.config.in_channels, back.config.out_channels) != (
            there.out_channels,
            there.in_channels,
        ):
            raise ValueError(
                f"back must turn {there.out_channels} channels into {there.in_channels}, as "
                f"CpstnConfig(in_channels=..., out_channels=...) says; got {back.config}"
            )
        self.network, self.back = network, back
        self.adversary = Adversary(there.out_channels, filters, pool)
        self.back_adversary = None if back is None else Adversary(there.in_channels, filters, pool)
        self.perceptual = perceptual or Mind()
        self.sigma = sigma

    @property
    @override
    def networks(self) -> Mapping[str, nn.Module]:
        return {"cpstn": self.network}

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Returns the generators' parameters and the critics': each has a gradient of its own."""
        generators, critics = (
            [parameter for player in side if player for parameter in player.parameters()]
            for side in ((self.network, self.back), (self.adversary, self.back_adversary))
        )
        return [{"params": generators}, {"params": critics}]

    @override
    def forward(self, batch: Batch) -> Parts:
        """Returns ``loss`` and the parts that `CpstnLossWeights` names."""
        parts, _ = self.terms(batch["infrared"], batch["visible"], randomness(batch))
        return {"loss": total(parts, self.weights), **parts}

    def terms(
        self, infrared: Tensor, visible: Tensor, generator: torch.Generator
    ) -> tuple[Parts, Tensor]:
        """Returns the parts of the loss, and the pseudo-infrared image with its gradient.

        Args:
            infrared: ``(B, 1, H, W)``.
            visible: ``(B, 3, H, W)`` of the same place.
            generator: Of the pools.
        """
        rendered: Tensor = self.network(visible).float()
        ways = [(self.adversary, rendered, infrared)]
        cycles: list[tuple[Tensor, Tensor]] = []
        if self.back is not None and self.back_adversary is not None:
            imagined: Tensor = self.back(infrared).float()
            ways.append((self.back_adversary, imagined, visible))
            if self.weights.perceptual or self.weights.style:
                cycles = [(visible, self.back(rendered)), (infrared, self.network(imagined))]
        parts = {
            "content": _sum(losses.content(fake, real) for _, fake, real in ways),
            "edge": _sum(losses.edge(fake, real) for _, fake, real in ways),
            "structure": self._structure(rendered, luma(visible)),
            **self._cycle(cycles, rendered),
            "adversarial": _sum(adversary.judge(fake) for adversary, fake, _ in ways),
            "critic": _sum(
                adversary.learn(real, fake, generator) for adversary, fake, real in ways
            ),
        }
        return parts, rendered

    def _cycle(self, cycles: Sequence[tuple[Tensor, Tensor]], like: Tensor) -> Parts:
        """Returns Eq. 8 and 9 of images and what came back of them."""
        parts = {"perceptual": like.new_zeros(()), "style": like.new_zeros(())}
        weights = self.perceptual.layer_weights
        for image, again in cycles:
            maps, again_maps = self.perceptual(image), self.perceptual(again.float())
            for name, loss in (("perceptual", losses.perceptual), ("style", losses.style)):
                parts[name] = parts[name] + loss(again_maps, maps, weights)
        return parts

    def _structure(self, rendered: Tensor, visible: Tensor) -> Tensor:
        ours, theirs = (search.orientation(one, self.sigma) for one in (rendered, visible))
        return (ours - theirs).abs().mean()


def _sum(terms: Iterable[Tensor]) -> Tensor:
    return torch.stack(tuple(terms)).sum()

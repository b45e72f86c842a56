"""What each network is trained for: modules whose call on a batch returns ``"loss"`` and its parts.

A batch is what `umfuse.train.Views` gives, collated: ``infrared`` (B, 1, H, W) and ``visible``
(B, 3, H, W) in [0, 1], registered, and ``seed`` (B,), from which a task draws what else is random.
Numbers of equations are those of doi:10.24963/ijcai.2022/487.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

import umfuse.train.losses as losses
from umfuse import search, warp
from umfuse.networks import Cpstn, Difn, Mrrn
from umfuse.pipeline import evidence, luma
from umfuse.train.critic import PatchCritic
from umfuse.train.data import Photometric
from umfuse.train.deform import DeformConfig, deformation

Batch = dict[str, Tensor]
Parts = dict[str, Tensor]


@dataclass(frozen=True)
class DifnWeights:
    """Weights of the terms of Eq. 19, and of the intensity term beside them.

    The paper's are 1, 20, 5 and 0. Between the two L1 terms of nearly equal weight the level is
    free, and the gradient decides: more intensity ends in a plain maximum, washed out; more
    saliency in grey targets.
    """

    structure: float = 0.5
    gradient: float = 45.0
    saliency: float = 3.0
    intensity: float = 4.0


class DifnTask(nn.Module):
    """Trains the fusion of registered pairs: Eq. 16 to 19.

    The intensity term draws the result to the brighter source: the saliency mean alone washes the
    contrast out.

    Args:
        network: Trained in place.
        weights: Of the terms.
    """

    def __init__(self, network: Difn, weights: DifnWeights | None = None) -> None:
        super().__init__()
        self.network = network
        self.weights = weights or DifnWeights()

    def forward(self, batch: Batch) -> Parts:
        """Returns ``loss``, ``structure``, ``gradient``, ``saliency`` and ``intensity``."""
        infrared, visible = batch["infrared"], luma(batch["visible"])
        fused: Tensor = self.network(infrared, visible)
        parts = {
            "structure": losses.structure(fused, infrared, visible),
            "gradient": losses.joint_gradient(fused, infrared, visible),
            "saliency": losses.self_visual_saliency(fused, infrared, visible),
            "intensity": losses.intensity(fused, infrared, visible),
        }
        return _total(parts, self.weights)


@dataclass(frozen=True)
class CpstnWeights:
    """Weights of the terms; the paper's are 8, 8 (Eq. 12), 0, 1 and 1.

    With few pairs, and those 1-2 px apart, a strong critic invents texture: edges of the rendered
    image then lie where neither source has any, and registration is what they are for.
    """

    content: float = 8.0
    edge: float = 2.0
    structure: float = 4.0
    adversarial: float = 0.2
    critic: float = 1.0


class CpstnTask(nn.Module):
    """Trains the way from visible to infrared on registered crops: Eq. 11 and 12, and LSGAN.

    Compact: one generator and one critic. In Eq. 11 the rendered image is compared with the
    infrared image of the same place, which the authors' own training left to chance (unpaired
    crops). The way back, its cycle and the perceptual terms (Eq. 8 to 10) are not here yet.

    One call trains both players: the generator is judged by a critic whose weights are held
    constant, the critic by images that are detached. The structure term, L1 between orientation
    features, keeps the edges where the visible image has them; it stands in for Eq. 8.

    Args:
        network: The generator, trained in place.
        weights: Of the terms.
        filters: Of the critic's first layer.
        pool: Former fakes that the critic sees again.
        sigma: Scale of the orientation features, pixels.
    """

    def __init__(
        self,
        network: Cpstn,
        weights: CpstnWeights | None = None,
        *,
        filters: int = 32,
        pool: int = 50,
        sigma: float = 1.5,
    ) -> None:
        super().__init__()
        self.network = network
        self.critic = PatchCritic(network.config.out_channels, filters)
        self.pool = losses.ImagePool(pool)
        self.sigma = sigma
        self.weights = weights or CpstnWeights()

    def forward(self, batch: Batch) -> Parts:
        """Returns ``loss``, ``content``, ``edge``, ``structure``, ``adversarial``, ``critic``."""
        infrared = batch["infrared"]
        rendered: Tensor = self.network(batch["visible"]).float()
        constant = {name: value.detach() for name, value in self.critic.named_parameters()}
        judged: Tensor = functional_call(self.critic, constant, (rendered,))
        former = self.pool(rendered, _generator(batch))
        parts = {
            "content": losses.content(rendered, infrared),
            "edge": losses.edge(rendered, infrared),
            "structure": self._structure(rendered, luma(batch["visible"])),
            "adversarial": losses.lsgan(judged, real=True),
            "critic": 0.5 * losses.lsgan(self.critic(infrared), real=True)
            + 0.5 * losses.lsgan(self.critic(former), real=False),
        }
        return _total(parts, self.weights)

    def _structure(self, rendered: Tensor, visible: Tensor) -> Tensor:
        ours, theirs = (search.orientation(one, self.sigma) for one in (rendered, visible))
        return (ours - theirs).abs().mean()


@dataclass(frozen=True)
class MrrnWeights:
    """Weights of the terms.

    Attributes:
        distance: Of the end-point error in pixels, summed over the levels.
        match: Of the end-point error of what the matching alone says, summed over the levels.
        similarity: Of Eq. 13. Zero does not compute it.
        smooth: Of Eq. 14; the paper's is 10 where nothing else holds the field.
    """

    distance: float = 1.0
    match: float = 0.1
    similarity: float = 0.0
    smooth: float = 0.5


class MrrnTask(nn.Module):
    """Trains registration by displacement that is known, with Eq. 13 and 14 beside it.

    The infrared image is deformed by a random field; the network is to find the field that
    restores it, at every level. In a part of the calls the fixed image is the infrared image
    itself with other looks: matching is learned in one modality long before it works across two.

    Args:
        network: Trained in place.
        cpstn: Renders the pseudo-infrared image if the batch holds no ``pseudo``; never trained.
        deform: Displacement to be undone.
        weights: Of the terms.
        mono: How often the fixed image is the infrared image itself.
        looks: How much the looks of the fixed image change then.
        margin: Pixels of the batch that are cut off after deforming, so that what comes in at the
            borders is real.
        sigma: Scale of the orientation features, pixels; see `umfuse.pipeline.UmfuseConfig`.
    """

    def __init__(
        self,
        network: Mrrn,
        cpstn: Cpstn | None = None,
        *,
        deform: DeformConfig | None = None,
        weights: MrrnWeights | None = None,
        mono: float = 0.2,
        looks: Photometric | None = None,
        margin: int = 16,
        sigma: float = 1.5,
    ) -> None:
        super().__init__()
        self.network = network
        self.cpstn = None if cpstn is None else cpstn.requires_grad_(False)
        self.deform = deform or DeformConfig()
        self.weights = weights or MrrnWeights()
        self.mono, self.margin, self.sigma = mono, margin, sigma
        self.looks = looks or Photometric(gamma=0.7, contrast=0.5, noise=0.04, blur=1.5, invert=0.5)

    def forward(self, batch: Batch) -> Parts:
        """Returns ``loss``, ``distance``, ``match``, ``similarity`` and ``smooth``.

        ``input`` is the mean displacement before, ``error`` what is left: the figures to watch.
        """
        generator = _generator(batch)
        infrared = batch["infrared"]
        size = (infrared.shape[-2], infrared.shape[-1])
        field_ = deformation(len(infrared), size, self.deform, generator)
        restore, deform, valid = (one.to(infrared.device) for one in field_)
        deformed, inside = warp.warp(infrared, deform)
        if float(torch.rand((), generator=generator)) < self.mono:
            intensity = torch.stack([self.looks(one, generator) for one in infrared])
            source = intensity
        else:
            intensity, source = self._pseudo(batch), luma(batch["visible"])
        margin = self.margin
        inner = (..., slice(margin, size[0] - margin), slice(margin, size[1] - margin))
        intensity, source, deformed, inside, restore, valid = (
            one[inner] for one in (intensity, source, deformed, inside, restore, valid)
        )
        fixed = evidence(intensity, source, self.sigma, self.network)
        moving = evidence(deformed, deformed, self.sigma, self.network, inside)
        found = self.network(fixed, moving)
        weight = valid.float()
        zero = restore.new_zeros(())
        distance = losses.end_point(found.displacement, restore, weight)
        for one in found.pyramid:
            distance = distance + _level_error(one, restore, weight)
        match = sum((_level_error(one, restore, weight) for one in found.matches), zero)
        similarity = zero
        if self.weights.similarity:
            similarity = _similarity(fixed, moving, found.displacement)
        parts = {
            "distance": distance,
            "match": match,
            "similarity": similarity,
            "smooth": losses.smoothness(found.displacement),
        }
        with torch.no_grad():
            gap = (found.displacement - restore).square().sum(1, keepdim=True).sqrt()
            error = (gap * weight).sum() / weight.sum().clamp_min(1)
            before = restore.square().sum(1, keepdim=True).sqrt()
            before = (before * weight).sum() / weight.sum().clamp_min(1)
        return {**_total(parts, self.weights), "input": before, "error": error}

    def _pseudo(self, batch: Batch) -> Tensor:
        if "pseudo" in batch:
            return batch["pseudo"]
        if self.cpstn is None:
            return luma(batch["visible"])
        with torch.no_grad():
            rendered: Tensor = self.cpstn(batch["visible"])
        return rendered.float()


def _level_error(found: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Returns the end-point error of one level's field, in pixels of the finest grid."""
    size = (found.shape[-2], found.shape[-1])
    stride = truth.shape[-1] / size[1]
    coarse = warp.resize(truth, size)
    trusted = torch.nn.functional.interpolate(weight, size, mode="area")
    return stride * losses.end_point(found, coarse, trusted, epsilon=0.1 / stride)


def _similarity(fixed: Tensor, moving: Tensor, displacement: Tensor) -> Tensor:
    """Returns Eq. 13 on the features that the network sees, the reverse term weighing 0.2.

    The paper compares VGG features; the reverse field is the inverse, not the negative.
    """
    forward, valid = warp.warp(moving, displacement)
    inverse, _ = warp.invert(displacement, iterations=4)
    backward, seen = warp.warp(fixed, inverse)
    return ((forward - fixed).abs() * valid).mean() + 0.2 * (
        (backward - moving).abs() * seen
    ).mean()


def _generator(batch: Batch) -> torch.Generator:
    """Returns the randomness of a batch, which depends on its first view alone."""
    return torch.Generator().manual_seed(int(batch["seed"][0]))


def _total(parts: Parts, weights: object) -> Parts:
    """Adds ``"loss"``: the parts by the weights of their names."""
    terms = [getattr(weights, name) * part for name, part in parts.items()]
    return {"loss": torch.stack(terms).sum(), **parts}

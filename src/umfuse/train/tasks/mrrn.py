"""Registration of the infrared image on the pseudo-infrared one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from umfuse import geometry
from umfuse.filters import luma
from umfuse.networks import Cpstn, Matcher, Mrrn, MrrnOutput
from umfuse.pipeline import registration_input
from umfuse.train import losses
from umfuse.train.augment import Photometric
from umfuse.train.deform import Deformation, DeformConfig, deformation
from umfuse.train.perceptual import Mind, Perceptual
from umfuse.train.protocols import protocol
from umfuse.train.tasks.common import Task, randomness, total
from umfuse.train.types import Batch, Parts

INVERSE_STEPS = 8  # a field that no deformation of ours exceeds is inverted to 0.001 px by then

_DEFORM = DeformConfig()
_AUGMENTATION = Photometric(gamma=0.5, contrast=0.4, noise=0.04, blur=1.2, curve=1.0)


@dataclass(frozen=True)
class MrrnLossWeights:
    """Weights of the terms; the paper's are 0, 0, 1, 0.2 and 10.

    Attributes:
        distance: Of the end-point error in pixels, summed over the levels.
        match: Of the surprise of a matcher's windows at the true offset, summed over the levels.
        similarity: Of the first term of Eq. 13.
        reverse: λ_rev, of the second term of Eq. 13.
        smooth: λ_sm, of Eq. 14.
    """

    distance: float = 1.0
    match: float = 0.5
    similarity: float = 0.0
    reverse: float = 0.0
    smooth: float = 0.0


class Registered(NamedTuple):
    """What registration came to.

    Attributes:
        parts: Of the loss, and the figures to watch.
        infrared: ``(B, 1, h, w)``, the infrared image warped by the field that was found, with its
            gradient.
        inner: Where ``h`` and ``w`` lie in the images that came in.
    """

    parts: Parts
    infrared: Tensor
    inner: tuple[slice, slice]


class MrrnTask(Task):
    """Trains registration by L_reg, Eq. 13 to 15, and by displacement that is known.

    The infrared image is deformed by a random field; the network is to find the field that
    restores it, at every level. In a part of the crops both images are of a single modality, one of
    them augmented: matching is learned in one modality long before it works across two, and a
    camera not seen before is met more easily.

    With ``deform=None`` the pair is taken as it comes, such as two cameras that are aligned by
    search alone: nothing is known, and Eq. 13 and 14 are all there is.

    Args:
        network: Trained in place.
        cpstn: Renders the pseudo-infrared image if the batch holds no ``pseudo``; never trained.
            Without either the luma of the visible image takes its place.
        deform: Displacement to be undone; a name is that of a protocol, see
            `umfuse.train.deform.protocol`.
        weights: Of the terms.
        perceptual: Features of Eq. 13; None means `Mind`.
        aligned: Whether Eq. 13 compares with the infrared image as it was before it was deformed,
            not with the fixed one, whose likeness to it ends where CPSTN's skill does.
        single_modality: How often both images are of one camera: in half of these crops that of
            the infrared image, in half that of the visible one.
        bridge: Range of the weight, drawn anew for each crop, that the fixed image has in a mean
            with the infrared one, which takes its place: from one modality to two in small steps.
        augmentation: Of the image that takes the other camera's place then; None means other grey
            levels by curves that may fall, noise and blur.
        margin: Pixels of the batch that are cut off after deforming, so that what comes in at the
            borders is real.
        sigma: Scale of the orientation features, pixels; see `umfuse.pipeline.UmfuseConfig`.

    Raises:
        ValueError: If a term asks for a displacement that is not known.
    """

    def __init__(
        self,
        network: Mrrn | Matcher,
        cpstn: Cpstn | None = None,
        *,
        deform: DeformConfig | str | None = _DEFORM,
        weights: MrrnLossWeights | None = None,
        perceptual: Perceptual | None = None,
        aligned: bool = False,
        single_modality: float = 0.2,
        bridge: tuple[float, float] | None = None,
        augmentation: Photometric | None = None,
        margin: int = 16,
        sigma: float = 1.5,
    ) -> None:
        super().__init__()
        self.weights = weights or MrrnLossWeights()
        supervised = self.weights.distance or self.weights.match or aligned
        if deform is None and (supervised or single_modality or bridge):
            raise ValueError(
                "without a deformation no displacement is known: the weights distance and match, "
                "and single_modality, must be 0, aligned False and bridge None, got "
                f"{self.weights}, {single_modality=}, {aligned=} and {bridge=}"
            )
        self.network = network
        self.cpstn = None if cpstn is None else cpstn.requires_grad_(False)
        self.deform = deform
        self.perceptual = perceptual or Mind()
        self.aligned, self.bridge = aligned, bridge
        self.single_modality = single_modality
        self.augmentation = augmentation or _AUGMENTATION
        self.margin = 0 if deform is None else margin
        self.sigma = sigma

    @property
    @override
    def networks(self) -> Mapping[str, nn.Module]:
        return {"mrrn": self.network}

    @override
    def forward(self, batch: Batch) -> Parts:
        """Returns ``loss``, ``distance``, ``match``, ``similarity``, ``reverse`` and ``smooth``.

        Where a displacement is known, ``input`` is its mean and ``error`` what is left of it: the
        figures to watch.
        """
        generator = randomness(batch)
        grey = luma(batch["visible"])
        pairs = zip(batch["infrared"], self._fixed(batch, grey), grey, strict=True)
        if self.bridge:
            pairs = [self._between(*pair, self.bridge, generator) for pair in pairs]
        if self.single_modality:
            pairs = [self._one_camera(*pair, generator) for pair in pairs]
        infrared, intensity, source = (torch.stack(images) for images in zip(*pairs, strict=True))
        parts = self.terms(infrared, intensity, source, generator).parts
        return {"loss": total(parts, self.weights), **parts}

    def terms(
        self, infrared: Tensor, intensity: Tensor, source: Tensor, generator: torch.Generator
    ) -> Registered:
        """Returns the parts of the loss for a pair, all images ``(B, 1, H, W)``.

        Args:
            infrared: Deformed here, if the task deforms.
            intensity: The fixed image: pseudo-infrared, or what stands in for it.
            source: The image whose edges the fixed image's should be.
            generator: Of the deformation.
        """
        height, width = infrared.shape[-2:]
        margin = self.margin
        inner = (slice(margin, height - margin), slice(margin, width - margin))
        truth = valid = None
        if self.deform is None:
            moving, inside = infrared, torch.ones_like(infrared, dtype=torch.bool)
        else:
            field = _draw(self.deform, len(infrared), (height, width), generator)
            moving, inside = geometry.warp(infrared, field.deform.to(infrared.device))
            truth, valid = (
                one.to(infrared.device)[..., inner[0], inner[1]]
                for one in (field.restore, field.valid)
            )
        infrared, intensity, source, moving, inside = (
            one[..., inner[0], inner[1]] for one in (infrared, intensity, source, moving, inside)
        )
        found: MrrnOutput = self.network(
            registration_input(intensity, source, self.sigma, self.network),
            registration_input(moving, moving, self.sigma, self.network, inside),
        )
        registered, seen = geometry.warp(torch.cat((moving, inside), 1), found.displacement)
        like = infrared if self.aligned else intensity
        parts = {
            **_supervision(found, truth, valid),
            **self._similarity(like, moving, inside, registered, seen, found.displacement),
            "smooth": losses.smoothness(found.displacement),
        }
        return Registered(parts, registered[:, :1], inner)

    def _similarity(
        self,
        fixed: Tensor,
        moving: Tensor,
        inside: Tensor,
        registered: Tensor,
        seen: Tensor,
        displacement: Tensor,
    ) -> Parts:
        """Returns the two terms of Eq. 13, the second by the inverse of the field.

        Args:
            fixed: ``(B, 1, H, W)``.
            moving: The same.
            inside: Where the moving image holds data.
            registered: The moving image and ``inside``, warped.
            seen: Where that was inside the frame.
            displacement: By which they were warped.
        """
        parts = {"similarity": fixed.new_zeros(()), "reverse": fixed.new_zeros(())}
        maps, weights = self.perceptual, self.perceptual.layer_weights
        if self.weights.similarity:
            valid = seen & (registered[:, 1:] > 0.5)
            there = maps(registered[:, :1])
            parts["similarity"] = losses.similarity(there, maps(fixed), weights, valid)
        if self.weights.reverse:
            inverse, _ = geometry.invert(displacement, INVERSE_STEPS)
            deformed, seen = geometry.warp(fixed, inverse)
            back = maps(deformed)
            parts["reverse"] = losses.similarity(back, maps(moving), weights, seen & inside)
        return parts

    def _fixed(self, batch: Batch, grey: Tensor) -> Tensor:
        if "pseudo" in batch:
            return batch["pseudo"]
        if self.cpstn is None:
            return grey
        with torch.no_grad():
            rendered: Tensor = self.cpstn(batch["visible"])
        return rendered.float()

    def _between(
        self,
        infrared: Tensor,
        fixed: Tensor,
        grey: Tensor,
        weights: tuple[float, float],
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns infrared image, an image on the way from it to the fixed one, and the source."""
        low, high = weights
        weight = low + (high - low) * float(torch.rand((), generator=generator))
        return infrared, torch.lerp(self.augmentation(infrared, generator), fixed, weight), grey

    def _one_camera(
        self, infrared: Tensor, fixed: Tensor, grey: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns infrared image, fixed image and its source, now and then all of one camera."""
        draw = float(torch.rand((), generator=generator))
        if draw >= self.single_modality:
            return infrared, fixed, grey
        if draw < self.single_modality / 2:
            other = self.augmentation(infrared, generator)
            return infrared, other, other
        return self.augmentation(grey, generator), grey, grey


def _draw(
    kind: DeformConfig | str, batch: int, size: tuple[int, int], generator: torch.Generator
) -> Deformation:
    if isinstance(kind, DeformConfig):
        return deformation(batch, size, kind, generator)
    seeds = torch.randint(2**31, (batch,), generator=generator)
    fields = [protocol(kind, size, int(seed)) for seed in seeds]
    return Deformation(*(torch.cat(parts) for parts in zip(*fields, strict=True)))


def _supervision(found: MrrnOutput, truth: Tensor | None, valid: Tensor | None) -> Parts:
    """Returns the end-point errors at all levels, and the mean displacement before and after."""
    zero = found.displacement.new_zeros(())
    if truth is None or valid is None:
        return {"distance": zero, "match": zero}
    weight = valid.float()
    distance = losses.end_point(found.displacement, truth, weight)
    for field in found.pyramid:
        coarse, trusted, stride = _at_level(field, truth, weight)
        distance = distance + stride * losses.end_point(field, coarse, trusted, 0.1 / stride)
    match = zero
    for logits, start in found.matches:
        coarse, trusted, _ = _at_level(start, truth, weight)
        match = match + losses.matching(logits, coarse - start.detach(), trusted)
    with torch.no_grad():
        before = losses.end_point(torch.zeros_like(truth), truth, weight, epsilon=0)
        error = losses.end_point(found.displacement, truth, weight, epsilon=0)
    return {"distance": distance, "match": match, "input": before, "error": error}


def _at_level(field: Tensor, truth: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, int]:
    """Returns the truth in pixels of a level, its weight there, and the stride of the level."""
    size, (height, width) = field.shape[-2:], truth.shape[-2:]
    stride = 2 ** math.ceil(math.log2(max(height / size[0], width / size[1])))
    frame = (0, size[1] * stride - width, 0, size[0] * stride - height)  # that the network added
    coarse = F.avg_pool2d(F.pad(truth, frame, mode="replicate"), stride) / stride
    return coarse, F.avg_pool2d(F.pad(weight, frame), stride), stride

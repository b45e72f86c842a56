"""Umfuse: the three networks in their order, on images of any size.

Search finds the global transform between the cameras, CPSTN makes the visible image look infrared,
MRRN refines the transform by a dense displacement, the original infrared image is resampled once
through the composed map, DIFN fuses it with the visible image. A `Matcher` in the place of MRRN
compares the infrared image with the visible one itself, and CPSTN need not run.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from umfuse import geometry, search
from umfuse.config import UmfuseConfig
from umfuse.filters import luma
from umfuse.networks import (
    Cpstn,
    Difn,
    Matcher,
    Mrrn,
    MrrnConfig,
    MrrnOutput,
)
from umfuse.networks.difn import global_means
from umfuse.pretrained import Pretrained

logger = logging.getLogger(__name__)

TILE = 512  # side of DIFN's tiles: small enough for its features to stay in a few hundred MiB
FEATHER = 1 / 64  # of the longer side: how softly the fused image ends where infrared data ends
ALIASING = 1.5  # infrared pixels in a visible one, above which the infrared image is reduced first
ENLARGE = 2.0  # how much smaller images are enlarged for registration, at most
GAIN = 1e-3  # similarity that the dense stage must add to be kept; less is noise
Stage = Literal["resize", "search", "dense"]


class Output(NamedTuple):
    """What `Umfuse.forward` returns; shapes on the visible grid."""

    fused: Tensor
    """``(B, 1, H, W)`` luma in [0, 1]."""
    infrared: Tensor
    """``(B, 1, H, W)``, registered."""
    displacement: Tensor
    """``(B, 2, H, W)`` visible pixels, after the global transform."""
    valid: Tensor
    """``(B, 1, H, W)`` bool, where infrared data exists."""
    pseudo_infrared: Tensor | None
    """``(B, 1, H, W)`` in [0, 1], what CPSTN renders; None where that is not used."""


class Alignment(NamedTuple):
    """What `Umfuse.align` finds about one pair."""

    coordinates: Tensor
    """``(1, 2, H, W)``: the (x, y) infrared pixel that each visible pixel looks at."""
    transform: Tensor
    """``(3, 3)`` float64, the global part: visible pixel to infrared pixel."""
    valid: Tensor
    """``(1, 1, H, W)`` bool, where infrared data exists."""
    confidence: float
    """In [0, 1]; low means "do not trust this alignment"."""
    stage: Stage
    """The last stage that explained the pair better than the one before it."""


class Umfuse(Pretrained):
    """Aligns and fuses infrared and visible images that are not registered.

    `forward` is for batches, training and export; `align` and `fuse` are for one pair of any size.
    Images are float32 in [0, 1] on the device of the model.

    Args:
        config: Sizes; None means the paper's.
        cpstn: Whether to have a CPSTN; only a model that registers to the visible image itself can
            do without.

    Attributes:
        cpstn: None in a model without it.
        precision: ``"bfloat16"`` runs the convolutions of inference in bfloat16, ``"float32"``
            does not, ``"auto"`` does where the device has the instructions. Fields and coordinates
            are float32 always.
    """

    precision: Literal["auto", "bfloat16", "float32"] = "auto"

    def __init__(self, config: UmfuseConfig | None = None, *, cpstn: bool = True) -> None:
        super().__init__(config, cpstn=cpstn)
        config = self.config
        self.cpstn = Cpstn(config.cpstn) if cpstn else None
        sizes = config.mrrn
        self.mrrn = Mrrn(sizes) if isinstance(sizes, MrrnConfig) else Matcher(sizes)
        self.difn = Difn(config.difn)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.parameters()).device

    @override
    def forward(self, infrared: Tensor, visible: Tensor, transform: Tensor | None = None) -> Output:
        """Registers and fuses a batch at full size, without search; differentiable, exportable.

        Args:
            infrared: ``(B, 1, h, w)`` in [0, 1].
            visible: ``(B, 1, H, W)`` or ``(B, 3, H, W)`` in [0, 1].
            transform: ``(3, 3)`` or ``(B, 3, 3)``, visible pixel to infrared pixel, as
                `search.search` finds it; None means plain resizing.
        """
        size = (visible.shape[-2], visible.shape[-1])
        if transform is None:
            transform = geometry.resize_transform(size, (infrared.shape[-2], infrared.shape[-1]))
        transform = transform.to(visible.device)
        pseudo = self._pseudo(visible)
        displacement = self.displace(infrared, visible, transform, pseudo)
        registered, valid = geometry.sample(
            infrared, geometry.project(transform, geometry.to_coordinates(displacement))
        )
        fused = self.difn(registered, luma(visible)).clamp(0, 1)
        return Output(fused, registered, displacement, valid, pseudo)

    def render(self, visible: Tensor) -> Tensor:
        """Returns the pseudo-infrared image ``(B, 1, H, W)`` that CPSTN makes of a visible one.

        Args:
            visible: ``(B, 1, H, W)`` or ``(B, 3, H, W)`` in [0, 1].

        Raises:
            RuntimeError: If the model has no CPSTN.
        """
        if self.cpstn is None:
            raise RuntimeError(
                "this model was loaded without CPSTN, which it does not need to register: load it "
                "with umfuse.load(..., cpstn=True)"
            )
        rendered: Tensor = self.cpstn(visible.expand(-1, 3, -1, -1))
        return rendered.float()

    def _pseudo(self, visible: Tensor) -> Tensor | None:
        """Returns what CPSTN renders, if the infrared image is registered to that."""
        return self.render(visible) if self.config.fixed == "pseudo-infrared" else None

    def displace(
        self, infrared: Tensor, visible: Tensor, transform: Tensor, pseudo: Tensor | None = None
    ) -> Tensor:
        """Runs MRRN on the grid of ``visible``.

        Args:
            infrared: ``(B, 1, h, w)`` in [0, 1].
            visible: ``(B, 1, H, W)`` or ``(B, 3, H, W)`` in [0, 1].
            transform: ``(3, 3)`` or ``(B, 3, 3)``, visible pixel to infrared pixel.
            pseudo: ``(B, 1, H, W)``, the pseudo-infrared image; None takes the visible luma.

        Returns:
            ``(B, 2, H, W)``, the displacement in visible pixels that remains after the transform.
        """
        size = (visible.shape[-2], visible.shape[-1])
        moved, valid = geometry.sample(infrared, geometry.project_grid(transform, size))
        grey, sigma = luma(visible), self.config.orientation_sigma
        # The edges of the visible image itself: CPSTN keeps them less well than it keeps places.
        fixed = evidence(grey if pseudo is None else pseudo, grey, sigma, self.mrrn)
        moving = evidence(moved, moved, sigma, self.mrrn, valid)
        found: MrrnOutput = self.mrrn(fixed, moving)
        return found.displacement

    @torch.inference_mode()
    def align(self, infrared: Tensor, visible: Tensor) -> Alignment:
        """Finds which infrared pixel each visible pixel looks at, for one pair of any two sizes.

        Each stage is kept only if it explains the pair better than the one before: plain resizing,
        search, MRRN.

        Args:
            infrared: ``(1, 1, h, w)`` in [0, 1].
            visible: ``(1, 1, H, W)`` or ``(1, 3, H, W)`` in [0, 1].
        """
        size = (visible.shape[-2], visible.shape[-1])
        found = search.search(luma(visible), infrared)
        transform = found.transform.to(visible.device)
        plain = geometry.resize_transform(size, (infrared.shape[-2], infrared.shape[-1]))
        stage: Stage = "search"
        if torch.equal(transform, plain.to(transform)):
            stage = "resize"

        factor = min(ENLARGE, self.config.working_size / max(size))
        working = (max(8, round(size[0] * factor)), max(8, round(size[1] * factor)))
        small = F.interpolate(visible, working, mode="bilinear", antialias=factor < 1)
        up = geometry.resize_transform(working, size).to(transform)
        reduced, scale = _reduce(infrared, geometry.project_grid(transform @ up, working))
        start = transform @ up  # from working pixels
        with self._autocast():
            pseudo = self._pseudo(small)
            first = self.displace(reduced, small, scale @ start, pseudo)
            # The homography that fits the field is a better start than that of the search.
            better = geometry.fit_homography(
                geometry.project(start, geometry.to_coordinates(first))
            )[0]
            displacement = self.displace(reduced, small, scale @ better, pseudo)
        before = geometry.project_grid(scale @ start, working)
        after = geometry.project(scale @ better, geometry.to_coordinates(displacement))
        if self._improves(reduced, small, before, after):
            stage, transform = "dense", better @ up.inverse()
        else:
            displacement = torch.zeros_like(displacement)
        coordinates = geometry.project(
            transform, geometry.to_coordinates(geometry.resize_field(displacement, size))
        )
        valid = geometry.inside(coordinates, (infrared.shape[-2], infrared.shape[-1]))
        return Alignment(coordinates, transform, valid, found.confidence, stage)

    def _improves(self, infrared: Tensor, visible: Tensor, before: Tensor, after: Tensor) -> bool:
        """Says whether other coordinates make the pair more similar."""
        both = torch.cat((before, after))
        moved, valid = geometry.sample(infrared.expand(2, -1, -1, -1), both)
        scores = cast("list[float]", search.similarity(luma(visible), moved, valid).tolist())
        logger.debug("similarity after search %.4f, after the dense stage %.4f", *scores)
        return scores[1] > scores[0] + GAIN

    @torch.inference_mode()
    def fuse(self, infrared: Tensor, visible: Tensor, valid: Tensor | None = None) -> Tensor:
        """Fuses a registered pair of any size, in tiles that give what the whole image gives.

        Args:
            infrared: ``(1, 1, H, W)`` in [0, 1], on the visible grid.
            visible: ``(1, 1, H, W)`` or ``(1, 3, H, W)`` in [0, 1].
            valid: ``(1, 1, H, W)`` bool. Where infrared data is missing the result is the visible
                image, with a soft passage.

        Returns:
            ``(1, 1, H, W)`` luma in [0, 1].
        """
        grey = luma(visible)
        weight = None if valid is None or bool(valid.all()) else _feather(valid)
        if weight is not None:
            infrared = torch.lerp(grey, infrared, weight)
        fused = torch.empty_like(grey)
        height, width = grey.shape[-2:]
        margin = self.difn.radius
        means = global_means(infrared, grey)
        # Continued beyond the frame, so that the zeros around a convolution leave no border.
        pair = F.pad(torch.cat((infrared, grey), 1), (margin,) * 4, mode="replicate")
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                down, right = min(TILE, height - top), min(TILE, width - left)
                window = pair[..., top : top + down + 2 * margin, left : left + right + 2 * margin]
                with self._autocast():
                    tile: Tensor = self.difn(window[:, :1], window[:, 1:], means)
                inner = tile[..., margin : margin + down, margin : margin + right]
                fused[..., top : top + down, left : left + right] = inner
        fused = fused.clamp(0, 1)
        return fused if weight is None else torch.lerp(grey, fused, weight)

    @contextlib.contextmanager
    def _autocast(self) -> Generator[None]:
        kind = self.device.type
        wanted = self.precision == "bfloat16" or (self.precision == "auto" and _has_bf16(kind))
        with torch.autocast(kind, torch.bfloat16, enabled=wanted):
            yield


def evidence(
    intensity: Tensor,
    source: Tensor,
    sigma: float,
    network: Mrrn | Matcher,
    valid: Tensor | None = None,
) -> Tensor:
    """Returns what a registration network sees: intensity and, if it was built for it, orientation.

    Args:
        intensity: ``(B, 1, H, W)`` in [0, 1], infrared or pseudo-infrared.
        source: ``(B, 1, H, W)`` in [0, 1], the image whose edges are looked at.
        sigma: Scale of the orientation features in pixels.
        network: Decides by its number of channels.
        valid: ``(B, 1, H, W)`` bool; replicated borders outside it are no evidence.

    Returns:
        ``(B, 1 or 3, H, W)``.
    """
    if network.config.in_channels == 1:
        return intensity
    features = search.orientation(source, sigma)
    if valid is not None:
        features = features * valid
    return torch.cat((intensity, features), 1)


def resample(image: Tensor, coordinates: Tensor) -> Tensor:
    """Samples an infrared image once, from its own pixels, on the visible grid.

    An image much finer than the grid is reduced to it first, since sampling it would alias.

    Args:
        image: ``(1, C, h, w)``, in any units.
        coordinates: ``(1, 2, H, W)`` pixels of the image.

    Returns:
        ``(1, C, H, W)`` float32, with replicated borders.
    """
    reduced, scale = _reduce(image, coordinates)
    return geometry.sample(reduced, geometry.project(scale, coordinates))[0]


def _reduce(image: Tensor, coordinates: Tensor) -> tuple[Tensor, Tensor]:
    """Returns an image no finer than the coordinates are dense, and the transform to its pixels."""
    height, width = image.shape[-2:]
    across = (coordinates[:, 0, :, 1:] - coordinates[:, 0, :, :-1]).abs().median()
    down = (coordinates[:, 1, 1:] - coordinates[:, 1, :-1]).abs().median()
    pixels = max(1.0, float(across), float(down))  # of the image, in one of the grid
    if pixels < ALIASING:
        return image, torch.eye(3, dtype=torch.float64, device=image.device)
    size = (max(8, round(height / pixels)), max(8, round(width / pixels)))
    reduced = F.interpolate(image, size, mode="bilinear", antialias=True)
    return reduced, geometry.resize_transform((height, width), size).to(image.device)


def _feather(valid: Tensor) -> Tensor:
    """Returns weights (B, 1, H, W) that fall from 1 to 0 on the way to where data is missing."""
    height, width = valid.shape[-2:]
    step = max(1, round(max(height, width) * FEATHER / 2))  # coarse pixels: half a feather wide
    coarse = -F.max_pool2d(-valid.float(), step, ceil_mode=True)
    eroded = -F.max_pool2d(-coarse, 5, stride=1, padding=2)
    soft = F.avg_pool2d(eroded, 3, stride=1, padding=1, count_include_pad=False)
    weight = F.interpolate(soft, (height, width), mode="bilinear", align_corners=False)
    return weight * valid


def _has_bf16(kind: str) -> bool:
    """Says whether convolutions in bfloat16 run on instructions of their own."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    ask = cast("Callable[[], dict[str, Any]]", getattr(torch.cpu, "get_capabilities", dict))
    capabilities = ask()  # nothing is known before torch 2.11
    return kind == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))

"""Umfuse: the three networks in their order, on images of any size.

Search finds the global transform between the cameras, CPSTN makes the visible image look infrared,
MRRN refines the transform by a dense displacement, the original infrared image is resampled once
through the composed map, DIFN fuses it with the visible image. A `Matcher` in the place of MRRN
compares the infrared image with the visible one itself, and CPSTN need not run.

There is one way through: `Umfuse.forward`, by the steps `Umfuse.align` and `Umfuse.fuse`. What
differs is who gives the transform: the caller, or the search in `Umfuse.infer` and `umfuse.fuse`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from umfuse import borders, devices, fusing, geometry, resampling, search
from umfuse.borders import Box
from umfuse.config import UmfuseConfig
from umfuse.filters import luma
from umfuse.networks import Cpstn, Difn, Matcher, Mrrn, MrrnConfig, MrrnOutput
from umfuse.networks.matcher import Encoded
from umfuse.pretrained import Pretrained
from umfuse.resampling import Places

logger = logging.getLogger(__name__)

ENLARGE = 2.0  # how much smaller images are enlarged for registration, at most
FIT_STRIDE = 4  # working pixels from one point to the next of a homography's fit
DOUBTFUL = 0.3  # confidence below which an alignment is not used, unless the caller says otherwise
GAIN = 1e-3  # similarity that the dense stage must add to be kept; less is noise

_symbols: Any = torch  # its functions on sizes that are symbols carry no annotations

Precision = Literal["auto", "bfloat16", "float32"]


class UmfuseOutput(NamedTuple):
    """What `Umfuse.forward` returns; shapes on the visible grid."""

    fused: Tensor
    """``(B, 1, H, W)`` luma in [0, 1]."""
    infrared: Tensor
    """``(B, 1, H, W)``, registered."""
    coordinates: Tensor
    """``(B, 2, H, W)``: the (x, y) infrared pixel that each visible pixel looks at."""
    valid_mask: Tensor
    """``(B, 1, H, W)`` bool, where infrared data exists."""
    transform: Tensor
    """``(B, 3, 3)`` float64 on the CPU, the global part: visible pixel to infrared pixel."""
    pseudo_infrared: Tensor | None
    """``(B, 1, h, w)`` in [0, 1] on the working grid, what CPSTN renders; None without it."""
    confidence: Tensor | None
    """``(B,)`` in [0, 1], of the search; None where the transforms were given."""


class Alignment(NamedTuple):
    """What `Umfuse.align` finds about a batch of pairs."""

    transform: Tensor
    """``(B, 3, 3)`` float64 on the CPU, the global part: visible pixel to infrared pixel."""
    field: Tensor
    """``(B, 2, h, w)``, the displacement before the transform, in pixels of the working grid."""
    dense: Tensor
    """``(B,)`` bool: whether the dense stage explained the pair better than the transform given."""
    pseudo_infrared: Tensor | None
    """``(B, 1, h, w)``, what CPSTN renders on the working grid; None where that is not used."""

    def coordinates(self, size: tuple[int, int]) -> Tensor:
        """Returns the infrared pixels that visible ones look at.

        Args:
            size: Height and width of the visible image.

        Returns:
            ``(B, 2, *size)``.
        """
        seen = geometry.to_coordinates(geometry.resize_field(self.field, size))
        return geometry.project(self.transform, seen)


class Umfuse(Pretrained):
    """Aligns and fuses infrared and visible images that are not registered.

    `forward` is for batches, training and export, `infer` for batches whose transforms nobody
    knows; `umfuse.fuse` is for images of any kind. Images are float32 in [0, 1] on the device of
    the model.

    Args:
        config: Sizes; None means the paper's.
        cpstn: Whether to have a CPSTN; only a model that registers to the visible image itself can
            do without.

    Attributes:
        cpstn: None in a model without it.
        precision: ``"bfloat16"`` runs the convolutions of `infer` and `umfuse.fuse` in bfloat16,
            ``"float32"`` does not, ``"auto"`` does where the device has the instructions and the
            visible image no more than 8 bits. Fields and coordinates are float32 always.
    """

    def __init__(self, config: UmfuseConfig | None = None, *, cpstn: bool = True) -> None:
        super().__init__(config, cpstn=cpstn)
        config = self.config
        self.cpstn = Cpstn(config.cpstn) if cpstn else None
        sizes = config.mrrn
        self.mrrn = Mrrn(sizes) if isinstance(sizes, MrrnConfig) else Matcher(sizes)
        self.difn = Difn(config.difn)
        # Its many narrow convolutions take a third less time so on a processor.
        self.difn.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._precision: Precision = "auto"

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.parameters()).device

    @property
    def precision(self) -> Precision:
        """In what the convolutions of inference run; see the class."""
        return self._precision

    @precision.setter
    def precision(self, value: Precision) -> None:
        if value not in get_args(Precision):
            choices = ", ".join(get_args(Precision))
            raise ValueError(f"precision must be one of {choices}, got {value!r}")
        self._precision = value

    @override
    def forward(
        self, infrared: Tensor, visible: Tensor, transform: Tensor | None = None
    ) -> UmfuseOutput:
        """Registers and fuses a batch from known transforms; differentiable, exportable.

        Where a model in training mode is differentiated, the dense stage is taken as it is;
        otherwise it is kept only where it explains a pair better than the transform alone.

        Args:
            infrared: ``(B, 1, h, w)`` in [0, 1].
            visible: ``(B, 1, H, W)`` or ``(B, 3, H, W)`` in [0, 1].
            transform: ``(3, 3)`` or ``(B, 3, 3)``, visible pixel to infrared pixel, as
                `search.find_transform` finds it; None means plain resizing.
        """
        return self._fused(infrared, visible, self.align(infrared, visible, transform))

    @torch.no_grad()
    def infer(
        self,
        infrared: Tensor,
        visible: Tensor,
        min_confidence: float = DOUBTFUL,
        known: search.Known = search.NOTHING,
    ) -> UmfuseOutput:
        """Does for a batch what `umfuse.fuse` does for a pair: search, then `forward`.

        Unlike `forward` it leaves out bars at the edges; a batch with bars goes pair by pair.

        Args:
            infrared: ``(B, 1, h, w)`` in [0, 1].
            visible: ``(B, 1, H, W)`` or ``(B, 3, H, W)`` in [0, 1].
            min_confidence: Pairs below it are only resized, or put where `known` says.
            known: Of the two cameras, such as ``search.Known(fov=3, rotation=90, mirror=True)``.
        """
        barred = any(borders.content(one) for one in (*infrared, *luma(visible)))
        if barred and len(visible) > 1:
            pairs = zip(infrared, visible, strict=True)
            alone = [self.infer(ir[None], vis[None], min_confidence, known) for ir, vis in pairs]
            return UmfuseOutput(*_joined(alone))
        alignment, found = self.register(infrared, visible, known)
        confidence = torch.tensor([one.confidence for one in found])
        doubtful = confidence < min_confidence
        plain = known.transform(
            (visible.shape[-2], visible.shape[-1]), (infrared.shape[-2], infrared.shape[-1])
        )
        alignment = alignment._replace(
            transform=torch.where(doubtful[:, None, None], plain, alignment.transform),
            field=alignment.field * ~doubtful[:, None, None, None].to(visible.device),
        )
        with self.autocast():
            out = self._fused(infrared, visible, alignment, barred=barred)
        return out._replace(confidence=confidence.to(visible.device))

    @torch.no_grad()
    def register(
        self, infrared: Tensor, visible: Tensor, known: search.Known = search.NOTHING
    ) -> tuple[Alignment, list[search.SearchResult]]:
        """Aligns a batch: search for each pair, then `align`.

        Args:
            infrared: ``(B, 1, h, w)`` in [0, 1].
            visible: ``(B, 1, H, W)`` or ``(B, 3, H, W)`` in [0, 1].
            known: Of the two cameras, as in `infer`.
        """
        found = _searched(infrared, luma(visible), known)
        transforms = torch.stack([one.transform for one in found])
        with self.autocast():
            return self.align_content(infrared, visible, transforms), found

    def align_content(self, infrared: Tensor, visible: Tensor, transform: Tensor) -> Alignment:
        """Does what `align` does, without the bars at the edges of infrared images.

        Args:
            infrared: As in `forward`, like the others.
            visible: See there.
            transform: See there.
        """
        boxes = [borders.content(one) for one in infrared]
        if not any(boxes):
            return self.align(infrared, visible, transform)
        found: list[Alignment] = []
        starts = transform.cpu().double().expand(len(visible), 3, 3)
        for ir, vis, start, box in zip(infrared, visible, starts, boxes, strict=True):
            inward = borders.inward(box)
            one = self.align(borders.part(ir, box)[None], vis[None], inward @ start)
            found.append(one._replace(transform=inward.inverse() @ one.transform))
        return Alignment(*_joined(found))

    def align(
        self, infrared: Tensor, visible: Tensor, transform: Tensor | None = None
    ) -> Alignment:
        """Refines transforms by the registration network, on a working grid.

        Args:
            infrared: As in `forward`, like the others.
            visible: See there.
            transform: See there.
        """
        size = (visible.shape[-2], visible.shape[-1])
        if transform is None:
            transform = geometry.resize_transform(size, (infrared.shape[-2], infrared.shape[-1]))
        working = self._working_size(size)
        small = F.interpolate(visible, working, mode="bilinear", antialias=True)
        start = transform.cpu().double() @ geometry.resize_transform(working, size)
        start = start.expand(len(visible), 3, 3)
        pseudo = self._pseudo(small)
        before = geometry.project_grid(start, working, visible.device)
        moved, valid = resampling.resample(infrared, before)
        fixed = self._fixed(small, pseudo)
        first = self._displace(moved, valid, fixed)
        # The homography that fits the field is a better start than the one that was given.
        better = self._fit(geometry.to_coordinates(first), start, infrared)
        grid = geometry.project_grid(better, working, visible.device)
        field = self._displace(*resampling.resample(infrared, grid), fixed)
        dense = torch.ones(len(visible), dtype=torch.bool, device=visible.device)
        if not (self.training and torch.is_grad_enabled()):
            after = geometry.project(better, geometry.to_coordinates(field))
            dense = self._improves((moved, valid), resampling.resample(infrared, after), small)
            field = torch.where(dense[:, None, None, None], field, torch.zeros_like(field))
            better = torch.where(dense.cpu()[:, None, None], better, start)
        return Alignment(better @ geometry.resize_transform(size, working), field, dense, pseudo)

    def fuse(
        self,
        infrared: Tensor,
        visible: Tensor,
        coordinates: Tensor,
        registered: Tensor | None = None,
        missing: Tensor | None = None,
        means: Tensor | None = None,
    ) -> Tensor:
        """Fuses images with registered infrared ones, the visible ones where infrared is missing.

        A constant infrared image is missing everywhere: the visible one comes back unchanged.
        Where no gradient is asked for it goes in tiles, which give what the whole image gives.

        Args:
            infrared: ``(B, 1, h, w)`` in [0, 1].
            visible: ``(B, 1, H, W)`` or ``(B, 3, H, W)`` in [0, 1].
            coordinates: ``(B, 2, H, W)``: the infrared pixel that each visible pixel looks at.
            registered: ``(B, 1, H, W)``, what `resampling.resample` gives of the two, where that is
                at hand.
            missing: ``(B, 1, h, w)`` bool, infrared pixels without data; None if all have.
            means: ``(B, 2, 1, 1)``, how bright both images are as DIFN sees it; None measures it.
                What is held over the frames of a video keeps it from flickering.

        Returns:
            ``(B, 1, H, W)`` luma in [0, 1].
        """
        grey, rest = luma(visible), (registered, missing, means)
        if torch.is_grad_enabled():
            return fusing.whole(self.difn, infrared, grey, coordinates, *rest)
        return fusing.tiled(self.difn, infrared, grey, Places.of(coordinates), *rest)

    def fuse_content(
        self,
        infrared: Tensor,
        visible: Tensor,
        coordinates: Tensor | Places,
        content: Box | None = None,
        missing: Tensor | None = None,
        means: Tensor | None = None,
    ) -> Tensor:
        """Does for one pair what `fuse` does, without bars: there the visible image comes back.

        Args:
            infrared: ``(1, 1, h, w)`` in [0, 1].
            visible: ``(1, 1, H, W)`` or ``(1, 3, H, W)`` in [0, 1].
            coordinates: ``(1, 2, H, W)``: the infrared pixel that each visible pixel looks at; or
                what computes them a part at a time, where no gradient is asked for.
            content: Infrared pixels between bars; None looks for them.
            missing: ``(1, 1, h, w)`` bool, infrared pixels without data; None if all have.
            means: ``(1, 2, 1, 1)``, as in `fuse`.

        Returns:
            ``(1, 1, H, W)`` luma in [0, 1].
        """
        content = content or borders.content(infrared)
        image, grey = borders.part(infrared, content), luma(visible)
        seen = borders.content(grey)
        gone = None if missing is None else borders.part(missing, content)
        places = Places.of(coordinates) if isinstance(coordinates, Tensor) else coordinates
        places = places.between(seen, content)
        inner = borders.part(grey, seen)
        if torch.is_grad_enabled():
            every = places.part(slice(None), slice(None))
            inner = fusing.whole(self.difn, image, inner, every, None, gone, means)
        else:
            inner = fusing.tiled(self.difn, image, inner, places, None, gone, means)
        if seen is None:
            return inner
        fused = grey.clone()
        borders.part(fused, seen).copy_(inner)
        return fused

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

    def displace(
        self, moved: Tensor, valid: Tensor, visible: Tensor, pseudo: Tensor | None = None
    ) -> Tensor:
        """Runs the registration network on the grid of ``visible``.

        Args:
            moved: ``(B, 1, H, W)`` in [0, 1], infrared where a transform puts it.
            valid: ``(B, 1, H, W)`` bool, where that is infrared data.
            visible: ``(B, 1, H, W)`` or ``(B, 3, H, W)`` in [0, 1].
            pseudo: ``(B, 1, H, W)``, the pseudo-infrared image; None takes the visible luma.

        Returns:
            ``(B, 2, H, W)``, the displacement in pixels that remains.
        """
        return self._displace(moved, valid, self._fixed(visible, pseudo))

    def _fixed(self, visible: Tensor, pseudo: Tensor | None) -> Tensor | Encoded:
        """Returns what the registration network makes of the visible side alone."""
        # The edges of the visible image itself: CPSTN keeps them less well than it keeps places.
        grey = luma(visible)
        intensity, sigma = grey if pseudo is None else pseudo, self.config.orientation_sigma
        fixed = registration_input(intensity, grey, sigma, self.mrrn)
        return self.mrrn.encode(fixed) if isinstance(self.mrrn, Matcher) else fixed

    def _displace(self, moved: Tensor, valid: Tensor, fixed: Tensor | Encoded) -> Tensor:
        moving = registration_input(moved, moved, self.config.orientation_sigma, self.mrrn, valid)
        found: MrrnOutput = self.mrrn(fixed, moving)
        return found.displacement

    @contextlib.contextmanager
    def autocast(self, *, deep: bool = False) -> Generator[None]:
        """Runs convolutions in what `precision` says.

        Args:
            deep: The result has more than 8 bits, of which bfloat16 is too coarse for the last.
        """
        kind = self.device.type
        wanted = self.precision == "bfloat16"
        wanted = wanted or (self.precision == "auto" and not deep and devices.has_bf16(kind))
        with torch.autocast(kind, torch.bfloat16, enabled=wanted):
            yield

    def _fused(
        self, infrared: Tensor, visible: Tensor, alignment: Alignment, *, barred: bool = False
    ) -> UmfuseOutput:
        """Resamples and fuses a batch that is aligned; of one pair, if it may have bars."""
        coordinates = alignment.coordinates((visible.shape[-2], visible.shape[-1]))
        box = borders.content(infrared) if barred else None
        registered, valid = resampling.resample(*borders.inner(infrared, coordinates, box))
        if barred:
            fused = self.fuse_content(infrared, visible, coordinates, box)
        else:
            fused = self.fuse(infrared, visible, coordinates, registered)
        return UmfuseOutput(
            fused,
            registered,
            coordinates,
            valid,
            alignment.transform,
            alignment.pseudo_infrared,
            None,
        )

    def _working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the size of the grid that registration runs on, also where sizes are symbols."""
        factor = _symbols.sym_min(ENLARGE, self.config.working_size / _symbols.sym_max(*size))
        height, width = (
            _symbols.sym_max(8, _symbols.sym_int(side * factor + 0.5)) for side in size
        )
        return height, width

    def _pseudo(self, visible: Tensor) -> Tensor | None:
        """Returns what CPSTN renders, if the infrared image is registered to that."""
        return self.render(visible) if self.config.fixed == "pseudo-infrared" else None

    def _fit(self, seen: Tensor, start: Tensor, infrared: Tensor) -> Tensor:
        """Returns the transforms that fit the places seen before a start, where infrared data is.

        Args:
            seen: ``(B, 2, h, w)`` pixels of the working grid.
            start: ``(B, 3, 3)``.
            infrared: Tells the size of the data.
        """
        seen = seen.detach()[..., ::FIT_STRIDE, ::FIT_STRIDE]
        points = FIT_STRIDE * geometry.identity_grid(seen.shape[-2], seen.shape[-1])
        images = geometry.project(start, seen)
        inside = geometry.inside(images, (infrared.shape[-2], infrared.shape[-1]))
        # What lies outside counts for next to nothing, and for something where all does.
        return geometry.fit_homography(points, images, inside + 1e-6)

    def _improves(
        self, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], visible: Tensor
    ) -> Tensor:
        """Says of which pairs (B,) other registered images and masks are more similar."""
        similarity = search.Similarity(luma(visible))
        scores = [similarity(*pair) for pair in (before, after)]
        return scores[1] > scores[0] + GAIN


def _searched(infrared: Tensor, grey: Tensor, known: search.Known) -> list[search.SearchResult]:
    """Searches for each pair; each takes one thread, so several at once on a processor."""
    pairs = (list(infrared), list(grey), [known] * len(grey))
    several = min(len(grey), torch.get_num_threads())
    if several < 2 or grey.device.type != "cpu":
        return list(map(search.find_transform, *pairs))
    with ThreadPoolExecutor(several) as pool:
        return list(pool.map(search.find_transform, *pairs))


def _joined(outputs: Sequence[tuple[Tensor | None, ...]]) -> list[Any]:
    """Returns the tensors of several outputs as those of one batch, None where there are none."""
    return [None if some[0] is None else torch.cat(some) for some in zip(*outputs, strict=True)]


def registration_input(
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

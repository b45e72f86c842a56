"""`register` and `fuse`: from images to images, in the kind and dtype that came."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from umfuse import geometry, images, pipeline
from umfuse.images import ImageLike, Picture, Range
from umfuse.pipeline import Stage, Umfuse

logger = logging.getLogger(__name__)

DOUBTFUL = 0.3  # confidence below which a warning is logged

WeightsLike = str | os.PathLike[str] | Umfuse
Device = str | torch.device
AnyImage = Image.Image | NDArray[Any] | Tensor


@dataclass(frozen=True, eq=False)
class Registration:
    """The alignment of an infrared image with a visible one of ``(H, W)`` pixels.

    Attributes:
        infrared: The infrared image on the visible grid, in the kind, dtype and units of the input
            (a PIL image for a path); where there is no infrared data its border is repeated.
        coordinates: ``(H, W, 2)`` float32, the (x, y) infrared pixel that each visible pixel looks
            at.
        displacement: ``(H, W, 2)`` float32, `coordinates` minus those of plain resizing, in
            infrared pixels.
        transform: ``(3, 3)`` float64, the global part: visible pixel (x, y, 1) to infrared pixel.
        valid: ``(H, W)`` bool, where infrared data exists.
        confidence: In [0, 1]; low means "do not trust this alignment".
        stage: How far it went: ``"resize"`` (no better alignment was found), ``"search"`` (the
            transform is the best explanation), ``"dense"`` (refined by the network).
        infrared_size: Height and width of the infrared image that came in.
    """

    infrared: AnyImage
    coordinates: NDArray[np.float32]
    displacement: NDArray[np.float32]
    transform: NDArray[np.float64]
    valid: NDArray[np.bool_]
    confidence: float
    stage: Stage
    infrared_size: tuple[int, int]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the registered infrared image to a file, completely or not at all.

        Args:
            path: The suffix gives the format; 16-bit images need PNG or TIFF.
        """
        images.save(self.infrared, path)


@dataclass(frozen=True, eq=False)
class Fusion:
    """A fused image.

    Attributes:
        image: On the visible grid, in the kind and dtype of the visible input (a PIL image for a
            path), with the colour of the visible image.
        luma: ``(H, W)`` float32 in [0, 1], its brightness before it was rounded.
        registration: The alignment that was used; None for a pair fused as it came.
    """

    image: AnyImage
    luma: NDArray[np.float32]
    registration: Registration | None

    def save(self, path: str | os.PathLike[str], *, grey16: bool = False) -> None:
        """Writes the fused image to a file, completely or not at all.

        Args:
            path: The suffix gives the format; 16-bit images need PNG or TIFF.
            grey16: Writes the luma as 16-bit grey, whatever the visible image was.
        """
        image = np.rint(self.luma * 65535).astype(np.uint16) if grey16 else self.image
        images.save(image, path)


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    device: Device | None = None,
    cpstn: bool | None = None,
) -> Umfuse:
    """Returns a model, ready for inference.

    Args:
        source: A name of the manifest, a folder, or a Hub repository ``org/name[@revision]``; None
            means the weights embedded in the package, which need no network.
        device: Where to put it; by default CUDA if there is any, else the CPU.
        cpstn: Whether to load CPSTN. None does where registration needs it, which that of the
            embedded weights does not; True does for `Umfuse.render` and for training it.

    Raises:
        WeightsError: If the weights cannot be found, fetched or trusted.
        ValueError: If there is no such device, or ``cpstn`` is False and registration needs it.
    """
    return Umfuse.from_pretrained(source, cpstn=cpstn).to(_device(device))


def register(
    ir: ImageLike,
    vis: ImageLike,
    *,
    range: Range | None = None,
    weights: WeightsLike | None = None,
    device: Device | None = None,
) -> Registration:
    """Aligns an infrared image with a visible one.

    The two may differ in resolution, aspect and field of view. Images are paths, PIL images, arrays
    (H, W) or (H, W, 3), or tensors (H, W), (C, H, W) or (1, C, H, W); 8-bit, 16-bit or float.

    Args:
        ir: Infrared (thermal or near-infrared) image.
        vis: Visible image, grey or colour.
        range: Which infrared values become 0 and 1: ``"dtype"``, ``"minmax"``, ``"percentile"`` or
            ``(low, high)`` in the units of the image. By default 8-bit images and floats are taken
            as they are and 16-bit ones between percentiles; give (low, high) for a video.
        weights: As in `load`, or a model that was loaded before.
        device: As in `load`; a model given as ``weights`` stays where it is.

    Raises:
        TypeError: If an image is of a kind that cannot be read.
        ValueError: If an image cannot be used; the message says why and what to do.
        OSError: If a file cannot be read or the weights cannot be loaded.
    """
    model = _model(weights, device)
    infrared, visible = _read(ir, vis, range)
    return _register(model, infrared, visible)


def fuse(
    ir: ImageLike,
    vis: ImageLike,
    *,
    registration: bool | Registration = True,
    range: Range | None = None,
    weights: WeightsLike | None = None,
    device: Device | None = None,
) -> Fusion:
    """Aligns an infrared image with a visible one and fuses them.

    The result lives on the visible grid and has the visible image's colour. Where the infrared
    camera saw nothing it is the visible image.

    Args:
        ir: Infrared image, as in `register`.
        vis: Visible image, as in `register`.
        registration: True aligns the pair. False takes it as aligned already and only resizes. A
            `Registration` made before, of a pair of the same sizes, is used again: for cameras that
            do not move against each other.
        range: As in `register`.
        weights: As in `load`, or a model that was loaded before.
        device: As in `load`; a model given as ``weights`` stays where it is.

    Raises:
        TypeError: If an image is of a kind that cannot be read.
        ValueError: If an image or the registration cannot be used; the message says why.
        OSError: If a file cannot be read or the weights cannot be loaded.
    """
    model = _model(weights, device)
    infrared, visible = _read(ir, vis, range)
    if registration is True:
        registration = _register(model, infrared, visible)
    if registration is False:
        size = infrared.size
        coordinates = geometry.project_grid(
            geometry.resize_transform(visible.size, size), visible.size
        )
    else:
        _check_sizes(registration, infrared, visible)
        coordinates = torch.from_numpy(registration.coordinates).permute(2, 0, 1)[None]
    coordinates = coordinates.to(model.device)
    moved = pipeline.resample(infrared.luma.to(model.device), coordinates)
    valid = geometry.inside(coordinates, infrared.size)
    fused = model.fuse(moved, visible.luma.to(model.device), valid)
    grey = fused[0, 0].cpu().numpy()
    return Fusion(visible.fused(fused), grey, registration or None)


def _register(model: Umfuse, infrared: Picture, visible: Picture) -> Registration:
    found = model.align(infrared.luma.to(model.device), visible.rgb.to(model.device))
    if found.confidence < DOUBTFUL:
        logger.warning(
            "the alignment is doubtful (confidence %.2f): look at it before you trust it",
            found.confidence,
        )
    coordinates = found.coordinates.to(infrared.values.device)
    plain = geometry.project_grid(
        geometry.resize_transform(visible.size, infrared.size), visible.size
    )
    displacement = coordinates - plain.to(coordinates.device)
    return Registration(
        infrared=infrared.give_back(pipeline.resample(infrared.values, coordinates)),
        coordinates=coordinates[0].permute(1, 2, 0).contiguous().cpu().numpy(),
        displacement=displacement[0].permute(1, 2, 0).contiguous().cpu().numpy(),
        transform=found.transform.cpu().numpy(),
        valid=found.valid[0, 0].cpu().numpy(),
        confidence=found.confidence,
        stage=found.stage,
        infrared_size=infrared.size,
    )


def _read(ir: ImageLike, vis: ImageLike, range: Range | None) -> tuple[Picture, Picture]:
    infrared = images.read(ir, name="infrared", range=range)
    visible = images.read(vis, name="visible")
    for name, picture in (("infrared", infrared), ("visible", visible)):
        if len(picture.values) != 1:
            raise ValueError(
                f"{name}: expected one image, got a batch of {len(picture.values)}; loop over it, "
                "or call the model of umfuse.load() with tensors"
            )
    return infrared, visible


def _check_sizes(registration: Registration, infrared: Picture, visible: Picture) -> None:
    expected = (registration.infrared_size, registration.valid.shape)
    if (infrared.size, visible.size) != expected:
        raise ValueError(
            f"the registration was made for an infrared image of {expected[0]} and a visible one "
            f"of {expected[1]} (height, width), got {infrared.size} and {visible.size}; register "
            "this pair"
        )


def _device(device: Device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"there is no device {device!r} here: {error}") from error
    return found


def _model(weights: WeightsLike | None, device: Device | None) -> Umfuse:
    if isinstance(weights, Umfuse):
        return weights
    source = None if weights is None else os.fspath(weights)
    return _cached(source, _device(device))


@functools.lru_cache(maxsize=1)  # one pipeline a process: a second one would double the memory
def _cached(source: str | None, device: torch.device) -> Umfuse:
    return load(source, device=device)

"""`register` and `fuse`: from images to images, in the kind and dtype that came."""

from __future__ import annotations

import functools
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from umfuse import devices, draw, geometry, images
from umfuse import weights as weights_
from umfuse.images import ImageLike, Picture, Range
from umfuse.pipeline import Precision, Umfuse
from umfuse.registration import AnyImage, Method, Registration

logger = logging.getLogger(__name__)

DOUBTFUL = 0.3  # confidence below which a warning is logged

WeightsLike: TypeAlias = str | os.PathLike[str] | Umfuse
Device: TypeAlias = str | torch.device
RegistrationLike: TypeAlias = Registration | ArrayLike | Tensor | str | os.PathLike[str]


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        height, width = self.luma.shape
        return f"Fusion({width}x{height}, {self.registration or 'fused as it came'})"

    def _repr_png_(self) -> bytes:
        return draw.png(self.image)


def load(
    source: str | os.PathLike[str] | None = None,
    *,
    device: Device | None = None,
    precision: Precision = "auto",
    cpstn: bool | None = None,
) -> Umfuse:
    """Returns a model, ready for inference.

    Args:
        source: A name of the manifest, a folder, or a Hub repository ``org/name[@revision]``; None
            means the weights embedded in the package, which need no network.
        device: Where to put it; by default CUDA if there is any, else the CPU.
        precision: Of its convolutions: ``"bfloat16"``, ``"float32"``, or ``"auto"``: bfloat16 where
            the device has the instructions.
        cpstn: Whether CPSTN is loaded too; by default where registration needs it.

    Raises:
        WeightsError: If the weights cannot be found, fetched or trusted.
        ValueError: If there is no such device or precision.
    """
    found = devices.resolve(device)
    model = Umfuse.from_pretrained(source, cpstn=cpstn)
    model.precision = precision
    return model.to(found)


def register(
    ir: ImageLike,
    vis: ImageLike,
    *,
    ir_range: Range | None = None,
    vis_range: Range | None = None,
    weights: WeightsLike | None = None,
    device: Device | None = None,
) -> Registration:
    """Aligns an infrared image with a visible one.

    The two may differ in resolution, aspect and field of view. Images are paths, PIL images, arrays
    (H, W) or (H, W, 3), or tensors (H, W), (C, H, W) or (1, C, H, W); 8-bit, 16-bit or float.

    Args:
        ir: Infrared (thermal or near-infrared) image.
        vis: Visible image, grey or colour.
        ir_range: Which infrared values become 0 and 1: ``"dtype"``, ``"minmax"``, ``"percentile"``
            or ``(low, high)`` in the units of the image. By default 8-bit images and floats are
            taken as they are and 16-bit ones between percentiles; give (low, high) for a video.
        vis_range: The same for the visible image; by default all values that its type can hold
            ([0, 1] for floats).
        weights: As in `load`, or a model that was loaded before.
        device: As in `load`; not together with a model, which stays where it is.

    Raises:
        TypeError: If an image is of a kind that cannot be read.
        ValueError: If an image or an option cannot be used; the message says why and what to do.
        OSError: If a file cannot be read or the weights cannot be loaded.
    """
    model = _model(weights, device)
    infrared, visible = _read(ir, vis, ir_range, vis_range)
    return _register(model, infrared, visible)


def fuse(
    ir: ImageLike,
    vis: ImageLike,
    *,
    align: bool = True,
    registration: RegistrationLike | None = None,
    ir_range: Range | None = None,
    vis_range: Range | None = None,
    weights: WeightsLike | None = None,
    device: Device | None = None,
) -> Fusion:
    """Aligns an infrared image with a visible one and fuses them.

    The result lives on the visible grid and has the visible image's colour. Where the infrared
    camera saw nothing it is the visible image.

    Args:
        ir: Infrared image, as in `register`.
        vis: Visible image, as in `register`.
        align: False takes the pair as aligned already and only resizes the infrared image.
        registration: An alignment to use in place of a search: a `Registration` of a pair of the
            same sizes, for cameras that do not move against each other; the path of a saved one; or
            a 3x3 transform from visible to infrared pixels.
        ir_range: As in `register`.
        vis_range: As in `register`.
        weights: As in `load`, or a model that was loaded before.
        device: As in `load`; not together with a model, which stays where it is.

    Raises:
        TypeError: If an image is of a kind that cannot be read.
        ValueError: If an image, the registration or an option cannot be used; the message says why.
        OSError: If a file cannot be read or the weights cannot be loaded.
    """
    if not isinstance(align, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"align must be True or False, got {align!r}; see also registration=")
    if registration is not None and not align:
        raise ValueError("a registration to use and align=False exclude each other: leave one out")
    model = _model(weights, device)
    infrared, visible = _read(ir, vis, ir_range, vis_range)
    sizes = (infrared.size, visible.size)
    if registration is not None:
        used = known = _known(registration, *sizes)
    elif align:
        used = known = _register(model, infrared, visible)
    else:
        known = None
        used = Registration.from_transform(geometry.resize_transform(*reversed(sizes)), *sizes)
    with torch.no_grad(), model.autocast():
        fused = model.fuse(
            infrared.luma.to(model.device),
            visible.luma.to(model.device),
            used.tensor(model.device),
        )
    return Fusion(visible.fused(fused), fused[0, 0].cpu().numpy(), known)


def _register(model: Umfuse, infrared: Picture, visible: Picture) -> Registration:
    alignment, (found,) = model.register(
        infrared.luma.to(model.device), visible.rgb.to(model.device)
    )
    plain = geometry.resize_transform(visible.size, infrared.size)
    method: Method = "resize" if torch.equal(found.transform, plain) else "search"
    if bool(alignment.dense):
        method = "dense"
    if found.confidence < DOUBTFUL:
        logger.warning(
            "the alignment is doubtful (confidence %.2f): look at it before you trust it",
            found.confidence,
        )
    size = (alignment.field.shape[-2], alignment.field.shape[-1])
    scale = torch.tensor([visible.size[1] / size[1], visible.size[0] / size[0]])
    field = alignment.field[0].movedim(0, -1).cpu() * scale
    return Registration(
        transform=alignment.transform[0].numpy(),
        field=field.contiguous().numpy(),
        infrared_size=infrared.size,
        visible_size=visible.size,
        method=method,
        confidence=found.confidence,
        log_likelihood=found.log_likelihood,
        runner_up=found.runner_up,
        correlation=found.correlation,
        _picture=infrared,
    )


def _read(
    ir: ImageLike, vis: ImageLike, ir_range: Range | None, vis_range: Range | None
) -> tuple[Picture, Picture]:
    infrared = images.read(ir, name="infrared", range=ir_range, option="ir_range")
    visible = images.read(vis, name="visible", range=vis_range or "dtype", option="vis_range")
    for name, picture in (("infrared", infrared), ("visible", visible)):
        if len(picture.values) != 1:
            raise ValueError(
                f"{name}: expected one image, got a batch of {len(picture.values)}; loop over it, "
                "or call infer of the model of umfuse.load() with tensors"
            )
    return infrared, visible


def _known(
    registration: RegistrationLike, infrared: tuple[int, int], visible: tuple[int, int]
) -> Registration:
    """Returns a registration that was given in one of its forms, for a pair of these sizes."""
    if isinstance(registration, (str, os.PathLike)):
        registration = Registration.load(registration)
    if not isinstance(registration, Registration):
        try:
            return Registration.from_transform(registration, infrared, visible)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "registration must be a Registration, the path of a saved one, or a 3x3 transform "
                f"from visible to infrared pixels: {error}"
            ) from error
    expected = (registration.infrared_size, registration.visible_size)
    if (infrared, visible) != expected:
        raise ValueError(
            f"the registration was made for an infrared image of {expected[0]} and a visible one "
            f"of {expected[1]} (height, width), got {infrared} and {visible}; register this pair"
        )
    return registration


def _model(weights: WeightsLike | None, device: Device | None) -> Umfuse:
    if isinstance(weights, Umfuse):
        if device is not None:
            raise ValueError("device is for weights that are loaded here: move the model instead")
        return weights
    if weights is None:
        return _cached(None, devices.resolve(device), ())
    # What lies in a folder may have been trained on since it was loaded.
    folder = weights_.locate(weights) if Path(weights).is_dir() else None
    stamps = [file.stat() for file in sorted(folder.iterdir())] if folder else []
    state = tuple((stamp.st_ino, stamp.st_mtime_ns, stamp.st_size) for stamp in stamps)
    return _cached(folder or weights, devices.resolve(device), state)


@functools.lru_cache(maxsize=1)  # one pipeline a process: a second one would double the memory
def _cached(
    source: str | os.PathLike[str] | None,
    device: torch.device,
    state: tuple[tuple[int, int, int], ...],
) -> Umfuse:
    del state
    return load(source, device=device)

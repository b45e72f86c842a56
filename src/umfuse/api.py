"""`register` and `fuse`: from images to images, in the kind and dtype that came."""

from __future__ import annotations

import functools
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from umfuse import devices, draw, images, registering, sources
from umfuse import weights as weights_
from umfuse.images import AnyImage, Band, Channels, ImageLike, Picture, Range
from umfuse.matching import PointMatcher
from umfuse.picture import Form
from umfuse.pipeline import DOUBTFUL, Precision, Umfuse
from umfuse.registration import Registration, RegistrationError, places
from umfuse.search import Known

logger = logging.getLogger(__name__)


WeightsLike: TypeAlias = str | os.PathLike[str] | Umfuse
Device: TypeAlias = str | torch.device
OnFailure: TypeAlias = Literal["warn", "raise", "visible", "return"]
RegistrationLike: TypeAlias = Registration | ArrayLike | Tensor | str | os.PathLike[str]


@dataclass(frozen=True, eq=False, repr=False)
class Fusion:
    """A fused image.

    Attributes:
        image: On the visible grid, in the kind and dtype of the visible input (a PIL image for a
            path), with the colour and the opacity of the visible image.
        luma: ``(H, W)`` float32 in [0, 1], its brightness before it was rounded.
        registration: The alignment that was used; None for a pair fused as it came.
    """

    image: AnyImage
    luma: NDArray[np.float32]
    registration: Registration | None
    _form: Form | None = None

    def save(self, path: str | os.PathLike[str], *, grey16: bool = False) -> None:
        """Writes the fused image to a file, completely or not at all.

        ICC profile, time and place of the visible image's file go with it, where the format has
        room for them.

        Args:
            path: The suffix gives the format; 16-bit images need PNG or TIFF.
            grey16: Writes the luma as 16-bit grey, whatever the visible image was. Of an 8-bit one
                the last bits are rounding, unless the model was loaded with
                ``precision="float32"``.
        """
        image = np.rint(self.luma * 65535).astype(np.uint16) if grey16 else self.image
        if self._form is None:
            images.save(image, path)
        else:
            self._form.save(image, path)

    def __repr__(self) -> str:
        height, width = self.luma.shape
        return f"Fusion({width}x{height}, {self.registration or 'fused as it came'})"

    def _repr_png_(self) -> bytes:
        return draw.png(self.image if self._form is None else self._form.shown(self.image))


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
            the device has the instructions and the visible image no more than 8 bits.
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
    vis: ImageLike | None = None,
    *,
    matcher: PointMatcher | None = None,
    initial: RegistrationLike | None = None,
    fov: float | tuple[float, float] | None = None,
    rotation: float | tuple[float, float] | None = None,
    mirror: bool | None = None,
    on_failure: OnFailure = "warn",
    min_confidence: float = DOUBTFUL,
    ir_range: Range | None = None,
    vis_range: Range | None = None,
    nodata: float | None = None,
    band: int | None = None,
    vis_band: Band | None = None,
    channels: Channels = "rgb",
    weights: WeightsLike | None = None,
    device: Device | None = None,
) -> Registration:
    """Aligns an infrared image with a visible one.

    The two may differ in resolution, aspect and field of view. Images are paths, PIL images, arrays
    (H, W) or (H, W, 3), or tensors (H, W), (C, H, W) or (1, C, H, W); 8-bit, 16-bit or float.

    Args:
        ir: Infrared (thermal or near-infrared) image.
        vis: Visible image, grey or colour. None if `ir` is the path of a FLIR radiometric JPEG with
            a photo inside: its temperatures in degrees Celsius are aligned with the photo, from
            where the camera places them (`initial`).
        matcher: Finds points in the place of the search: a callable that takes the luma of the
            infrared image (h, w) and of the visible one (H, W), float32 arrays in [0, 1], and
            returns (x, y) infrared pixels (N, 2), visible pixels (N, 2) and weights (N,), or None
            for weights, or only the points. Wrong ones may be among them.
        initial: What is roughly right, refined in the place of a search: a `Registration`, the path
            of a saved one, or a 3x3 transform from visible to infrared pixels.
        fov: Field of view of the visible camera over that of the infrared one, where you know it:
            3 if the visible image shows three times the width and height that the infrared one
            does. A number is taken to be right within 15 percent; (low, high) says it yourself.
        rotation: Degrees by which the infrared image is turned clockwise against the visible one,
            where you know it: 90 if the top of the scene is on its right. A number is taken to be
            right within 5 degrees; (low, high) says it yourself, at most 90 degrees apart.
        mirror: True if the infrared image has left and right exchanged. Its rotation is then the
            one that it has after they are exchanged back.
        on_failure: What is done where the confidence is below `min_confidence`: ``"warn"`` logs it,
            ``"raise"`` raises, ``"return"`` says nothing. What was found is not used then: the
            answer is plain resizing, or `initial`, or no more than `fov`, `rotation` and `mirror`
            say, with the confidence of what was found.
        min_confidence: In [0, 1]; 0 uses whatever is found.
        ir_range: Which infrared values become 0 and 1: ``"dtype"``, ``"minmax"``, ``"percentile"``
            or ``(low, high)`` in the units of the image. By default 8-bit images and floats are
            taken as they are and 16-bit ones between percentiles; give (low, high) for a video.
        vis_range: The same for the visible image; by default all values that its type can hold
            ([0, 1] for floats).
        nodata: The value of infrared pixels that are no data, such as 0 or -9999. NaN, masked
            pixels and the value in the TIFF tag GDAL_NODATA are no data in either image.
        band: Which channel of the infrared image is used, or which page of a file of several pages,
            counted from 0. What is given back is grey then.
        vis_band: The same of the visible image; three of them, (red, green, blue), give colour.
        channels: ``"bgr"`` for colour arrays and tensors as OpenCV has them, which come back so.
        weights: As in `load`, or a model that was loaded before.
        device: As in `load`; not together with a model, which stays where it is.

    Raises:
        TypeError: If an image is of a kind that cannot be read.
        RegistrationError: If the confidence is too low and `on_failure` is ``"raise"``; a
            ValueError.
        ValueError: If an image or an option cannot be used; the message says why and what to do.
        OSError: If a file cannot be read or the weights cannot be loaded.
    """
    known = Known(fov, rotation, mirror)
    _check_options(on_failure, min_confidence, matcher, initial, known, ("warn", "raise", "return"))
    model = _model(weights, device)
    infrared, visible, placing = sources.read(
        ir,
        vis,
        ir_range=ir_range,
        vis_range=vis_range,
        nodata=nodata,
        band=band,
        vis_band=vis_band,
        channels=channels,
    )
    if initial is None and matcher is None and not known:
        initial = placing
    found, guess = _register(model, infrared, visible, matcher, initial, known)
    return _trusted(found, guess, known, on_failure, min_confidence, (ir, vis))


def fuse(
    ir: ImageLike,
    vis: ImageLike | None = None,
    *,
    align: bool = True,
    registration: RegistrationLike | None = None,
    matcher: PointMatcher | None = None,
    initial: RegistrationLike | None = None,
    fov: float | tuple[float, float] | None = None,
    rotation: float | tuple[float, float] | None = None,
    mirror: bool | None = None,
    on_failure: OnFailure = "warn",
    min_confidence: float = DOUBTFUL,
    ir_range: Range | None = None,
    vis_range: Range | None = None,
    nodata: float | None = None,
    band: int | None = None,
    vis_band: Band | None = None,
    channels: Channels = "rgb",
    weights: WeightsLike | None = None,
    device: Device | None = None,
) -> Fusion:
    """Aligns an infrared image with a visible one and fuses them.

    The result lives on the visible grid and has the visible image's colour. Where the infrared
    camera saw nothing, or its pixels are no data, it is the visible image; where the visible image
    has no data it has none.

    Args:
        ir: Infrared image, as in `register`.
        vis: Visible image, as in `register`.
        align: False takes the pair as aligned already and only resizes the infrared image, or
            leaves it where a camera that takes both has placed it.
        registration: An alignment to use in place of a search: a `Registration` of a pair of the
            same sizes, for cameras that do not move against each other; the path of a saved one; or
            a 3x3 transform from visible to infrared pixels. It is used whatever its confidence.
        matcher: As in `register`.
        initial: As in `register`.
        fov: As in `register`.
        rotation: As in `register`.
        mirror: As in `register`.
        on_failure: As in `register`; ``"visible"`` gives the visible image, unchanged.
        min_confidence: As in `register`.
        ir_range: As in `register`.
        vis_range: As in `register`.
        nodata: As in `register`; the visible image is shown there.
        band: As in `register`.
        vis_band: As in `register`.
        channels: As in `register`.
        weights: As in `load`, or a model that was loaded before.
        device: As in `load`; not together with a model, which stays where it is.

    Raises:
        TypeError: If an image is of a kind that cannot be read.
        RegistrationError: As in `register`.
        ValueError: If an image, the registration or an option cannot be used; the message says why.
        OSError: If a file cannot be read or the weights cannot be loaded.
    """
    if not isinstance(align, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"align must be True or False, got {align!r}; see also registration=")
    if registration is not None and not align:
        raise ValueError("a registration to use and align=False exclude each other: leave one out")
    known = Known(fov, rotation, mirror)
    _check_options(on_failure, min_confidence, matcher, initial, known, get_args(OnFailure))
    if (matcher is not None or initial is not None or known) and (
        registration is not None or not align
    ):
        raise ValueError(
            "matcher, initial, fov, rotation and mirror are for pairs that are aligned here: "
            "leave them out"
        )
    model = _model(weights, device)
    infrared, visible, placing = sources.read(
        ir,
        vis,
        ir_range=ir_range,
        vis_range=vis_range,
        nodata=nodata,
        band=band,
        vis_band=vis_band,
        channels=channels,
    )
    if initial is None and matcher is None and not known:
        initial = placing
    sizes = (infrared.size, visible.size)
    if registration is not None:
        used = alignment = as_registration(registration, *sizes)
    elif align:
        found, guess = _register(model, infrared, visible, matcher, initial, known)
        used = alignment = _trusted(found, guess, known, on_failure, min_confidence, (ir, vis))
        if on_failure == "visible" and found.confidence < min_confidence:
            luma = visible.luma[0, 0].cpu().numpy()
            image = visible.give_back(visible.planes, visible.missing)
            return Fusion(image, luma, alignment, visible.form)
    else:
        alignment = None
        used = registering.resized(*sizes) if placing is None else as_registration(placing, *sizes)
    with torch.no_grad(), model.autocast(deep=visible.form.deep):
        fused = model.fuse_content(
            infrared.luma.to(model.device),
            visible.luma.to(model.device),
            places(used, model.device),
            used.content,
            None if infrared.missing is None else infrared.missing.to(model.device),
        )
    return Fusion(visible.fused(fused), fused[0, 0].cpu().numpy(), alignment, visible.form)


def _register(
    model: Umfuse,
    infrared: Picture,
    visible: Picture,
    matcher: PointMatcher | None,
    initial: RegistrationLike | None,
    known: Known,
) -> tuple[Registration, Registration | None]:
    """Returns what is found, and the guess that it began with."""
    guess = None
    if initial is not None:
        guess = as_registration(initial, infrared.size, visible.size, "initial")
        found = registering.from_guess(model, infrared, visible, guess)
    elif matcher is not None:
        found = registering.from_points(model, infrared, visible, matcher)
    else:
        guess = registering.resized(infrared.size, visible.size, known) if known else None
        found = registering.from_nothing(model, infrared, visible, known)
    if found.content is not None:
        share = 1 - math.prod(found.content.size) / math.prod(infrared.size)
        logger.info("infrared: %.3g %% of the pixels are bars", 100 * share)
    return found, guess


def _trusted(
    found: Registration,
    guess: Registration | None,
    known: Known,
    on_failure: OnFailure,
    min_confidence: float,
    given: tuple[ImageLike | None, ...],
) -> Registration:
    """Returns a registration, or what stands in its place where its confidence is too low."""
    if not found.confidence < min_confidence:
        return found
    answer = registering.unbent(found, guess)
    paths = [os.fspath(one) for one in given if isinstance(one, (str, os.PathLike))]
    message = (
        f"{' + '.join(paths)}{': ' if paths else ''}the alignment is doubtful (confidence "
        f"{found.confidence:.2f}, below {min_confidence:.2f})"
    )
    if on_failure == "raise":
        raise RegistrationError(message, answer)
    if on_failure == "warn":
        instead = (
            "the infrared image is only resized" if guess is None else "the initial placing is kept"
        )
        if known:
            instead = "what was said of the cameras is kept"
        logger.warning("%s: %s; look at it before you trust it", message, instead)
    return answer


def _check_options(
    on_failure: str,
    min_confidence: float,
    matcher: object,
    initial: object,
    known: Known,
    allowed: tuple[str, ...],
) -> None:
    if on_failure not in allowed:
        hint = "; only fuse has a visible image to give" if on_failure == "visible" else ""
        raise ValueError(
            f"on_failure must be one of {', '.join(allowed)}, got {on_failure!r}{hint}"
        )
    if not 0 <= min_confidence <= 1:
        raise ValueError(f"min_confidence must lie in [0, 1], got {min_confidence}")
    if matcher is not None and initial is not None:
        raise ValueError("a matcher and an initial registration exclude each other: leave one out")
    if known and (matcher is not None or initial is not None):
        raise ValueError(
            "fov, rotation and mirror are for the search, which a matcher or an initial "
            "registration replaces: leave one out"
        )
    if matcher is not None and not callable(matcher):
        raise TypeError(
            f"matcher must be a callable that returns points, got {type(matcher).__name__}"
        )


def as_registration(
    registration: RegistrationLike,
    infrared: tuple[int, int],
    visible: tuple[int, int],
    name: str = "registration",
) -> Registration:
    """Returns a registration that was given in one of its forms, for a pair of these sizes."""
    if isinstance(registration, (str, os.PathLike)):
        registration = Registration.load(registration)
    if not isinstance(registration, Registration):
        try:
            return Registration.from_transform(registration, infrared, visible)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name} must be a Registration, the path of a saved one, or a 3x3 transform "
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

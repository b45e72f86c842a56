"""A picture inside the library, and how it is given back as it came."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from umfuse import dtypes, filters, noise, tiles
from umfuse.dtypes import DType
from umfuse.files import NOTHING, Array, Metadata, declare_nodata, save

AnyImage: TypeAlias = Image.Image | Array | Tensor
Channels: TypeAlias = Literal["rgb", "bgr"]
Planes = TypeVar("Planes", Array, Tensor)


@dataclass(frozen=True)
class Form:
    """How a picture came in, which is how it is given back.

    Attributes:
        kind: The container. Files are given back as PIL images.
        dtype: The NumPy dtype (byte order included) or the torch dtype of the pixels.
        layout: The order of the axes.
        device: Where the tensor was; the CPU for every other kind.
        blank: What stands in pixels without data.
        masked: Whether it was a masked array.
        channels: The order of its colours.
        said: What its file says beside the pixels.
    """

    kind: Literal["pil", "array", "tensor"]
    dtype: DType
    layout: Literal["HW", "HWC", "CHW", "BCHW"]
    device: torch.device
    blank: float = math.nan
    masked: bool = False
    channels: Channels = "rgb"
    said: Metadata = NOTHING

    @property
    def deep(self) -> bool:
        """Whether a number has more than 8 bits."""
        return self.dtype.itemsize > 1

    def save(self, image: AnyImage, path: str | os.PathLike[str]) -> None:
        """Writes an image of this form, or a grey array, as `umfuse.files.save` does."""
        save(self.shown(image), path, self.said)

    def shown(self, image: AnyImage) -> AnyImage:
        """Returns an image of this form, or a grey array, with its colours in the order of RGB."""
        if self.channels == "rgb":
            return image
        if isinstance(image, Tensor):
            return _exchanged(image) if image.ndim > 2 else image
        if isinstance(image, np.ndarray) and image.ndim > 2:
            return np.moveaxis(_exchanged(np.moveaxis(image, -1, -3)), -3, -1)
        return image


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with all that is needed to give it back as it came.

    Attributes:
        values: Pixels in the units of the input, float32 (B, C, H, W), C = 1 or 3. Integers above
            2**24 and float64 are rounded to float32 precision. Where data is missing they continue
            smoothly what is around.
        low: Value that becomes 0, float32 (B, 1, 1, 1), in the units of the input.
        span: Distance from `low` to the value that becomes 1, float32 (B, 1, 1, 1), always
            positive.
        form: Kind, dtype, layout and device of the input.
        missing: Which pixels have no data, bool (B, 1, H, W); None if all have.
        alpha: Opacity in the units of the input, float32 (B, 1, H, W); None without that channel.
    """

    values: Tensor
    low: Tensor
    span: Tensor
    form: Form
    missing: Tensor | None = None
    alpha: Tensor | None = None

    @property
    def channels(self) -> int:
        """Number of channels of `values`, 1 or 3."""
        return int(self.values.shape[1])

    @property
    def planes(self) -> Tensor:
        """All that is given back: `values`, and `alpha` after them, float32 (B, 1 to 4, H, W)."""
        return self._with_alpha(self.values)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.values.shape[2]), int(self.values.shape[3])

    @cached_property
    def luma(self) -> Tensor:
        """Brightness in [0, 1] within the range, float32 (B, 1, H, W); BT.601 for colour."""
        luma = torch.empty_like(self.values[:, :1])
        for rows in tiles.bands(self.size):
            luma[:, :, rows] = filters.luma(self._unit(rows))
        return luma

    @property
    def chroma(self) -> Tensor | None:
        """BT.601 (Cb, Cr) in [-0.5, 0.5], float32 (B, 2, H, W); None for a grey picture."""
        if self.channels == 1:
            return None
        unit, luma = self._unit(), self.luma
        return torch.cat([(unit[:, 2:] - luma) / 1.772, (unit[:, :1] - luma) / 1.402], dim=1)

    @property
    def rgb(self) -> Tensor:
        """Colour in [0, 1] within the range, float32 (B, 3, H, W); grey is replicated."""
        return self._unit().expand(-1, 3, -1, -1)

    def give_back(self, planes: Tensor, missing: Tensor | None = None) -> AnyImage:
        """Pixels in the units of the input -> the kind, dtype, layout and device that came in.

        Integer types are rounded and clipped, they never wrap around. The size may differ from this
        picture's: a resampled infrared image lives on the visible grid.

        Args:
            planes: Pixels, (B, C, H, W) with the channels of this picture's `planes`.
            missing: Which of them are to be without data, as those of this picture are: NaN, masked
                or of the value that said so; bool (B, 1, H, W), None for no pixel.

        Returns:
            A PIL image (also when a path came in), an array or a tensor.

        Raises:
            ValueError: If the channels differ, or several images are to go back into a layout for
                one.
        """
        count = self.channels + (self.alpha is not None)
        if planes.ndim != 4 or planes.shape[1] != count:
            raise ValueError(
                f"expected planes of shape (B, {count}, H, W), got {tuple(planes.shape)}; "
                "give back as many channels as the picture has"
            )
        if self.form.layout != "BCHW" and planes.shape[0] != 1:
            raise ValueError(
                f"expected one image, because one came in, got a batch of {planes.shape[0]}; "
                "give the images back one by one"
            )
        return self._given(lambda rows: planes[:, :, rows].detach(), planes, missing)

    def fused(self, luma: Tensor) -> AnyImage:
        """A new luma with this picture's own colour -> the kind and dtype that came in.

        The range is undone: 0 becomes `low` and 1 becomes `low + span` in the units of the input.
        Colours that would leave the gamut fade until they fit: luma and hue stay. Noise of colours,
        as at night, goes where the luma changes (`umfuse.noise`). Pixels of this picture without
        data stay without, and its opacity stays.

        Args:
            luma: Brightness in [0, 1] on the grid of this picture, (B, 1, H, W).

        Returns:
            A PIL image (also when a path came in), an array or a tensor.

        Raises:
            ValueError: If the shape is not that of this picture's luma.
        """
        if luma.shape != self.luma.shape:
            raise ValueError(
                f"expected a luma of shape {tuple(self.luma.shape)}, got {tuple(luma.shape)}; "
                "resample it to the grid of this picture first"
            )

        def given(rows: slice) -> Tensor:
            return luma[:, :, rows].detach().to(self.values.device, torch.float32).clamp(0, 1)

        def band(rows: slice) -> Tensor:
            unit = given(rows)
            if self.channels > 1:
                colour = self._colour(rows, given)
                room = torch.where(colour > 0, 1 - unit, unit)
                share = (room / colour.abs().clamp_min(1e-9)).amin(1, keepdim=True).clamp_max(1)
                unit = unit + share * colour
            values = unit.clamp(0, 1) * self.span + self.low
            if self.alpha is None:
                return values
            return torch.cat([values, self.alpha[:, :, rows]], dim=1)

        return self._given(band, luma, self.missing)

    def _colour(self, rows: slice, luma: Callable[[slice], Tensor]) -> Tensor:
        """Returns how some rows of RGB differ from their luma, without noise under another luma."""
        if not self._noise:
            return self._unit(rows) - self.luma[:, :, rows]
        first = max(0, rows.start - 2 * noise.COLOUR_RADIUS)
        more = slice(first, min(self.size[0], rows.stop + 2 * noise.COLOUR_RADIUS))
        own = self.luma[:, :, more]
        colour = self._unit(more) - own
        colour = noise.without_noise_of_colours(colour, self._noise, luma(more) - own)
        return colour[:, :, rows.start - first : rows.stop - first]

    @cached_property
    def _noise(self) -> float:
        """Standard deviation of the noise of the colours, as a part of the range."""
        unit = self._unit(*noise.middle(self.size))
        return noise.of_colours(unit - filters.luma(unit))

    def _unit(self, rows: slice = slice(None), columns: slice = slice(None)) -> Tensor:
        """Returns a part, or all, with the ends of the range as 0 and 1."""
        return (self.values[:, :, rows, columns] - self.low).div_(self.span).clamp_(0, 1)

    def _given(
        self, band: Callable[[slice], Tensor], like: Tensor, missing: Tensor | None
    ) -> AnyImage:
        """Returns pixels as they came, of which no more than a band is there in float32.

        Args:
            band: Returns the rows of a band, in the units of the input.
            like: Tells how many images there are and of what size.
            missing: As in `give_back`.
        """
        form, size = self.form, (like.shape[-2], like.shape[-1])
        lowest, highest = dtypes.limits(form.dtype)
        count = self.channels + (self.alpha is not None)
        target = _Target(form, (len(like), count, *size), masked=missing is not None)
        for rows in tiles.bands(size):
            planes = band(rows).float()
            if dtypes.is_integer(form.dtype):
                planes = planes.round()
            lost = None
            if missing is not None:
                lost = torch.zeros_like(planes, dtype=torch.bool)
                lost[:, : self.channels] = missing[:, :, rows]
            target.put(rows, planes.clamp(lowest, highest), lost)
        return target.image()

    def _with_alpha(self, values: Tensor) -> Tensor:
        return values if self.alpha is None else torch.cat([values, self.alpha], dim=1)


def _exchanged(planes: Planes) -> Planes:
    """Returns planes (..., C, H, W) with red and blue exchanged, if these are among them."""
    if planes.shape[-3] < 3:
        return planes
    return planes[..., [2, 1, 0, *range(3, planes.shape[-3])], :, :]


class _Target:
    """Pixels of another form, band by band, and the image that they become.

    Args:
        form: Which one.
        shape: (B, C, H, W); alpha is the last channel if there is one.
        masked: Whether some pixels are blank.
    """

    def __init__(self, form: Form, shape: tuple[int, int, int, int], *, masked: bool) -> None:
        self.form = form
        self.pixels: Any  # a tensor, or an array
        self.mask: Any = np.ma.nomask
        if isinstance(form.dtype, torch.dtype):
            self.pixels = torch.empty(shape, dtype=form.dtype, device=form.device)
        else:
            _, channels, *size = shape
            self.pixels = np.empty((*size, channels), form.dtype)
            if masked:
                self.mask = np.zeros(self.pixels.shape, dtype=bool)

    def put(self, rows: slice, planes: Tensor, lost: Tensor | None) -> None:
        """Takes a band.

        Args:
            rows: Its place.
            planes: (B, C, h, W), rounded and clipped, colours in the order of RGB.
            lost: Which numbers are blank, bool (B, C, h, W).
        """
        form = self.form
        if form.channels == "bgr":
            planes, lost = _exchanged(planes), None if lost is None else _exchanged(lost)
        if isinstance(form.dtype, torch.dtype):
            if form.dtype == torch.uint64:  # as the int64 of the same bits
                planes = torch.where(planes < 2.0**63, planes, planes - 2.0**64)
            # There is no direct way from float32 to uint16 on every device.
            planes = planes.to(torch.int64 if dtypes.is_integer(form.dtype) else form.dtype)
            if lost is not None:
                planes = planes.masked_fill(lost, form.blank)
            self.pixels[:, :, rows] = planes.to(form.device, form.dtype)
            return
        self.pixels[rows] = _channels_last(planes)
        if lost is not None:
            self.mask[rows] = gone = _channels_last(lost)
            self.pixels[rows][gone] = form.blank

    def image(self) -> AnyImage:
        """Returns the image whose bands are all there."""
        form, pixels, mask = self.form, self.pixels, self.mask
        if isinstance(pixels, Tensor):
            if form.layout == "BCHW":
                return pixels
            return pixels[0, 0] if form.layout == "HW" else pixels[0]
        if form.layout == "HW":
            pixels = pixels[..., 0]
            mask = mask[..., 0] if mask is not np.ma.nomask else mask
        if form.masked:
            return np.ma.array(pixels, mask=mask, fill_value=form.blank)
        if form.kind == "array":
            return pixels
        image = Image.fromarray(pixels)
        if mask is not np.ma.nomask:
            declare_nodata(image, form.blank)
        form.said.fitting(len(image.getbands())).put(image)
        return image


def _channels_last(planes: Tensor) -> Array:
    """Returns one image (1, C, H, W) as an array (H, W, C)."""
    return planes[0].movedim(0, -1).cpu().numpy()

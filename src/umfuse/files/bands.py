"""Which bands of a stack are looked at: channels of an image, or pages of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np
from PIL import Image
from torch import Tensor

from umfuse.files.arrays import NODATA_NAME, Array, as_array, as_pil

Band: TypeAlias = int | tuple[int, int, int]


def option(name: str) -> str:
    """What the users of `register` and `fuse` call the choice for an image of this name."""
    return "vis_band" if name == "visible" else "band"


def remedy(count: int, name: str) -> str:
    """How to choose among bands, for messages."""
    say = option(name)
    colour = f", or {say}=(red, green, blue)" if name == "visible" else ""
    return f"say which one to use, {say}=0 to {say}={count - 1}{colour}"


def numbers(band: Band, count: int, name: str) -> list[int]:
    """The bands of a choice, one or three.

    Raises:
        TypeError: If the choice is not of integers.
        ValueError: If there are not so many bands, or it names another number of them.
    """
    several = isinstance(band, (tuple, list))
    chosen = list(cast("Sequence[object]", band)) if several else [band]
    if any(isinstance(one, bool) or not isinstance(one, (int, np.integer)) for one in chosen):
        raise TypeError(
            f"{name}: expected {option(name)} to be an integer, or three for colour, got {band!r}"
        )
    found = [int(cast("int", one)) for one in chosen]
    if len(found) not in ((3,) if several else (1,)) or not all(0 <= one < count for one in found):
        raise ValueError(
            f"{name}: there is no {option(name)}={band!r} in a stack of {count} (from 0 on); "
            f"{remedy(count, name)}"
        )
    return found


def of_image(image: Image.Image | Array, band: Band, name: str) -> Image.Image | Array:
    """The channels of an image that a choice names: grey, or colour if it names three.

    Args:
        image: A PIL image, or an array (H, W) or (H, W, C).
        band: One channel, or three; counted from 0.
        name: What to call the image in errors.

    Returns:
        A PIL image if one came, or an array (H, W) or (H, W, 3).

    Raises:
        TypeError: If the choice is not of integers.
        ValueError: If the image has no such channel.
    """
    array = as_array(image)
    planes = array if array.ndim > 2 else array[..., None]
    found = numbers(band, planes.shape[-1], name)
    picked = planes[..., found if len(found) > 1 else found[0]]
    if isinstance(image, Image.Image):
        return as_pil(picked, image.info.get(NODATA_NAME))
    return picked


def of_tensor(tensor: Tensor, band: Band, name: str) -> Tensor:
    """The same of a tensor (H, W), (C, H, W) or (B, C, H, W): (1 or 3, H, W) or with B."""
    planes = tensor if tensor.ndim > 2 else tensor[None]
    return planes[..., numbers(band, planes.shape[-3], name), :, :]


def stacked(pages: list[Image.Image | Array], name: str) -> Image.Image | Array:
    """One image of the pages of a file that a choice names: one as it is, or three as colour.

    Raises:
        ValueError: If three of them are not grey images of one size.
    """
    if len(pages) == 1:
        return pages[0]
    planes = [as_array(page) for page in pages]
    shapes = {plane.shape for plane in planes}
    if len(shapes) > 1 or planes[0].ndim > 2:
        raise ValueError(
            f"{name}: expected {option(name)} to name three grey pages of one size, got pages of "
            f"{sorted(shapes)}; name one page"
        )
    return as_pil(np.ma.stack(planes, -1) if any(map(np.ma.isMA, planes)) else np.stack(planes, -1))

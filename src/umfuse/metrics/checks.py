"""What may be measured, and what is said when something may not."""

from __future__ import annotations

import torch
from torch import Tensor


def images(metric: str, smallest: int = 1, **named: Tensor) -> list[Tensor]:
    """Returns images ``(B, 1, H, W)`` in float64.

    Args:
        metric: Name of the function that measures, for the message.
        smallest: Pixels that each side must have.
        **named: The images by the names of that function's arguments.

    Raises:
        ValueError: If an image is not a float tensor ``(B, 1, H, W)``, images differ in size, a
            side is too small, or a value is not finite or outside [0, 1].
    """
    (first, shape), *_ = ((name, image.shape) for name, image in named.items())
    for name, image in named.items():
        if not image.is_floating_point() or image.dim() != 4 or image.shape[1] != 1:
            raise ValueError(
                f"{metric}: {name} must be a float tensor (B, 1, H, W), got {image.dtype} "
                f"{tuple(image.shape)}; pass the luma of a colour image"
            )
        if image.shape != shape:
            raise ValueError(
                f"{metric}: images must have one size, got {first} {tuple(shape)} and {name} "
                f"{tuple(image.shape)}; register the infrared image on the visible grid"
            )
        if image.shape[0] < 1 or min(image.shape[-2:]) < smallest:
            raise ValueError(
                f"{metric} needs an image with sides of {smallest} pixels or more, got {name} "
                f"{tuple(image.shape)}"
            )
        low, high = (float(value) for value in image.detach().aminmax())
        finite(metric, **{name: torch.tensor((low, high))})
        if low < -1e-4 or high > 1 + 1e-4:
            raise ValueError(
                f"{metric}: {name} must lie in [0, 1], got [{low:.4g}, {high:.4g}]; "
                "divide by the largest value of its type"
            )
    return [image.double() for image in named.values()]


def sources(
    metric: str, smallest: int, fused: Tensor, infrared: Tensor, visible: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the fused image ``(B, 1, H, W)`` and both sources ``(B, 2, H, W)`` in float64.

    Raises:
        ValueError: See `images`.
    """
    fused, infrared, visible = images(
        metric, smallest, fused=fused, infrared=infrared, visible=visible
    )
    return fused, torch.cat((infrared, visible), 1)


def finite(metric: str, **named: Tensor) -> None:
    """Raises `ValueError` if a tensor holds NaN or Inf."""
    for name, value in named.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{metric}: {name} holds NaN or Inf; mask or repair it first")


def interior(metric: str, border: int, size: tuple[int, int]) -> tuple[slice, slice]:
    """Returns the rows and the columns that are left without ``border`` pixels on each side.

    Raises:
        ValueError: If the border is negative or nothing is left.
    """
    height, width = size
    if not 0 <= border < (min(size) + 1) // 2:
        raise ValueError(
            f"{metric}: a border of {border} pixels on each side must be 0 or more and leave "
            f"something of {height}x{width}"
        )
    return slice(border, height - border), slice(border, width - border)

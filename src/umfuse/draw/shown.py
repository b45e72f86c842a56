"""Any kind of image as it is shown: 8-bit RGB, or the PNG of it."""

from __future__ import annotations

import io
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Displayable: TypeAlias = Image.Image | NDArray[Any]

PREVIEW = 1024  # pixels


def png(image: Displayable | Tensor) -> bytes:
    """An image as it is shown, as a PNG of at most `PREVIEW` pixels a side."""
    if isinstance(image, Tensor):
        planes = image.detach()[0] if image.ndim == 4 else image.detach()
        planes = planes.float() if planes.is_floating_point() else planes
        image = (planes if planes.ndim == 2 else planes.movedim(0, -1)).cpu().numpy()
    picture = Image.fromarray(shown(image))
    picture.thumbnail((PREVIEW, PREVIEW))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def shown(image: Displayable) -> NDArray[np.uint8]:
    """Any image as it is shown, uint8 (H, W, 3)."""
    if isinstance(image, Image.Image):
        deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
        image = np.asarray(image if deep or image.mode == "L" else image.convert("RGB"))
    if not isinstance(image, np.ndarray):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"expected a NumPy array or a PIL image, got {type(image).__name__}; "
            "for a tensor pass tensor.movedim(-3, -1).cpu().numpy()"
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim == 3 and image.shape[2] == 4:  # opacity, which paper has none of
        image = image[..., :3]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or image.size == 0:
        raise ValueError(f"expected an image (H, W) or (H, W, 3), got shape {image.shape}")
    if image.dtype == np.bool_:
        image = image * np.uint8(255)
    if image.dtype != np.uint8:
        image = _stretch(image)
    grey = image.ndim == 2
    return np.repeat(image[..., None], 3, axis=2) if grey else np.ascontiguousarray(image)


def _stretch(image: NDArray[Any]) -> NDArray[np.uint8]:
    values = image.astype(np.float64)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(image.shape, dtype=np.uint8)
    low, high = 0.0, 1.0
    if image.dtype.kind != "f" or finite.min() < -1e-3 or finite.max() > 1 + 1e-3:
        low, high = np.percentile(finite, (1, 99)).tolist()
    values = np.nan_to_num((values - low) / max(high - low, 1e-12), nan=0.0, posinf=1.0, neginf=0.0)
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)

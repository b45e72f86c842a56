"""Images of random pixels, for the tests of images and files."""

from __future__ import annotations

import numpy as np
import torch

HEIGHT, WIDTH = 12, 20


def pattern(dtype: object, channels: int | None = None, *, seed: int = 0) -> np.ndarray:
    """Random pixels over the whole range of an integer type, or over [0, 1] for floats."""
    rng = np.random.default_rng(seed)
    shape = (HEIGHT, WIDTH) if channels is None else (HEIGHT, WIDTH, channels)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    info = np.iinfo(dtype)
    # 24 bits at most: beyond, float32 rounds, as the docstring of Picture says.
    low, high = max(info.min, -(2**23)), min(info.max, 2**23)
    return rng.integers(low, high, shape, endpoint=True, dtype=np.int64).astype(dtype)


def as_array(image: object) -> np.ndarray:
    return image.float().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)

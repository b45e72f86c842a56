"""Sampling grids that others publish as the truth of a displacement."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from umfuse import files, geometry

Array: TypeAlias = NDArray[Any]

LARGEST = 1e6  # of a grid, where 1 is the edge of the image


def read_absolute_grid(path: str | os.PathLike[str], *, align_corners: bool = True) -> Tensor:
    """Reads the sampling grid that others publish as truth, as a displacement.

    Such a file holds for every pixel the (x, y) to sample at, in [-1, 1] over the image, as
    `torch.nn.functional.grid_sample` takes it: ``(H, W, 2)`` or ``(2, H, W)``, with or without
    axes of length 1 in front. Files ``.npy`` and ``.npz`` need nothing, MATLAB's ``.mat`` (up to
    version 7.2) scipy.

    Args:
        path: The file; it holds one array of such a shape.
        align_corners: Whether -1 and 1 are the centres of the outermost pixels (as SuperFusion has
            it) or the outer borders of them.

    Returns:
        ``(1, 2, H, W)`` pixels, float32.

    Raises:
        ValueError: If the file is none of these, or its values are not finite or no such grid.
        ImportError: If scipy is needed and missing.
        OSError: If the file cannot be opened.
    """
    path = Path(path)
    found = {name: array for name, array in _arrays(path).items() if _planes(array) is not None}
    if len(found) != 1:
        raise ValueError(
            f"{path}: expected one array (H, W, 2) or (2, H, W), got "
            f"{', '.join(sorted(found)) or 'none'}; save the grid alone"
        )
    grid = torch.from_numpy(np.array(_planes(*found.values()), dtype=np.float64))[None]
    if not bool((grid.abs() < LARGEST).all()):
        raise ValueError(f"{path}: the grid has values that are NaN, Inf or beyond {LARGEST:g}")
    height, width = grid.shape[-2:]
    across = float((grid[:, 0, :, -1] - grid[:, 0, :, 0]).mean())
    down = float((grid[:, 1, -1] - grid[:, 1, 0]).mean())
    if not (0.5 < across < 4 and 0.5 < down < 4):  # 2 where nothing moves
        raise ValueError(
            f"{path}: expected (x, y) over [-1, 1], but x grows by {across:.3g} from left to right "
            f"and y by {down:.3g} from top to bottom; the file may hold pixels, a displacement or "
            "(y, x)"
        )
    size = torch.tensor([width, height]).view(1, 2, 1, 1)
    pixels = (grid + 1) * (size - 1) / 2 if align_corners else ((grid + 1) * size - 1) / 2
    return (pixels - geometry.identity_grid(height, width, dtype=torch.float64)).float()


def _arrays(path: Path) -> dict[str, Array]:
    """Returns all arrays of a file by name."""
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".mat"):
        raise ValueError(f"{path}: expected a grid in .npy, .npz or .mat, got {suffix!r}")
    with path.open("rb") as file:
        if suffix == ".mat":
            return _matlab(file, path)
        try:
            stored = np.load(file)
            if suffix == ".npy":
                return {"grid": stored}
            return {name: np.asarray(value) for name, value in stored.items()}  # may be bytes
        except files.ARRAY_ERRORS as error:
            raise ValueError(f"{path} is damaged or holds no plain array: {error}") from error


def _matlab(file: BinaryIO, path: Path) -> dict[str, Array]:
    try:
        from scipy import io
    except ImportError as error:
        raise ImportError(
            f"{path}: MATLAB's files need scipy; pip install 'umfuse[matlab]', or save the grid as "
            ".npy"
        ) from error
    try:
        stored = cast("dict[str, Any]", io.loadmat(file))
    except (*files.ARRAY_ERRORS, io.matlab.MatReadError) as error:
        raise ValueError(f"{path} is damaged or of another format: {error}") from error
    return {name: np.asarray(value) for name, value in stored.items()}


def _planes(array: Array) -> Array | None:
    """Returns an array as (2, H, W), or None if it has no such shape."""
    while array.ndim > 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or array.dtype.kind not in "fiu":
        return None
    if array.shape[2] == 2:
        array = np.moveaxis(array, 2, 0)
    return array if len(array) == 2 and min(array.shape[1:]) > 1 else None

"""A data set on disk: aligned pairs, misaligned infrared images, and the truth about those.

::

    DATASET/ir/NAME.png             infrared, aligned with vis and of its size: the reference
    DATASET/vis/NAME.png            visible
    DATASET/ir_warp/NAME.png        infrared, deformed, of the size of ir
    DATASET/displacement/NAME.npz   its truth, see `read_displacement`
    DATASET/ir_raw/NAME.png         infrared as the other camera saw it, of any size
    DATASET/homography.json         its truth, see `read_homographies`
    DATASET/vis_hr/NAME.png         vis in another resolution

``ir`` and ``vis`` are there always, the rest where it exists. Images pair by their stem.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from umfuse import files


def read_displacement(path: Path) -> tuple[Tensor, Tensor]:
    """Reads the truth of a deformed image.

    The file holds ``displacement`` (H, W, 2), the (x, y) in pixels of the backward field: sampling
    the deformed image at ``p + displacement[p]`` restores ``ir`` at ``p``; ``valid``, the bits of
    an (H, W) mask of the pixels that count, packed by `numpy.packbits`; and ``shape``, H and W.

    Returns:
        The field ``(1, 2, H, W)`` float32 and the mask ``(1, 1, H, W)`` bool.

    Raises:
        ValueError: If the file is damaged or holds something else.
        OSError: If the file cannot be opened.
    """
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content)) as stored:
            field = torch.from_numpy(stored["displacement"].astype(np.float32))
            height, width = (int(side) for side in stored["shape"])
            bits = np.unpackbits(stored["valid"])[: height * width]
        valid = torch.from_numpy(bits.astype(bool)).view(1, 1, height, width)
    except (*files.ARRAY_ERRORS, AttributeError) as error:
        raise ValueError(
            f"{path}: expected an .npz of displacement, valid and shape, as `umfuse deform` "
            f"writes it: {error}"
        ) from error
    if field.shape != (height, width, 2) or not bool(field[valid[0, 0]].isfinite().all()):
        raise ValueError(
            f"{path}: expected a finite displacement ({height}, {width}, 2), as shape says, got "
            f"{tuple(field.shape)}"
        )
    return field.permute(2, 0, 1)[None].nan_to_num(), valid


def write_displacement(path: Path, restore: Tensor, valid: Tensor) -> None:
    """Writes what `read_displacement` reads; float16, which rounds 16 px to 1/128 px.

    Args:
        path: An ``.npz``.
        restore: ``(1, 2, H, W)`` pixels.
        valid: ``(1, 1, H, W)`` bool.
    """
    np.savez_compressed(
        path,
        displacement=restore[0].permute(1, 2, 0).numpy().astype(np.float16),
        valid=np.packbits(valid[0, 0].numpy()),
        shape=np.array(restore.shape[-2:], dtype=np.int32),
    )


def read_homographies(path: Path) -> dict[str, Tensor]:
    """Reads the truth of raw images: ``{NAME: {"H": 3x3}}``, a pixel of vis to one of ir_raw.

    Returns:
        ``(3, 3)`` float64 by name.

    Raises:
        ValueError: If the file holds something else.
        OSError: If the file cannot be opened.
    """
    try:
        table = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        found = {
            name: torch.tensor(entry["H"], dtype=torch.float64) for name, entry in table.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: expected {{NAME: {{"H": 3x3}}}}: {error}') from error
    for name, matrix in found.items():
        if matrix.shape != (3, 3) or not bool(matrix.isfinite().all()):
            raise ValueError(f"{path}: expected a finite 3x3 for {name}, got {tuple(matrix.shape)}")
    return found

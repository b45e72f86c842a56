"""A registration as a file: written, and read without trust in what it holds."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from umfuse import files
from umfuse.borders import Box

FORMAT_VERSION = 1
LARGEST = 1e9  # of a transform and of a field in pixels: what they lead to is a float32


def write(path: str | os.PathLike[str], values: Mapping[str, Any]) -> None:
    """Writes the attributes of a registration by their names, completely or not at all.

    Raises:
        ValueError: If the name does not end in ``.npz``.
        OSError: If the file cannot be written.
    """
    if Path(path).suffix.lower() != ".npz":
        raise ValueError(
            f"expected a name that ends in .npz, got {os.fspath(path)!r}; the infrared image "
            "itself is written by save_infrared"
        )
    with files.replacing(path) as file:
        stored: dict[str, Any] = {**values, "content": values["content"] or ()}
        np.savez_compressed(file, format_version=FORMAT_VERSION, **stored)


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what `write` has written; the transform is not checked.

    Raises:
        ValueError: If the file is none of these, or of a newer umfuse.
        OSError: If it cannot be opened.
    """
    content = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            stored = dict(archive)
        return _checked(stored)
    except files.ARRAY_ERRORS as error:
        raise refused(path, error) from error


def refused(path: str | os.PathLike[str], error: BaseException) -> ValueError:
    """Returns what is said of a file that is none of these."""
    return ValueError(f"{os.fspath(path)!r} is no registration that umfuse has saved: {error}")


def _checked(stored: dict[str, Any]) -> dict[str, Any]:
    version = int(stored["format_version"])
    if version != FORMAT_VERSION:
        raise ValueError(f"it has format_version {version}, this umfuse reads {FORMAT_VERSION}")
    sizes = {
        name: (int(stored[name][0]), int(stored[name][1]))
        for name in ("infrared_size", "visible_size")
    }
    if min(*sizes["infrared_size"], *sizes["visible_size"]) < 1:
        infrared, visible = sizes.values()
        raise ValueError(f"it is of images of {infrared} and {visible} pixels")
    field = np.asarray(stored["field"], dtype=np.float32)
    if field.ndim != 3 or field.shape[2] != 2 or not (np.abs(field) < LARGEST).all():
        raise ValueError(f"its field has shape {field.shape} or values that cannot be")
    names = ("confidence", "log_likelihood", "runner_up", "correlation")
    numbers = {name: float(stored[name]) for name in names}
    box = stored.get("content", ())  # older files have none
    return {
        **sizes,
        **numbers,
        "transform": stored["transform"],
        "field": field,
        "method": str(stored["method"]),
        "content": Box(*map(int, box)) if len(box) else None,
    }

"""The networks as ONNX graphs, with free batch, height and width: `umfuse export`.

The search is no graph: it chooses what it looks at by what it has seen. Who knows the transform
between the cameras, as on a rig, needs none.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from umfuse import files
from umfuse.pipeline import Umfuse

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

OPSET = 20  # the first whose GridSample is that of PyTorch
FORMAT_VERSION = 1
SMALLEST = 64  # pixels of a side that a graph is made for; smaller ones may work
EXAMPLE = (2, 96, 128)  # batch, height and width that a graph is traced with


class Dense(nn.Module):
    """The registration network on the working grid, see `Umfuse.displace`.

    Args:
        model: Whose networks.
    """

    def __init__(self, model: Umfuse) -> None:
        super().__init__()
        self.model = model

    def forward(self, infrared: Tensor, known: Tensor, visible: Tensor) -> Tensor:
        """Returns the displacement ``(B, 2, H, W)`` that remains, pixels.

        Args:
            infrared: ``(B, 1, H, W)`` in [0, 1], where a transform puts it.
            known: ``(B, 1, H, W)``, 1 where that is infrared data, else 0.
            visible: ``(B, 3, H, W)`` in [0, 1].
        """
        rendered = self.model.config.fixed == "pseudo-infrared"
        pseudo = self.model.render(visible) if rendered else None
        return self.model.displace(infrared, known > 0.5, visible, pseudo)


class Fuse(nn.Module):
    """Resampling and fusion, see `Umfuse.fuse`.

    Args:
        model: Whose networks.
    """

    def __init__(self, model: Umfuse) -> None:
        super().__init__()
        self.model = model

    def forward(self, infrared: Tensor, visible: Tensor, coordinates: Tensor) -> Tensor:
        """Returns the fused luma ``(B, 1, H, W)`` in [0, 1].

        Args:
            infrared: ``(B, 1, h, w)`` in [0, 1].
            visible: ``(B, 3, H, W)`` in [0, 1].
            coordinates: ``(B, 2, H, W)``, the infrared pixel (x, y) of each visible pixel.
        """
        return self.model.fuse(infrared, visible, coordinates)


INPUTS = {
    "dense": {
        "infrared": ("batch", 1, "height", "width"),
        "known": ("batch", 1, "height", "width"),
        "visible": ("batch", 3, "height", "width"),
    },
    "fuse": {
        "infrared": ("batch", 1, "infrared_height", "infrared_width"),
        "visible": ("batch", 3, "height", "width"),
        "coordinates": ("batch", 2, "height", "width"),
    },
}
OUTPUTS = {
    "dense": {"displacement": ("batch", 2, "height", "width")},
    "fuse": {"fused": ("batch", 1, "height", "width")},
}


def export(
    model: Umfuse, folder: str | os.PathLike[str], weights: Mapping[str, object] | None = None
) -> Path:
    """Writes ``dense.onnx``, ``fuse.onnx`` and ``export.json``, which says what goes in and out.

    Args:
        model: On the CPU.
        folder: Where to; it is made.
        weights: What ``export.json`` says of the weights, such as their name and SHA-256.

    Returns:
        The folder.

    Raises:
        ImportError: If the extra ``onnx`` is not installed.
        ValueError: If the model is not on the CPU.
        OSError: If something cannot be written.
    """
    if model.device.type != "cpu":
        raise ValueError(f"export a model on the CPU, this one is on {model.device}")
    for module in ("onnx", "onnxscript"):
        try:
            __import__(module)
        except ImportError as error:
            raise ImportError(
                f"export needs {module}: python -m pip install 'umfuse[onnx]'"
            ) from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    graphs: dict[str, Any] = {}
    for name, module in (("dense", Dense(model)), ("fuse", Fuse(model))):
        content = _graph(module.eval(), name)
        with files.replacing(folder / f"{name}.onnx") as file:
            file.write(content)
        graphs[f"{name}.onnx"] = {
            "inputs": INPUTS[name],
            "outputs": OUTPUTS[name],
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    about = {
        "format_version": FORMAT_VERSION,
        "umfuse": importlib.metadata.version("umfuse"),
        "weights": {**(weights or {}), "license": model.license},
        "opset": OPSET,
        "working_size": model.config.working_size,
        "smallest": SMALLEST,
        "graphs": graphs,
    }
    files.write_text(folder / "export.json", json.dumps(about, indent=2) + "\n")
    return folder


def _graph(module: nn.Module, name: str) -> bytes:
    """Returns the ONNX file of a module."""
    batch, height, width = EXAMPLE
    sides = {"batch": batch, "height": height, "width": width}
    sides |= {"infrared_height": height - 16, "infrared_width": width - 24}
    free = {
        side: torch.export.Dim(side) if side == "batch" else torch.export.Dim(side, min=SMALLEST)
        for side in sides
    }
    pictures: list[Tensor] = []
    shapes: list[Mapping[int, object]] = []
    for shape in INPUTS[name].values():
        size = [sides[side] if isinstance(side, str) else side for side in shape]
        pictures.append(torch.rand(size))
        shapes.append({i: free[side] for i, side in enumerate(shape) if isinstance(side, str)})
    file = io.BytesIO()
    # Without a gradient the image is fused in tiles, of which a graph would keep the number.
    with torch.enable_grad(), _quiet():
        program = cast(
            "torch.onnx.ONNXProgram",
            torch.onnx.export(
                module,
                tuple(pictures),
                input_names=list(INPUTS[name]),
                output_names=list(OUTPUTS[name]),
                dynamic_shapes=tuple(shapes),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            ),
        )
        program.save(cast("Any", file), external_data=False)
    return file.getvalue()


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Keeps back what torch says of names of sides that are one, and of libraries that it lacks."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)

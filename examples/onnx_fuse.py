"""Fusion by onnxruntime, NumPy and Pillow alone: onnx_fuse.py EXPORTED IR VIS RIG [OUT].

EXPORTED is what `umfuse export` wrote. RIG is what `umfuse register --save-registration` wrote
(.npz), or a 3x3 from visible to infrared pixels (.txt), which the dense network refines.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def main(exported: str, infrared: str, visible: str, rig: str, out: str = "fused.png") -> None:
    """Fuses a pair of files."""
    folder = Path(exported)
    ir = stretched(np.asarray(Image.open(infrared)))
    rgb = np.asarray(Image.open(visible).convert("RGB"), np.float32) / 255
    if rig.endswith(".npz"):
        with np.load(rig) as saved:
            transform, field = saved["transform"], saved["field"]
    else:
        transform = np.loadtxt(rig)
        field = refined(folder, ir, rgb, transform)
    coordinates = projected(transform, enlarged(field, rgb.shape[:2]))
    # The graph samples the infrared image as it is: one that is much finer is reduced first.
    step = np.median(np.abs(np.diff(coordinates[..., 0], axis=1)))
    if step >= 1.5:
        size = [round(side / step) for side in ir.shape]
        coordinates = (coordinates + 0.5) * np.divide(size, ir.shape)[::-1] - 0.5
        ir = resized(ir, size)
    graph = onnxruntime.InferenceSession(folder / "fuse.onnx")
    inputs = {
        "infrared": ir[None, None],
        "visible": np.moveaxis(rgb, -1, 0)[None],
        "coordinates": np.moveaxis(coordinates, -1, 0)[None].astype(np.float32),
    }
    (fused,) = graph.run(None, inputs)
    Image.fromarray(np.round(255 * coloured(fused[0, 0], rgb)).astype(np.uint8)).save(out)
    print(out)


def stretched(counts: np.ndarray) -> np.ndarray:
    """Returns an infrared image in [0, 1], as umfuse sees it where no range is given."""
    low, high = (0, 255) if counts.dtype == np.uint8 else np.percentile(counts, (0.5, 99.5))
    return np.clip((counts - low) / (high - low), 0, 1).astype(np.float32)


def refined(folder: Path, ir: np.ndarray, rgb: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Returns the field (h, w, 2) in visible pixels that the dense network finds."""
    working = json.loads((folder / "export.json").read_text())["working_size"]
    height, width = (round(side * working / max(rgb.shape)) for side in rgb.shape[:2])
    small = np.stack([resized(plane, (height, width)) for plane in np.moveaxis(rgb, -1, 0)])
    scale = np.array([rgb.shape[1] / width, rgb.shape[0] / height])
    larger = (grid(height, width) + 0.5) * scale - 0.5  # visible pixels
    coordinates = projected(transform, larger - grid(height, width), grid(height, width))
    x, y = coordinates[..., 0], coordinates[..., 1]
    known = (x >= -0.5) & (x <= ir.shape[1] - 0.5) & (y >= -0.5) & (y <= ir.shape[0] - 0.5)
    inputs = {
        "infrared": sampled(ir, x, y)[None, None],
        "known": known[None, None].astype(np.float32),
        "visible": small[None],
    }
    graph = onnxruntime.InferenceSession(folder / "dense.onnx")
    (displacement,) = graph.run(None, inputs)
    return np.moveaxis(displacement[0], 0, -1) * scale


def grid(height: int, width: int) -> np.ndarray:
    """Returns the pixels (x, y) of an image, (height, width, 2)."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float64)


def projected(transform: np.ndarray, moved: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
    """Returns where pixels go that move by (x, y) first and are sent by a 3x3 then, (H, W, 2)."""
    places = (grid(*moved.shape[:2]) if at is None else at) + moved
    sent = places @ transform[:, :2].T + transform[:, 2]
    return sent[..., :2] / sent[..., 2:]


def resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a picture (h, w) at another size: bilinear, antialiased where it gets smaller."""
    image = Image.fromarray(plane.astype(np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))


def enlarged(field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a field (h, w, 2) of visible pixels at the visible size."""
    return np.stack([resized(plane, size) for plane in np.moveaxis(field, -1, 0)], -1)


def sampled(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the pixels of an image (h, w) at (x, y): bilinear, its border replicated."""
    x, y = (np.clip(at, 0, side - 1) for at, side in ((x, image.shape[1]), (y, image.shape[0])))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right = np.minimum(left + 1, image.shape[1] - 1)
    below = np.minimum(top + 1, image.shape[0] - 1)
    x, y = x - left, y - top
    upper = image[top, left] * (1 - x) + image[top, right] * x
    lower = image[below, left] * (1 - x) + image[below, right] * x
    return (upper * (1 - y) + lower * y).astype(np.float32)


def coloured(luma: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Returns a luma (H, W) with the colour of a picture (H, W, 3), which fades until it fits."""
    luma = np.clip(luma, 0, 1)[..., None]
    colour = rgb - rgb @ np.array([0.299, 0.587, 0.114], np.float32)[:, None]
    room = np.where(colour > 0, 1 - luma, luma)
    share = (room / np.maximum(np.abs(colour), 1e-9)).min(-1, keepdims=True)
    return luma + np.minimum(share, 1) * colour


if __name__ == "__main__":
    main(*sys.argv[1:])

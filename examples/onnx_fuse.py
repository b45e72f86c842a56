"""Fusion by onnxruntime, NumPy and Pillow alone: onnx_fuse.py EXPORTED IR VIS RIG [OUT].

EXPORTED is what `umfuse export` wrote. VIS has 8 bits. RIG is what `umfuse register
--save-registration` wrote (.npz), or a 3x3 from visible to infrared pixels (.txt), which the dense
network refines.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def main(exported: str, infrared: str, visible: str, rig: str, out: str = "fused.png") -> None:
    """Fuses a pair of files."""
    folder = Path(exported)
    counts = opened(infrared)
    vis = opened(visible).astype(np.float32) / 255  # (H, W) or (H, W, 3)
    rgb = vis if vis.ndim == 3 else np.stack([vis] * 3, -1)
    first = np.zeros(2)  # infrared pixel (x, y) that is looked at first
    if rig.endswith(".npz"):
        with np.load(rig) as saved:
            transform, field, content = saved["transform"], saved["field"], saved["content"]
        if content.size:  # between constant bars
            top, left, bottom, right = content.astype(int)
            counts, first = counts[top:bottom, left:right], np.array([left, top])
        ir = stretched(counts)
    else:
        transform, ir = np.loadtxt(rig), stretched(counts)
        field = refined(folder, ir, rgb, transform)
    coordinates = projected(transform, enlarged(field, rgb.shape[:2])) - first
    # The graph samples the infrared image as it is: one that is much finer is reduced first.
    step = np.median(np.abs(np.diff(coordinates[..., 0], axis=1)))
    if step >= 1.5:
        size = [round(side / step) for side in ir.shape]
        coordinates = (coordinates + 0.5) * np.divide(size, ir.shape)[::-1] - 0.5
        ir = resized(ir, size)
    inputs = {
        "infrared": ir[None, None],
        "visible": np.moveaxis(rgb, -1, 0)[None],
        "coordinates": np.moveaxis(coordinates, -1, 0)[None].astype(np.float32),
    }
    fused = run(folder / "fuse.onnx", inputs)[0, 0]
    if vis.ndim == 3:
        fused = coloured(fused, rgb)
    Image.fromarray(np.round(255 * fused).astype(np.uint8)).save(out)
    print(out)


def run(graph: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """Returns the output of a graph."""
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = False  # half the memory, and no slower
    (output,) = onnxruntime.InferenceSession(graph, options).run(None, inputs)
    return output


def opened(file: str) -> np.ndarray:
    """Returns the pixels of a file, upright: (h, w) or, in colour, (h, w, 3)."""
    image = ImageOps.exif_transpose(Image.open(file))
    return np.asarray(image if image.mode in ("L", "I;16", "I", "F") else image.convert("RGB"))


def stretched(counts: np.ndarray) -> np.ndarray:
    """Returns an infrared image in [0, 1], as umfuse sees it where no range is given."""
    eight_bits = counts.dtype == np.uint8
    low, high = (0, 255) if eight_bits else np.percentile(counts, (0.5, 99.5))
    if counts.ndim == 3:
        counts = counts @ LUMA
    return np.clip((counts - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)


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
    return np.moveaxis(run(folder / "dense.onnx", inputs)[0], 0, -1) * scale


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
    colour = rgb - (rgb @ LUMA)[..., None]
    room = np.where(colour > 0, 1 - luma, luma)
    share = (room / np.maximum(np.abs(colour), 1e-9)).min(-1, keepdims=True)
    return luma + np.minimum(share, 1) * colour


if __name__ == "__main__":
    main(*sys.argv[1:])

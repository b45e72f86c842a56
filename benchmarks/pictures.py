"""Makes the picture at the head of README.md: `python -m benchmarks.pictures`.

The demo's pair is rendered by `benchmarks.scenes` and fused by the embedded weights, so no data
set's image is in the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import umfuse
from umfuse import demo, draw, images

WIDTH = 480  # pixels of a panel


def overview() -> Image.Image:
    """Returns the demo's pair, what resizing makes of it, and what umfuse makes of it."""
    pair = demo.pair()
    infrared, visible = (images.read(path).luma[0, 0].numpy() for path in pair[:2])
    colour = np.asarray(Image.open(pair.visible), dtype=np.float32) / 255
    resized = Image.fromarray(infrared).resize(visible.shape[::-1])
    naive = (np.asarray(resized)[..., None] + colour) / 2
    fused = np.asarray(umfuse.fuse(pair.infrared, pair.visible, device="cpu").image)
    panels = [
        ("infrared, 320x256", infrared),
        ("visible, 640x480", colour),
        ("resized and overlaid: ghosts", naive),
        ("aligned and fused by umfuse", fused),
    ]
    return draw.sheet(panels, columns=2, max_width=WIDTH)


def main(arguments: list[str] | None = None) -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="folder")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    overview().save(out / "demo.webp", quality=85, method=6)


if __name__ == "__main__":
    main()

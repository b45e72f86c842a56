"""Makes the pictures of README.md and the pages: `python -m benchmarks.pictures`.

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
FLICKER = 400  # pixels: 256 colours of a larger picture take much room


def overview(infrared: np.ndarray, visible: np.ndarray, fused: np.ndarray) -> Image.Image:
    """Returns the demo's pair, what resizing makes of it, and what umfuse makes of it."""
    naive = (resized(infrared, visible)[..., None] + visible) / 2
    panels = [
        ("infrared, 320x256", infrared),
        ("visible, 640x480", visible),
        ("resized and overlaid: ghosts", naive),
        ("aligned and fused by umfuse", fused),
    ]
    return draw.sheet(panels, columns=2, max_width=WIDTH)


def resized(infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Returns the infrared image in the size of the visible one."""
    return np.asarray(Image.fromarray(infrared).resize(visible.shape[1::-1]))


def main(arguments: list[str] | None = None) -> None:
    """Writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="folder")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)

    pair = demo.pair()
    infrared = images.read(pair.infrared).luma[0, 0].numpy()
    visible = np.asarray(Image.open(pair.visible), dtype=np.float32) / 255
    fusion = umfuse.fuse(pair.infrared, pair.visible, device="cpu")
    fused, reg = np.asarray(fusion.image), fusion.registration
    assert reg is not None
    moved = np.asarray(reg.apply(infrared))

    overview(infrared, visible, fused).save(out / "demo.webp", quality=85, method=6)
    sheet = draw.registration_sheet(
        *(infrared, visible, resized(infrared, visible), moved),
        *(reg.displacement, fused, reg.certainty),
    )
    sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS).save(
        out / "sheet.webp", quality=85, method=6
    )
    (out / "flicker.gif").write_bytes(draw.flicker(moved, visible, max_width=FLICKER))


if __name__ == "__main__":
    main()

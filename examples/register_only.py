"""umfuse aligns, another method fuses: here the brighter of both pixels, in two lines."""

import numpy as np
from PIL import Image

import umfuse
from umfuse import demo


def brighter(infrared: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Any method that takes two uint8 images (H, W) that are aligned."""
    return np.maximum(infrared, visible)


def main() -> None:
    """Aligns a pair, and fuses it by a function that knows nothing of umfuse."""
    pair = demo.pair()
    reg = umfuse.register(pair.infrared, pair.visible)
    visible = np.asarray(Image.open(pair.visible).convert("L"))
    counts = np.asarray(reg.infrared).astype(np.float32)  # on the grid of the visible image
    low, high = np.percentile(counts[reg.valid_mask], (1, 99))
    infrared = np.clip((counts - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    fused = np.where(reg.valid_mask, brighter(infrared, visible), visible)
    Image.fromarray(fused).save("fused.png")
    print("fused.png", reg)


if __name__ == "__main__":
    main()

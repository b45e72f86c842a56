"""Scores of a method's images: python examples/evaluate.py RESULTS_DIR DATA_DIR.

A data set holds aligned pairs, ``ir/NAME.png`` and ``vis/NAME.png``, the results fused images of
the same names. Without folders, the demo's pairs and their average are taken.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import umfuse
from umfuse import demo
from umfuse.evaluate import evaluate


def demo_folders() -> list[str]:
    """Writes the demo's pairs, aligned, and their average as the results of a method."""
    for folder in ("data/ir", "data/vis", "average"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    for name, night in (("day.png", False), ("night.png", True)):
        pair = demo.pair(night=night)
        counts = np.asarray(umfuse.register(pair.infrared, pair.visible).infrared, np.float32)
        infrared = np.uint8(255 * (counts - counts.min()) / np.ptp(counts))
        visible = np.asarray(Image.open(pair.visible).convert("L"))
        average = (infrared / 2 + visible / 2).astype(np.uint8)
        for folder, image in (("data/ir", infrared), ("data/vis", visible), ("average", average)):
            Image.fromarray(image).save(Path(folder, name))
    return ["average", "data"]


def main(arguments: list[str]) -> None:
    """Scores a folder of results, and the embedded weights beside it."""
    results, data = arguments or demo_folders()
    for source in (results, "embedded"):
        report = evaluate(source, data)
        print(source, {name: round(report.mean[name], 3) for name in ("CC", "SSIM", "VIF", "Qabf")})
        report.save(Path("scores", Path(source).name), sheets=1)
    print("each image, all measures and pictures are in scores/")


if __name__ == "__main__":
    main(sys.argv[1:])

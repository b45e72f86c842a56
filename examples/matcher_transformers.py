"""Points of MatchAnything, by `transformers`, in the place of the search.

pip install transformers torchvision, then: python examples/matcher_transformers.py [IR VIS OUT].
The weights (64 MB) come from the Hub; "zju-community/efficientloftr" goes the same way.
"""

import sys

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, EfficientLoFTRForKeypointMatching

import umfuse
from umfuse import demo

FINER = 16  # transformers gives whole pixels: of an image that is 16 times as large


class MatchAnything:
    """A matcher as `umfuse.register` takes it."""

    def __init__(self, name: str = "zju-community/matchanything_eloftr") -> None:
        self.processor = AutoImageProcessor.from_pretrained(name)
        self.model = EfficientLoFTRForKeypointMatching.from_pretrained(name).eval()

    @torch.no_grad()
    def __call__(
        self, infrared: np.ndarray, visible: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns infrared pixels, visible pixels and scores."""
        pictures = [
            Image.fromarray((255 * luma).astype(np.uint8)).convert("RGB")
            for luma in (infrared, visible)
        ]
        inputs = self.processor(pictures, return_tensors="pt")
        outputs = self.model(**inputs)
        sizes = [[(FINER * luma.shape[0], FINER * luma.shape[1]) for luma in (infrared, visible)]]
        (found,) = self.processor.post_process_keypoint_matching(outputs, sizes, threshold=0.2)
        points = [found[name] / FINER for name in ("keypoints0", "keypoints1")]
        return points[0], points[1], found["matching_scores"]


def main(arguments: list[str]) -> None:
    """Writes the fused image and says how far to trust the alignment."""
    ir, vis, out = arguments or (*demo.pair()[:2], "fused.png")
    fusion = umfuse.fuse(ir, vis, matcher=MatchAnything())
    fusion.save(out)
    print(out, fusion.registration)


if __name__ == "__main__":
    main(sys.argv[1:])

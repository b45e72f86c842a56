"""Points of any of vismatch's fifty matchers in the place of the search.

pip install vismatch, then: python examples/matcher_vismatch.py [IR VIS OUT]. Made for infrared and
visible images are "minima-roma", "xoftr" and "matchanything-eloftr".
"""

import sys

import numpy as np
import torch
from vismatch import get_matcher

import umfuse
from umfuse import demo


class Vismatch:
    """A matcher as `umfuse.register` takes it."""

    def __init__(self, name: str = "xoftr", device: str = "cpu") -> None:
        self.matcher = get_matcher(name, device=device)

    def __call__(
        self, infrared: np.ndarray, visible: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Returns infrared pixels, visible pixels and, where the matcher has them, confidences."""
        colour = [torch.from_numpy(luma).expand(3, -1, -1) for luma in (infrared, visible)]
        found = self.matcher(*colour)
        # All matches, not only vismatch's inliers: umfuse has its own way to find these.
        return found["matched_kpts0"], found["matched_kpts1"], found["matched_confidences"]


def main(arguments: list[str]) -> None:
    """Writes the fused image and says how far to trust the alignment."""
    ir, vis, out = arguments or (*demo.pair()[:2], "fused.png")
    fusion = umfuse.fuse(ir, vis, matcher=Vismatch())
    fusion.save(out)
    print(out, fusion.registration)


if __name__ == "__main__":
    main(sys.argv[1:])

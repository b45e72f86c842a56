"""Rendered images for the tests of training."""

import torch
import torch.nn.functional as F


def scene(seed, height=72, width=96, channels=1):
    """Smooth blobs with some edges, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, height // 8, width // 8, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    blocks = F.interpolate(coarse, (height, width), mode="nearest")
    return (0.6 * smooth + 0.4 * blocks).clamp(0, 1)

"""Tensors as torchvision and kornia have them: what comes back has the same layout and dtype."""

import numpy as np
import torch
from PIL import Image

import umfuse
from umfuse import demo


def main() -> None:
    """Fuses a pair in both layouts."""
    pair = demo.pair()
    ir = torch.from_numpy(np.array(Image.open(pair.infrared)))[None]  # uint16 (1, h, w)
    vis = torch.from_numpy(np.array(Image.open(pair.visible))).movedim(-1, 0)  # uint8 (3, H, W)

    # torchvision.io.decode_image gives uint8 (C, H, W).
    fused = umfuse.fuse(ir, vis).image
    print("torchvision:", fused.dtype, tuple(fused.shape))

    # kornia works on float (1, C, H, W) in [0, 1]. What is in which units you say: these are
    # hundredths of a kelvin, and black and white are 0 and 40 degrees Celsius.
    ir, vis = ir[None].float(), vis[None].float() / 255
    fused = umfuse.fuse(ir, vis, ir_range=(27315, 31315)).image
    print("kornia:", fused.dtype, tuple(fused.shape))


if __name__ == "__main__":
    main()

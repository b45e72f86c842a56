"""Temperatures under the pixels of the visible image: 16-bit counts stay what they are."""

import numpy as np
from PIL import Image

import umfuse
from umfuse import demo


def main() -> None:
    """Finds the warmest place in the visible image, and fuses with a range in degrees."""
    pair = demo.pair()
    reg = umfuse.register(pair.infrared, pair.visible)
    reg.save_infrared("registered.png")  # 16 bits, counts as the camera wrote them

    counts = np.asarray(reg.infrared)  # uint16, on the visible grid
    celsius = counts / 100 - 273.15  # of this camera: hundredths of a kelvin
    celsius[~reg.valid_mask] = np.nan  # where the infrared camera saw nothing
    y, x = np.unravel_index(np.nanargmax(celsius), celsius.shape)
    colour = Image.open(pair.visible).getpixel((int(x), int(y)))
    print(f"{celsius[y, x]:.1f} degrees at visible pixel ({x}, {y}), whose colour is {colour}")

    # One range for all images of a series: a stretch of each one would invent hot spots.
    black, white = (round((degrees + 273.15) * 100) for degrees in (0, 40))
    fusion = umfuse.fuse(pair.infrared, pair.visible, registration=reg, ir_range=(black, white))
    fusion.save("fused.png")


if __name__ == "__main__":
    main()

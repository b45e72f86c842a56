"""A radiometric JPEG of FLIR is a whole pair: python examples/flir_jpeg.py FLIR0123.jpg.

pip install "umfuse[flir]".
"""

import sys

import numpy as np

import umfuse


def main(arguments: list[str]) -> None:
    """Fuses temperatures and photo of one file, and says what was warm."""
    (path,) = arguments or ["FLIR0123.jpg"]
    fusion = umfuse.fuse(path)
    fusion.save("fused.png")
    degrees = np.asarray(fusion.registration.infrared)  # Celsius on the grid of the photo, float32
    warmest = degrees[fusion.registration.valid_mask].max()
    print(f"fused.png {fusion.registration.method}, {warmest:.1f} degrees at most")


if __name__ == "__main__":
    main(sys.argv[1:])

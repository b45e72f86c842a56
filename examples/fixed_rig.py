"""Two cameras on one mount: the first frames find the alignment, all others use it."""

import numpy as np
from PIL import Image

import umfuse
from umfuse import demo


def main() -> None:
    """Fuses frames that differ in their noise, and keeps the alignment for the next recording."""
    pair, rng = demo.pair(), np.random.default_rng(0)
    counts = np.asarray(Image.open(pair.infrared))
    rig = umfuse.Rig(frames=2)
    for number in range(4):  # in earnest, what the two cameras give
        infrared = (counts + rng.normal(0, 20, counts.shape)).astype(counts.dtype)
        rig.fuse(infrared, pair.visible).save(f"frame{number}.png")
    rig.registration.save("rig.npz")
    later = umfuse.Rig(registration="rig.npz")
    later.fuse(pair.infrared, pair.visible).save("later.png")
    print("frame0.png to frame3.png, and later.png without a search")


if __name__ == "__main__":
    main()

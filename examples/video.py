"""Two videos become one: python examples/video.py THERMAL VISIBLE OUT.

pip install "umfuse[video]". `umfuse video THERMAL VISIBLE -o OUT` does the same and more: it pairs
frames by their time. Without videos, two short ones are made of the demo's pair.
"""

import sys

import numpy as np
from PIL import Image

import umfuse
from umfuse import demo
from umfuse.files import video


def demo_videos() -> list[str]:
    """Writes four frames of each camera; FFV1 keeps the 16 bits of the thermal one."""
    pair = demo.pair()
    for name, codec, path in (
        ("thermal.mkv", "ffv1", pair.infrared),
        ("visible.mp4", "libx264", pair.visible),
    ):
        image = np.asarray(Image.open(path))
        with video.writing(name, codec) as writer:
            for number in range(4):
                writer.write(video.Frame(number / 25, image))
    return ["thermal.mkv", "visible.mp4", "fused.mp4"]


def main(arguments: list[str]) -> None:
    """Fuses frame after frame with the alignment that the first two find."""
    thermal, visible, out = arguments or demo_videos()
    rig, count = umfuse.Rig(frames=2), 0
    both = zip(video.frames(thermal, "infrared"), video.frames(visible, "visible"), strict=False)
    with video.writing(out) as writer:
        for ir, vis in both:
            writer.write(video.Frame(vis.time, rig.fuse(ir.image, vis.image).image))
            count += 1
    print(out, count, "frames", rig.registration)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Two cameras on one rig: align one pair, use the alignment for all that follow."""

import umfuse
from umfuse import demo


def main() -> None:
    """Fuses a second pair of the rig without searching again."""
    day, night = demo.pair(), demo.pair(night=True)
    umfuse.register(day.infrared, day.visible).save("rig.npz")
    # A fixed range keeps the grey of a temperature the same from frame to frame.
    fusion = umfuse.fuse(
        night.infrared, night.visible, registration="rig.npz", ir_range=(27000, 31000)
    )
    fusion.save("night.png")
    print("night.png, with the alignment of the day")


if __name__ == "__main__":
    main()

"""Two cameras on one rig: align one pair, use the alignment for all that follow."""

import umfuse
from umfuse import demo


def main() -> None:
    """Fuses a second pair of the rig without searching again."""
    first = demo.render(seed=2)
    registration = umfuse.register(first.infrared, first.visible)
    night = demo.render(seed=2, night=True)  # the same rig, hours later
    # A fixed range keeps the grey of a temperature the same from frame to frame.
    fusion = umfuse.fuse(
        night.infrared, night.visible, registration=registration, range=(28000, 33000)
    )
    fusion.save("night.png")
    print("night.png, with the alignment of the day, confidence", round(registration.confidence, 2))


if __name__ == "__main__":
    main()

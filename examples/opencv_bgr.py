"""Arrays of OpenCV, whose colour is BGR: what comes back is BGR too."""

import cv2

import umfuse
from umfuse import demo


def main() -> None:
    """Reads, fuses and writes by OpenCV."""
    pair = demo.pair()
    ir = cv2.imread(str(pair.infrared), cv2.IMREAD_UNCHANGED)  # uint16 (h, w)
    vis = cv2.imread(str(pair.visible))  # uint8 (H, W, 3), BGR
    fusion = umfuse.fuse(ir, vis, channels="bgr")
    cv2.imwrite("fused.png", fusion.image)  # uint8 (H, W, 3), BGR again
    print("fused.png", fusion.image.dtype, fusion.image.shape)


if __name__ == "__main__":
    main()

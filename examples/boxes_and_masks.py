"""What a detector found in one image is carried to the other one: points, boxes and masks.

Pixel centres lie at integers. Where your boxes count from the corner of the first pixel, as those
of COCO do, subtract 0.5 from them before and add it after.
"""

import numpy as np
from PIL import Image, ImageDraw

import umfuse
from umfuse import demo


def box(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the (left, top, right, bottom) around points (N, 2), cut to an image (h, w)."""
    low, high = corners.min(0), corners.max(0)
    end = np.array(size[::-1]) - 1
    return np.concatenate([low.clip(0, end), high.clip(0, end)])


def corners(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Returns the corners of a box, (4, 2)."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def on_infrared(mask: np.ndarray, reg: umfuse.Registration) -> np.ndarray:
    """Returns a mask of the visible image as the infrared camera would see it."""
    rows, columns = (np.arange(side) for side in reg.infrared_size)
    pixels = np.stack(np.meshgrid(columns, rows), axis=-1)  # (h, w, 2), (x, y) of each
    places = np.rint(reg.inverse_map_points(pixels)).astype(int)
    inside = ((places >= 0) & (places < mask.shape[::-1])).all(-1)
    x, y = np.where(inside[..., None], places, 0).transpose(2, 0, 1)
    return np.where(inside, mask[y, x], 0)


def main() -> None:
    """Carries a box both ways, a mask of the infrared image, and one of the visible image."""
    pair = demo.pair()
    reg = umfuse.register(pair.infrared, pair.visible)

    # A box of the visible image, in the infrared one, and back.
    person = (18, 230, 50, 340)
    there = box(reg.map_points(corners(*person)), reg.infrared_size)
    back = box(reg.inverse_map_points(corners(*there)), reg.visible_size)
    print("person", person, "is", there.round().astype(int), "in the infrared image")
    print("and back", back.round().astype(int))

    # A mask or labels of the infrared image, on the visible grid: no value is mixed.
    counts = np.asarray(Image.open(pair.infrared))
    warm = (counts > 30000).astype(np.uint8)
    on_visible = reg.apply(warm, interpolation="nearest")
    on_visible = np.where(reg.valid_mask, on_visible, 0)  # beside the infrared image: nothing
    print(f"warm: {warm.mean():.1%} of the infrared pixels, {on_visible.mean():.1%} of the visible")

    # A mask of the visible image, on the infrared grid.
    mask = np.zeros(reg.visible_size, np.uint8)
    mask[person[1] : person[3], person[0] : person[2]] = 1
    print("person:", on_infrared(mask, reg).sum(), "infrared pixels")

    # Look at it.
    picture = Image.open(pair.visible)
    ImageDraw.Draw(picture).rectangle([*back], outline="lime")
    picture.paste("red", mask=Image.fromarray((on_visible * 255).astype(np.uint8)))
    picture.save("visible.png")
    low, high = np.percentile(counts, (1, 99))
    shown = np.clip((counts - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    picture = Image.fromarray(shown).convert("RGB")
    ImageDraw.Draw(picture).rectangle([*there], outline="lime")
    picture.save("infrared.png")


if __name__ == "__main__":
    main()

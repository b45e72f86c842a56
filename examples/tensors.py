"""A batch through the model itself: tensors in, a NamedTuple of tensors out, with gradients."""

import torch

import umfuse
from umfuse import demo, images, search


def main() -> None:
    """Registers and fuses two pairs at once, each from the transform that the search finds."""
    model = umfuse.load()
    scenes = [demo.render(seed=seed, size=(240, 320)) for seed in (3, 4)]
    infrared = torch.cat([images.read(scene.infrared).luma for scene in scenes])
    visible = torch.cat([images.read(scene.visible).rgb for scene in scenes])
    lumas = [images.read(scene.visible).luma for scene in scenes]
    transforms = torch.stack(
        [
            search.find_transform(ir[None], vis).transform
            for vis, ir in zip(lumas, infrared, strict=True)
        ]
    )
    with torch.inference_mode():
        out = model(infrared, visible, transforms)
    print("fused", tuple(out.fused.shape), "displacement", tuple(out.displacement.shape))


if __name__ == "__main__":
    main()

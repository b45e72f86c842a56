"""A batch through the model: tensors in, a NamedTuple of tensors out, as `umfuse.fuse` does it."""

import torch

import umfuse
from umfuse import demo, images


def main() -> None:
    """Registers and fuses two pairs at once."""
    model = umfuse.load()
    pairs = [demo.pair(), demo.pair(night=True)]
    infrared = torch.cat([images.read(pair.infrared).luma for pair in pairs])
    visible = torch.cat([images.read(pair.visible).rgb for pair in pairs])
    out = model.infer(infrared, visible)
    print("fused", tuple(out.fused.shape), "coordinates", tuple(out.coordinates.shape))


if __name__ == "__main__":
    main()

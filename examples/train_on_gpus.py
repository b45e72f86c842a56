"""Training in several processes: torchrun --nproc-per-node 2 examples/train_on_gpus.py.

Each process runs this file and takes the GPU of its number, or a share of the CPU where there is
none. A batch is that of one process: two of them see twice as many crops a step. The command goes
the same way: torchrun --nproc-per-node 2 -m umfuse train ...
"""

import torch

import umfuse
from umfuse import demo, images
from umfuse.train import fine_tune
from umfuse.train.distributed import is_first


def pair(night: bool) -> dict[str, torch.Tensor]:
    """Returns an aligned pair as training takes it: float tensors (C, H, W) in [0, 1]."""
    ir, vis, _ = demo.pair(night=night)
    reg = umfuse.register(ir, vis, device="cpu")
    return {"infrared": images.read(reg.infrared).luma[0], "visible": images.read(vis).rgb[0]}


def main() -> None:
    """Makes two steps, which teach nothing but how it goes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # In earnest the names of two folders, or your own class with __len__ and __getitem__.
    pairs = [pair(night=False), pair(night=True)]
    fine_tune(umfuse.load(), pairs, "run", what="registration", steps=2, device=device)
    if is_first():  # one of the processes writes, and speaks
        fusion = umfuse.fuse(*demo.pair()[:2], weights="run")
        print("run", fusion.registration)


if __name__ == "__main__":
    main()

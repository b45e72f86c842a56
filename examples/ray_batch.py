"""Pairs on many machines, by Ray Data: ray_batch.py IR_DIR VIS_DIR OUT_DIR [ACTORS].

Run again, it fuses what is missing. The folders must be where all machines see them; on a cluster
start it by `ray job submit`. On one machine `umfuse fuse IR_DIR VIS_DIR -o OUT_DIR --resume` does
the same and more.
"""

import shutil
import sys
from pathlib import Path

import ray

import umfuse
from umfuse import demo, pairing


class Fuser:
    """An actor: it loads the model once, and fuses batch after batch."""

    def __init__(self, out: str) -> None:
        self.out = Path(out)
        self.model = umfuse.load()  # on the GPU that Ray gave it, if it gave one

    def __call__(self, batch: dict) -> dict:
        """Fuses the pairs of a batch; one that fails is told of, and ends nothing."""
        confidence, error = [], []
        pairs = zip(batch["name"], batch["infrared"], batch["visible"], strict=True)
        for name, infrared, visible in pairs:
            try:
                fusion = umfuse.fuse(infrared, visible, weights=self.model)
                target = self.out / f"{name}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                fusion.save(target)  # whole or not at all
            except (OSError, TypeError, ValueError) as problem:
                confidence.append(float("nan"))
                error.append(str(problem))
            else:
                confidence.append(fusion.registration.confidence)
                error.append("")
        return {"name": batch["name"], "confidence": confidence, "error": error}


def demo_folders() -> list[str]:
    """Writes the demo's two pairs into folders as a camera does."""
    for name, night in (("day", False), ("night", True)):
        pair = demo.pair(night=night)
        for folder, file in (("ir", pair.infrared), ("vis", pair.visible)):
            Path(folder).mkdir(exist_ok=True)
            shutil.copyfile(file, Path(folder, f"{name}.png"))
    return ["ir", "vis", "fused"]


def worst_first(rows: list[dict]) -> list[dict]:
    """Returns the rows of what failed, then the others by their confidence."""
    return sorted(rows, key=lambda row: (not row["error"], row["error"] or row["confidence"]))


def main(arguments: list[str]) -> None:
    """Fuses all pairs of two folders that are not fused yet."""
    infrared, visible, out, *rest = arguments or demo_folders()
    actors = int(rest[0]) if rest else 1
    found = pairing.find(Path(infrared), Path(visible))
    rows = [
        {"name": name, "infrared": str(ir.absolute()), "visible": str(vis.absolute())}
        for name, (ir, vis) in found.files.items()
        if not Path(out, f"{name}.png").exists()
    ]
    print(f"{len(rows)} of {len(found.files)} pairs to fuse")
    if not rows:
        return
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    # A pair is work enough for a block of its own.
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        Fuser,
        fn_constructor_args=(str(Path(out).absolute()),),
        compute=ray.data.ActorPoolStrategy(size=actors),
        batch_size=1,
        num_cpus=1,
        num_gpus=gpus,
    )
    for row in worst_first(results.take_all()):
        print(f"{row['confidence']:.2f} {row['name']} {row['error']}")


if __name__ == "__main__":
    ray.init(ignore_reinit_error=True)
    main(sys.argv[1:])

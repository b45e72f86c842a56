"""Registration learns your cameras: python examples/fine_tune.py IR_DIR VIS_DIR RUN STEPS.

The pairs are aligned here, with the same names. Without folders, the demo's two pairs are taken for
two steps, which shows how it goes and teaches nothing.
"""

import json
import shutil
import sys
from pathlib import Path

import umfuse
from umfuse import demo
from umfuse.train import fine_tune


def demo_folders() -> list[str]:
    """Writes the demo's two pairs, aligned."""
    for name, night in (("day", False), ("night", True)):
        pair = demo.pair(night=night)
        for folder in ("ir", "vis"):
            Path(folder).mkdir(exist_ok=True)
        umfuse.register(pair.infrared, pair.visible).save_infrared(f"ir/{name}.png")
        shutil.copyfile(pair.visible, f"vis/{name}.png")
    return ["ir", "vis", "run", "2"]


def main(arguments: list[str]) -> None:
    """Trains on pairs that are aligned, and fuses with what was learned."""
    infrared, visible, run, steps = arguments or demo_folders()
    fine_tune(umfuse.load(), (infrared, visible), run, what="registration", steps=int(steps))
    lines = Path(run, "log.jsonl").read_text(encoding="utf-8").splitlines()
    print("error in pixels at the end:", json.loads(lines[-1])["error"])

    pair = demo.pair()
    fusion = umfuse.fuse(pair.infrared, pair.visible, weights=run)  # a run loads as weights
    fusion.save("fused.png")
    print("fused.png", fusion.registration)


if __name__ == "__main__":
    main(sys.argv[1:])

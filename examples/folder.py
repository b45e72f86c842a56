"""A folder of pairs, worst first: python examples/folder.py IR_DIR VIS_DIR OUT_DIR.

`umfuse fuse IR_DIR VIS_DIR -o OUT_DIR` does the same and more; this is the loop for your own code.
"""

import shutil
import sys
from pathlib import Path

import umfuse
from umfuse import demo


def demo_folders() -> list[str]:
    """Writes the demo's two pairs into folders as a camera does."""
    for name, night in (("day", False), ("night", True)):
        pair = demo.pair(night=night)
        for folder, file in (("ir", pair.infrared), ("vis", pair.visible)):
            Path(folder).mkdir(exist_ok=True)
            shutil.copyfile(file, Path(folder, f"{name}.png"))
    return ["ir", "vis", "fused"]


def main(arguments: list[str]) -> None:
    """Fuses images of the same name, and lists how far to trust each."""
    infrared, visible, out = map(Path, arguments or demo_folders())
    out.mkdir(parents=True, exist_ok=True)
    model = umfuse.load()  # once for all pairs
    found = []
    for ir in sorted(infrared.iterdir()):
        fusion = umfuse.fuse(ir, visible / ir.name, weights=model)
        fusion.save(out / ir.name)
        found.append((fusion.registration.confidence, ir.name))
    for confidence, name in sorted(found):
        print(f"{confidence:.2f} {out / name}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Writes a rendered pair and its truth: `python -m benchmarks.scenes --out DIR`.

The pairs of `umfuse demo` are written so:

    python -m benchmarks.scenes --out src/umfuse/demo/day
    python -m benchmarks.scenes --out src/umfuse/demo/night --night
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import scenes

from umfuse import images


def write(scene: scenes.Scene, folder: Path) -> None:
    """Writes ``infrared.png`` (16-bit), ``visible.png`` and ``truth.json``, the transform."""
    folder.mkdir(parents=True, exist_ok=True)
    images.save(scene.infrared, folder / "infrared.png")
    images.save(scene.visible, folder / "visible.png")
    truth = {"transform": scene.transform.tolist()}
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Renders what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--seed", type=int, default=0, help="which street and cameras")
    parser.add_argument("--night", action="store_true", help="a dark visible image")
    arguments = parser.parse_args()
    write(scenes.render(arguments.seed, night=arguments.night), arguments.out)


if __name__ == "__main__":
    main()

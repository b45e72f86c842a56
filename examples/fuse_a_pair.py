"""Fuses one pair: python examples/fuse_a_pair.py IR VIS OUT (or the demo's pair without them)."""

import sys

import umfuse
from umfuse import demo


def main(arguments: list[str]) -> None:
    """Writes the fused image and says how far to trust the alignment."""
    ir, vis, out = arguments or (*demo.pair()[:2], "fused.png")
    fusion = umfuse.fuse(ir, vis)
    fusion.save(out)
    print(out, "confidence", round(fusion.registration.confidence, 2))


if __name__ == "__main__":
    main(sys.argv[1:])

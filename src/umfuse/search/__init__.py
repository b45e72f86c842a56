"""Global alignment of an infrared and a visible camera: no learning, no parameters.

Both images are reduced to the orientation of their gradients, with the angle doubled so that a hot
object on a cold ground and its inverse look the same (`features`), at a few sizes that transforms
lay, and turn, where they will (`view`). A grid of scales, aspects and rotations is correlated over
all translations by FFT (`correlation`); the best peaks, and plain resizing, are refined to affine
maps (`ecc`) and compared (`likelihood`); the winner is refined to a homography (`homography`).
`transform` holds the order of these steps, `known` what a caller knows before they begin.
"""

from __future__ import annotations

from umfuse.search.features import Similarity, orientation, similarity
from umfuse.search.known import NOTHING, Known
from umfuse.search.transform import SearchResult, find_transform
from umfuse.search.working import CONSTANT, is_constant

__all__ = [
    "CONSTANT",
    "NOTHING",
    "Known",
    "SearchResult",
    "Similarity",
    "find_transform",
    "is_constant",
    "orientation",
    "similarity",
]

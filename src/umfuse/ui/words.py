"""What is said to people of an alignment: how far to trust it, and what to do."""

from __future__ import annotations

from typing import Literal, NamedTuple

from umfuse.pipeline import DOUBTFUL
from umfuse.registration import Registration

SURE = 0.8
"""Confidence from which on nothing more than a look is asked for."""

Start = Literal["search", "points", "camera"]
"""What an alignment began with: nothing, the points of a person, or the placing of a camera."""

_LOOK = (
    "Look at the checkerboard: where lines break at the borders of the squares, it is wrong. Then "
    "mark the same three places in both images, below."
)
_MARK = (
    "Mark the same three places in both images, below. If you find none, the two cannot be "
    "aligned: take images of the same scene, of the same moment, with more to see in both."
)


class Words(NamedTuple):
    """What is said of an alignment.

    Attributes:
        level: How good the news is.
        title: The result in a few words.
        meaning: What the confidence says of it.
        advice: What to do now.
    """

    level: Literal["good", "unsure", "poor"]
    title: str
    meaning: str
    advice: str


def of(registration: Registration, start: Start) -> Words:
    """Returns what is to be said of a registration.

    Args:
        registration: As `umfuse.fuse` has used it, with its default of `min_confidence`.
        start: What it began with.
    """
    confidence = registration.confidence
    number = f"Confidence {confidence:.2f}, where 1 is sure and 0 is chance"
    if confidence >= SURE:
        by = {"search": "", "points": " from your points", "camera": " from the camera's placing"}
        return Words(
            "good",
            f"Aligned{by[start]}",
            f"{number}: the edges of the two images agree much better than chance would have it.",
            "Move the slider: what you see should go on from one image to the other.",
        )
    if confidence >= DOUBTFUL:
        return Words(
            "unsure",
            "Perhaps aligned",
            f"{number}: the two images speak for this alignment, but not clearly.",
            _LOOK,
        )
    doubt = f"{number}; below {DOUBTFUL:.2f} what was found is not used."
    if start == "points":
        return Words(
            "poor",
            "Only as your points say",
            f"{doubt} The infrared image lies exactly as your three points place it.",
            "Look at the checkerboard, and move the points that are off.",
        )
    if start == "camera":
        return Words(
            "poor",
            "Only as the camera says",
            f"{doubt} The infrared image lies where the camera's own placing has it.",
            _LOOK,
        )
    return Words(
        "poor",
        "Not aligned",
        f"{doubt} The infrared image is only resized to the visible one.",
        _MARK,
    )

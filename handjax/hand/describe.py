"""A hand's pose in words, from its 21 keypoints: captions for training and prompts for repair."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

FINGERS = {
    "thumb": (1, 2, 3, 4),
    "index": (5, 6, 7, 8),
    "middle": (9, 10, 11, 12),
    "ring": (13, 14, 15, 16),
    "little": (17, 18, 19, 20),
}
# Share of the finger's chain length that its ends must span to count as extended: a PIP bend of about 60 degrees.
EXTENDED_STRAIGHTNESS = 0.88


def extended_fingers(keypoints: Float[np.ndarray, "21 3"]) -> tuple[str, ...]:
    """Names the fingers that are held straight.

    Args:
      keypoints: 21 points in OpenPose order, 3-D, any unit (world landmarks; pixels foreshorten).

    Returns:
      Names from thumb to little finger.
    """
    straight = []
    for name, chain in FINGERS.items():
        points = keypoints[list(chain)]
        length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
        if np.linalg.norm(points[-1] - points[0]) > EXTENDED_STRAIGHTNESS * length:
            straight.append(name)
    return tuple(straight)


def describe_hand(keypoints: Float[np.ndarray, "21 3"], side: str) -> str:
    """Says which hand it is and which fingers are extended, as in "left hand, index and middle fingers extended".

    Args:
      keypoints: as in `extended_fingers`.
      side: "left" or "right".

    Returns:
      A lower-case phrase without an article.
    """
    return describe_fingers(extended_fingers(keypoints), side)


def describe_fingers(fingers: Sequence[str], side: str) -> str:
    """What `describe_hand` says of a hand whose extended fingers are these, from thumb to little finger."""
    if len(fingers) == len(FINGERS):
        return f"open {side} hand, all fingers extended"
    if not fingers:
        return f"closed {side} hand, a fist"
    if len(fingers) == 1:
        return f"{side} hand, {fingers[0]} finger extended"
    return f"{side} hand, {', '.join(fingers[:-1])} and {fingers[-1]} fingers extended"


def with_article(phrase: str) -> str:
    """Puts "a" or "an" before a phrase."""
    return f"{'an' if phrase[:1] in 'aeiou' else 'a'} {phrase}"

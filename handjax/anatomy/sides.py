"""Left and right: what keypoints in space say of the side, and how alike both hands of one person are.

A detector names the side by the picture's looks. The keypoints tell it too: the thumb stands and the fingers bend
before the palm, not behind it.
"""

import numpy as np
from jaxtyping import Float

from handjax.anatomy.features import BONE_NAMES, HandFeatures, hand_frame_is_defined
from handjax.perception.hands import Side

LEAST_DEPTH = 0.1
"""Palm lengths by which the thumb's tip, and on average all tips, stand before or behind the palm to tell the side."""
MOST_UNLIKE = 0.3
"""Mean absolute logarithm of the ratio of bones' lengths from which on two hands do not seem to be of one person."""


def side_of_keypoints(world: Float[np.ndarray, "21 3"]) -> Side | None:
    """Tells the side by the triple product of palm and thumb; None where thumb and fingers lie in the palm's plane.

    Args:
      world: camera axes (x right, y down, z forward), any unit.

    Source:
      The right-hand rule; thresholds measured, see docs/anatomy.md.
    """
    if not hand_frame_is_defined(world):
        return None
    across = np.cross(world[5] - world[0], world[17] - world[0])
    palm = across / np.linalg.norm(across) / np.linalg.norm(world[9] - world[0])
    thumb = float((world[4] - world[0]) @ palm)
    fingers = float(((world[8::4] - world[5::4]) @ palm).mean())
    if min(abs(thumb), abs(thumb + fingers)) < LEAST_DEPTH or thumb * (thumb + fingers) < 0:
        return None
    return "right" if thumb > 0 else "left"


def side_doubt(detected: Side, seen: Side | None) -> str | None:
    """Words for a hand whose keypoints show the other side than the detector names."""
    if seen in (None, detected):
        return None
    return f"looks like a {seen} hand by its thumb, a {detected} hand by the detector"


def unlike_bones(left: HandFeatures, right: HandFeatures) -> tuple[float, str]:
    """How unlike both hands are in the lengths of their bones.

    Returns:
      Mean over all bones of the absolute logarithm of the ratio of their lengths in palms, and the bone that differs
      most, in words.
    """
    logs = np.log(np.asarray(left.bone_ratios, np.float64) / np.asarray(right.bone_ratios, np.float64))
    worst = int(np.abs(logs).argmax())
    return float(np.abs(logs).mean()), f"left {BONE_NAMES[worst]} {np.exp(logs[worst]):.2f} times the right one"

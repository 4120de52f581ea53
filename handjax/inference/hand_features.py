"""What is measured of a hand, as JSON: angles in degrees, lengths in palms, and the side that its keypoints show."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from handjax.anatomy.features import ANGLE_NAMES, BONE_NAMES, HandFeatures, hand_frame_is_defined, measure
from handjax.anatomy.sides import MOST_UNLIKE, unlike_bones
from handjax.hand.topology import FINGERS
from handjax.perception import DetectedHand

UNLIKE = "left and right hand differ in their bones"
_measure = jax.jit(measure)


def features_of(hand: DetectedHand) -> HandFeatures | None:
    """Measures a hand as the side that the detector names; None where its keypoints in space span no palm."""
    if not hand_frame_is_defined(hand.world):
        return None
    return jax.device_get(_measure(hand.world, np.array(hand.side == "right")))


def features_item(features: HandFeatures) -> dict[str, Any]:
    """Features by the names of joints, fingers and bones; the JSON contract has them (docs/design.md)."""
    named = {
        "flexion": (ANGLE_NAMES, np.degrees(features.flexion), 1),
        "abduction": (ANGLE_NAMES, np.degrees(features.abduction), 1),
        "digit_ratios": (FINGERS, features.digit_ratios, 3),
        "bone_ratios": (BONE_NAMES, features.bone_ratios, 3),
    }
    return {
        name: dict(zip(keys, np.asarray(values, np.float64).round(digits).tolist(), strict=True))
        for name, (keys, values, digits) in named.items()
    }


def pair_item(hands: Sequence[DetectedHand]) -> dict[str, Any] | None:
    """Compares the bones of a left and a right hand that are alone in a picture; None where it shows anything else.

    Returns:
      "difference", of `unlike_bones`, and "unlike": in words what differs most where that is too much, else None.
    """
    by_side = {hand.side: features_of(hand) for hand in hands}
    left, right = by_side.get("left"), by_side.get("right")
    if len(hands) != 2 or left is None or right is None:
        return None
    difference, words = unlike_bones(left, right)
    return {"difference": round(difference, 4), "unlike": words if difference > MOST_UNLIKE else None}

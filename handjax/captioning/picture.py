"""A picture that is to be captioned, with what is known of it."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from handjax.perception import DetectedHand

PART_WITHIN, PART_SIZE = 0.8, 0.6
"""A found hand is a part of another one if this share of its box is in the other's, and it is smaller than this."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """What the three steps see.

    Attributes:
      image: RGB.
      given: the caption that the picture came with; "" where it has none.
      find_hands: a detector, asked only where the hands are needed.
    """

    image: UInt8[np.ndarray, "height width 3"]
    given: str
    find_hands: Callable[[UInt8[np.ndarray, "height width 3"]], list[DetectedHand]]

    @functools.cached_property
    def hands(self) -> list[DetectedHand]:
        """The hands, from left to right, without those that are a part of another one, found twice."""
        found = self.find_hands(self.image)
        whole = [hand for hand in found if not any(_is_part(hand, other) for other in found)]
        return sorted(whole, key=lambda hand: float(hand.box[0] + hand.box[2]))


def _is_part(hand: DetectedHand, other: DetectedHand) -> bool:
    """Whether a hand lies within a much larger one, as fingers do that the detector takes for a hand."""
    own, others = np.ptp(hand.box.reshape(2, 2), axis=0), np.ptp(other.box.reshape(2, 2), axis=0)
    common = np.minimum(hand.box[2:], other.box[2:]) - np.maximum(hand.box[:2], other.box[:2])
    inside = np.prod(np.maximum(common, 0)) >= PART_WITHIN * np.prod(own)
    return bool(inside and own.max() < PART_SIZE * others.max())

"""A picture that is to be captioned, with what is known of it."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from handjax.perception import DetectedHand


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
        """The hands, from left to right."""
        return sorted(self.find_hands(self.image), key=lambda hand: float(hand.box[0] + hand.box[2]))

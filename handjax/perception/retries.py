"""Looks again, ever harder, at pictures in which no hand was found: malformed hands are missed more than others."""

import dataclasses
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from handjax.perception.detector import HandDetector
from handjax.perception.hands import DetectedHand
from handjax.perception.tiles import SMALLEST_TILE

LOWER_SCORE = 0.25
AT_ONCE, TILES, LOWER_THRESHOLD = "at once", "tiles", "lower threshold"
TURNS = {1: "turned by 90°", 3: "turned by 270°", 2: "turned by 180°"}
"""Quarter turns against the clock and what they are called."""


class Found(NamedTuple):
    """The hands of a picture and the attempt that found them; None where all failed."""

    hands: list[DetectedHand]
    by: str | None


@dataclasses.dataclass(frozen=True)
class SearchingDetector:
    """Tries the picture as it is, turned, in tiles and with a lower threshold, until something is found.

    The cheap attempts come first: three more looks at the whole picture, then one at each of its tiles. The last one is
    cheap too, but what it finds is the least sure.
    """

    max_hands: int

    @cached_property
    def _plain(self) -> HandDetector:
        return HandDetector.load(max_hands=self.max_hands)

    @cached_property
    def _tiled(self) -> HandDetector:
        return HandDetector.load(max_hands=self.max_hands, tiled=True)

    @cached_property
    def _lower(self) -> HandDetector:
        return HandDetector.load(max_hands=self.max_hands, min_score=LOWER_SCORE)

    def detect(self, image: UInt8[np.ndarray, "height width 3"], *, retry: bool = True) -> Found:
        """Finds hands; without `retry` only as `HandDetector` does."""
        if hands := self._plain.detect(image):
            return Found(hands, AT_ONCE)
        if not retry:
            return Found([], None)
        for turns, name in TURNS.items():
            if hands := self._plain.detect(np.ascontiguousarray(np.rot90(image, turns))):
                return Found([turn_back(hand, turns, image.shape[:2]) for hand in hands], name)
        if max(image.shape[:2]) > SMALLEST_TILE and (hands := self._tiled.detect(image)):
            return Found(hands, TILES)
        hands = self._lower.detect(image)
        return Found(hands, LOWER_THRESHOLD if hands else None)


def turn_back(hand: DetectedHand, turns: int, shape: tuple[int, ...]) -> DetectedHand:
    """Carries a hand into its picture, which was turned for the detector.

    Args:
      hand: in `np.rot90(picture, turns)`.
      turns: quarter turns against the clock, 1 to 3.
      shape: height and width of the picture.
    """
    height, width = shape
    corner = {1: (width, 0), 2: (width, height), 3: (0, height)}[turns]  # where the turned picture's first corner lies
    cosine, sine = round(np.cos(turns * np.pi / 2)), round(np.sin(turns * np.pi / 2))
    back = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]], np.float32)
    keypoints = hand.keypoints @ back.T + np.array([*corner, 0], np.float32)
    return DetectedHand.from_landmarks(hand.side, hand.score, keypoints, hand.world @ back.T)

"""Room about a hand that fills its picture: without it MediaPipe's palm detector misses many.

The margin is what generated pictures, crops and those of the anatomy guide are all looked at with.
"""

import numpy as np
from jaxtyping import Int, UInt8

from handjax.perception.detector import HandDetector
from handjax.perception.hands import DetectedHand

SHARE = 4
"""The margin is one part in so many of a side, on each edge."""


def margins(shape: tuple[int, ...]) -> tuple[int, int]:
    """Pixels by which a picture of a shape (height, width, …) grows above and below, and to the left and right."""
    height, width = shape[:2]
    return height // SHARE, width // SHARE


def add_margin(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "wide_height wide_width 3"]:
    """Widens a picture on all edges by `margins` of copies of its edge pixels."""
    return np.pad(image, (*((margin, margin) for margin in margins(image.shape)), (0, 0)), mode="edge")


def origin(shape: tuple[int, ...]) -> Int[np.ndarray, "2"]:
    """x and y in the widened picture, in pixels, of the first pixel of a picture of a shape."""
    return np.array(margins(shape)[::-1])


def detect_with_margin(detector: HandDetector, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedHand]:
    """Finds the hands of a picture in its widened copy.

    Args:
      detector: finds them.
      image: the picture.

    Returns:
      The hands, in pixels of `image`; keypoints may lie outside it.
    """
    move = np.append(origin(image.shape), 0).astype(np.float32)
    return [
        DetectedHand.from_landmarks(hand.side, hand.score, hand.keypoints - move, hand.world)
        for hand in detector.detect(add_margin(image))
    ]

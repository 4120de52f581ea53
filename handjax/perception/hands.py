"""What a detector says about a hand."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float

Side = Literal["left", "right"]


@dataclasses.dataclass(frozen=True)
class DetectedHand:
    """One hand in a picture.

    Attributes:
      side: which hand of the person it is.
      score: probability of `side`, the one score that MediaPipe reports of a hand; in [0.5, 1].
      box: x0, y0, x1, y1 of the keypoints, pixels.
      keypoints: x and y in pixels, depth in about the same scale and relative to the wrist; OpenPose order.
      world: metres about the hand's centre, camera axes (x right, y down, z forward).
    """

    side: Side
    score: float
    box: Float[np.ndarray, "4"]
    keypoints: Float[np.ndarray, "21 3"]
    world: Float[np.ndarray, "21 3"]

    @classmethod
    def from_landmarks(
        cls, side: Side, score: float, keypoints: Float[np.ndarray, "21 3"], world: Float[np.ndarray, "21 3"]
    ) -> "DetectedHand":
        """Adds the tight box of the keypoints."""
        places = keypoints[:, :2]
        box = np.concatenate([places.min(axis=0), places.max(axis=0)])
        return cls(side, score, box, keypoints, world)

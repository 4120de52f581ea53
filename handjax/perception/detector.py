"""The hand detector a user calls: `HandDetector.load().detect(image)`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from handjax.errors import ConfigError, InputError
from handjax.perception.flax_backend import FlaxBackend
from handjax.perception.hands import DetectedHand
from handjax.perception.mediapipe_backend import MediaPipeBackend

TASK_FILE = Path(__file__).parents[1] / "assets" / "hand_landmarker.task"
MIN_SCORE = 0.5
"""MediaPipe's own threshold."""


@runtime_checkable
class Backend(Protocol):
    """What finds hands in one picture."""

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedHand]: ...


BACKENDS: dict[str, Callable[[Path, int, float], Backend]] = {"flax": FlaxBackend, "mediapipe": MediaPipeBackend}


def check_settings(max_hands: int, min_score: float) -> None:
    """Raises ConfigError where a setting is out of its range."""
    if max_hands < 1:
        raise ConfigError(f"max_hands is {max_hands}; it must be at least 1")
    if not 0.0 <= min_score <= 1.0:
        raise ConfigError(f"min_score is {min_score}; it must be between 0 and 1")


@dataclasses.dataclass(frozen=True)
class HandDetector:
    """Finds hands in pictures of any size."""

    backend: Backend

    @classmethod
    def load(
        cls,
        backend: str = "flax",
        max_hands: int = 2,
        min_score: float = MIN_SCORE,
        task: Path = TASK_FILE,
        tiled: bool = False,
    ) -> "HandDetector":
        """Loads the two networks.

        Args:
          backend: "flax", or "mediapipe" for the official Tasks API on the same weights.
          max_hands: how many hands to find at most.
          min_score: least score of a palm and least presence of a hand.
          task: a MediaPipe `hand_landmarker.task`; the embedded one by default.
          tiled: look through overlapping squares of the picture too, for hands down to 24 pixels; slow.

        Raises:
          ConfigError: no such backend, tiles with another backend than "flax", or a setting out of its range.
          BackendError: MediaPipe cannot be loaded on this machine.
          WeightsError: `task` cannot be read.
        """
        if backend not in BACKENDS:
            raise ConfigError(f"no backend {backend!r}; choose {' or '.join(BACKENDS)}")
        check_settings(max_hands, min_score)
        if not tiled:
            return cls(BACKENDS[backend](task, max_hands, min_score))
        if backend != "flax":
            raise ConfigError(f"the {backend} backend knows no tiles; use the flax backend")
        return cls(FlaxBackend(task, max_hands, min_score, tiled))

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedHand]:
        """Finds hands, the surest palm first; an empty list where there is none."""
        return self.backend.detect(image)

    def read(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        boxes: Float[np.ndarray, "boxes 4"] | None = None,
        keypoints: Float[np.ndarray, "hands 21 2"] | None = None,
    ) -> list[DetectedHand]:
        """Reads hands at given places, instead of looking for them; every one is returned, however doubtful.

        Args:
          image: the picture.
          boxes: x0, y0, x1, y1 about each hand, pixels.
          keypoints: x and y of each hand's keypoints, pixels, which the result keeps.

        Raises:
          InputError: a box or hand that is empty, not finite or wholly outside of the picture.
          ConfigError: a backend that cannot read at given places.
        """
        if not isinstance(self.backend, FlaxBackend):
            raise ConfigError("this backend takes no boxes or keypoints; use the flax backend")
        boxes = np.zeros((0, 4)) if boxes is None else np.asarray(boxes)
        keypoints = np.zeros((0, 21, 2)) if keypoints is None else np.asarray(keypoints)
        if boxes.shape[1:] != (4,) or keypoints.shape[1:] != (21, 2):
            raise InputError(f"boxes {boxes.shape} or keypoints {keypoints.shape}; give n x 4 or n x 21 x 2 numbers")
        extents = np.concatenate([boxes[:, 2:] - boxes[:, :2], np.ptp(keypoints, axis=1)])
        if not (np.isfinite(boxes).all() and np.isfinite(keypoints).all() and (extents > 0).all()):
            raise InputError("a hand's box or keypoints are empty or not finite; give x0 < x1 and y0 < y1 in pixels")
        first = np.concatenate([boxes[:, :2], keypoints.min(axis=1)])
        last, (height, width) = first + extents, image.shape[:2]
        if not ((first < [width, height]) & (last > 0)).all():
            raise InputError(f"a hand's box or keypoints are outside of the picture, which is {width}x{height} pixels")
        return self.backend.read(image, boxes, keypoints)

"""The hand detector a user calls: `HandDetector.load().detect(image)`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from handjax.errors import ConfigError
from handjax.perception.flax_backend import FlaxBackend
from handjax.perception.hands import DetectedHand
from handjax.perception.mediapipe_backend import MediaPipeBackend

TASK_FILE = Path(__file__).parents[1] / "assets" / "hand_landmarker.task"


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
        cls, backend: str = "flax", max_hands: int = 2, min_score: float = 0.5, task: Path = TASK_FILE
    ) -> "HandDetector":
        """Loads the two networks.

        Args:
          backend: "flax", or "mediapipe" for the official Tasks API on the same weights.
          max_hands: how many hands to find at most.
          min_score: least score of a palm and least presence of a hand.
          task: a MediaPipe `hand_landmarker.task`; the embedded one by default.

        Raises:
          ConfigError: no such backend, or a setting out of its range.
          BackendError: MediaPipe cannot be loaded on this machine.
          WeightsError: `task` cannot be read.
        """
        if backend not in BACKENDS:
            raise ConfigError(f"no backend {backend!r}; choose {' or '.join(BACKENDS)}")
        check_settings(max_hands, min_score)
        return cls(BACKENDS[backend](task, max_hands, min_score))

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedHand]:
        """Finds hands, the surest palm first; an empty list where there is none."""
        return self.backend.detect(image)

"""The official detector: MediaPipe's Tasks API on the same weights."""

import atexit
import os
import weakref
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from handjax.errors import BackendError, WeightsError
from handjax.perception.hands import DetectedHand

_open_landmarkers: weakref.WeakSet = weakref.WeakSet()


@atexit.register
def _close_landmarkers() -> None:
    """Registered before MediaPipe's own exit handler, so it runs after it: left open, they print tracebacks."""
    for landmarker in list(_open_landmarkers):
        landmarker.close()


class MediaPipeBackend:
    """Detects hands in one picture at a time with `mediapipe.tasks.vision.HandLandmarker`."""

    def __init__(self, task: str | os.PathLike, max_hands: int, min_score: float):
        if not Path(task).is_file():
            raise WeightsError(f"{task}: no such file; give a MediaPipe hand_landmarker.task")
        try:
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision

            options = vision.HandLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(task)),
                num_hands=max_hands,
                min_hand_detection_confidence=min_score,
                min_hand_presence_confidence=min_score,
            )
            self._landmarker = vision.HandLandmarker.create_from_options(options)
        except (ImportError, OSError) as error:
            raise BackendError(
                f"MediaPipe cannot be loaded ({error}); install it and its system libraries "
                "(apt-get install libegl1 libgles2) or use the flax backend"
            ) from error
        except (RuntimeError, ValueError) as error:
            raise WeightsError(f"{task}: MediaPipe cannot read it ({error})") from error
        _open_landmarkers.add(self._landmarker)
        self._mediapipe = mediapipe

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedHand]:
        """Finds hands in a picture."""
        height, width = image.shape[:2]
        wrapped = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        result = self._landmarker.detect(wrapped)
        scale = np.array([width, height, width], np.float32)
        return [
            DetectedHand.from_landmarks(
                side="right" if handedness[0].category_name == "Right" else "left",
                score=float(handedness[0].score),
                keypoints=_points(landmarks) * scale,
                world=_points(world),
            )
            for landmarks, world, handedness in zip(
                result.hand_landmarks, result.hand_world_landmarks, result.handedness, strict=True
            )
        ]


def _points(landmarks) -> np.ndarray:
    return np.array([[point.x, point.y, point.z] for point in landmarks], np.float32)

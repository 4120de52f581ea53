"""The default detector: MediaPipe's hand landmarker as pure JAX functions."""

import dataclasses
import os
from functools import partial
from typing import Any

import flax.struct
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from handjax.perception.hands import DetectedHand
from handjax.perception.landmarks import Hands, drop_duplicates, place_hand
from handjax.perception.networks import LANDMARK_SIZE, PALM_SIZE, LandmarkNetwork, PalmDetector
from handjax.perception.palm import decode_palms, hand_region, suppress
from handjax.perception.regions import Picture, Region, cut_out, letterbox_region, pad_picture
from handjax.perception.tflite import load_parameters

# GPUs and TPUs shorten float32 products by default; points would move
_PRECISION = "float32"


@flax.struct.dataclass
class HandWeights:
    """Variables of the two networks."""

    palm: dict[str, Any]
    landmark: dict[str, Any]


def load_weights(task: str | os.PathLike) -> HandWeights:
    """Reads both networks out of a `hand_landmarker.task`; raises WeightsError where that fails."""
    return HandWeights(
        palm=load_parameters(task, "hand_detector.tflite", PalmDetector(), PALM_SIZE),
        landmark=load_parameters(task, "hand_landmarks_detector.tflite", LandmarkNetwork(), LANDMARK_SIZE),
    )


def detect_hands(weights: HandWeights, picture: Picture, max_hands: int, min_score: float) -> Hands:
    """Finds hands: pure, static shapes, `jit`- and `vmap`-able, differentiable in the picture.

    Args:
      weights: both networks.
      picture: a picture's pixels, 0 to 255, and its size.
      max_hands: length of the result (static).
      min_score: least score of a palm and least presence of a hand.

    Returns:
      Up to `max_hands` hands, the surest palm first; those that are none are not `valid`.
    """
    regions, found = find_regions(weights, picture, max_hands, min_score)
    hands = jax.vmap(read_hand, in_axes=(None, None, 0, None))(weights, picture, regions, min_score)
    return drop_duplicates(dataclasses.replace(hands, valid=hands.valid & found))


def find_regions(
    weights: HandWeights, picture: Picture, max_hands: int, min_score: float
) -> tuple[Region, Bool[Array, " hands"]]:
    """Detects palms; returns the regions around their hands and which of them are valid."""
    frame = _letterbox(picture)
    return _palm_regions(weights.palm, frame, picture.size, max_hands, min_score)


def read_hand(weights: HandWeights, picture: Picture, region: Region, min_score: float) -> Hands:
    """Reads the one hand in a region of a picture."""
    crop = _crop(picture, region)
    return _place(weights.landmark, crop, region, min_score)


# Only these two see the picture, so a new picture size recompiles them and not the networks.
@jax.jit
def _letterbox(picture: Picture) -> Float[Array, "size size 3"]:
    return cut_out(picture, letterbox_region(picture.size), PALM_SIZE, black_outside=True)


@jax.jit
def _crop(picture: Picture, region: Region) -> Float[Array, "size size 3"]:
    return cut_out(picture, region, LANDMARK_SIZE, black_outside=False)


@partial(jax.jit, static_argnames="max_hands")
def _palm_regions(variables, frame, size, max_hands, min_score):
    with jax.default_matmul_precision(_PRECISION):
        boxes, logits = PalmDetector().apply(variables, frame[None])
    palms = suppress(decode_palms(boxes[0], logits[0], min_score), max_hands)
    regions = jax.vmap(hand_region, in_axes=(0, 0, None))(palms.boxes, palms.keypoints, letterbox_region(size))
    return regions, palms.valid


@jax.jit
def _place(variables, crop, region, min_score):
    with jax.default_matmul_precision(_PRECISION):
        landmarks, presence, right, world = LandmarkNetwork().apply(variables, crop[None])
    return place_hand(landmarks[0], presence[0], right[0], world[0], region, min_score)


_drop_duplicates = jax.jit(drop_duplicates)


class FlaxBackend:
    """Detects hands in one picture at a time; reads only the regions that hold a palm."""

    def __init__(self, task: str | os.PathLike, max_hands: int, min_score: float):
        self._weights = jax.device_put(load_weights(task))
        self._max_hands = max_hands
        self._min_score = min_score

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedHand]:
        """Finds hands in a picture."""
        picture = pad_picture(image)
        regions, found = jax.device_get(find_regions(self._weights, picture, self._max_hands, self._min_score))
        hands = [
            read_hand(self._weights, picture, jax.tree.map(lambda x, i=i: x[i], regions), self._min_score)
            for i in np.flatnonzero(found)
        ]
        if not hands:
            return []
        hands = jax.tree.map(lambda *fields: np.stack(fields), *jax.device_get(hands))
        return to_list(jax.device_get(_drop_duplicates(hands)))


def to_list(hands: Hands) -> list[DetectedHand]:
    """The valid hands, on the host."""
    return [
        DetectedHand.from_landmarks(
            side="right" if hands.right[i] >= 0.5 else "left",
            score=float(max(hands.right[i], 1 - hands.right[i])),
            keypoints=np.asarray(hands.keypoints[i]),
            world=np.asarray(hands.world[i]),
        )
        for i in np.flatnonzero(hands.valid)
    ]

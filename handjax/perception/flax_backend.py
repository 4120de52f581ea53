"""The default detector: MediaPipe's hand landmarker as pure JAX functions."""

import dataclasses
import os
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from handjax.perception.hands import DetectedHand
from handjax.perception.landmarks import Hands, drop_duplicates, landmark_region, place_hand
from handjax.perception.networks import LANDMARK_SIZE, PALM_SIZE, LandmarkNetwork, PalmDetector
from handjax.perception.palm import Palms, decode_palms, hand_region, suppress
from handjax.perception.regions import Picture, Region, cut_out, letterbox_region, pad_picture
from handjax.perception.tflite import load_parameters
from handjax.perception.tiles import Tiles, in_picture, lay_tiles

# GPUs and TPUs shorten float32 products by default; points would move
_PRECISION = "float32"
_BOX_MARGIN = 1.4  # side of the square that is read for a tight box, in sides of the box
_CANDIDATES = 4


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
    frame = _frame(picture, letterbox_region(picture.size))
    return _palm_regions(weights.palm, frame, picture.size, max_hands, min_score)


def find_tile_palms(
    weights: HandWeights,
    picture: Picture,
    region: Region,
    core: Float[Array, "4"],
    max_palms: int,
    min_score: float,
) -> Palms:
    """Detects the palms, pixels, in one of a picture's tiles."""
    return _tile_palms(weights.palm, _frame(picture, region), region, core, max_palms, min_score)


def merge_palms(palms: Palms, max_hands: int) -> tuple[Region, Bool[Array, " hands"]]:
    """Makes one palm of those that several tiles found; returns the regions around the hands and which are valid.

    Args:
      palms: of all tiles, pixels.
      max_hands: length of the result (static).
    """
    pixels = Region(center=jnp.full(2, 0.5), side=jnp.float32(1.0), rotation=jnp.float32(0.0))
    best = suppress(palms, max_hands)
    return jax.vmap(hand_region, in_axes=(0, 0, None))(best.boxes, best.keypoints, pixels), best.valid


def read_box(weights: HandWeights, picture: Picture, box: Float[Array, "4"]) -> Hands:
    """Reads the hand in a box that somebody gave, turned as it may be; it is `valid` whatever its presence.

    Of four readings, the box turned by quarters, that of the greatest presence says where to read the hand.

    Args:
      weights: both networks.
      picture: a picture's pixels, 0 to 255, and its size.
      box: x0, y0, x1, y1 about the hand, pixels.
    """
    side = _BOX_MARGIN * jnp.maximum(box[2] - box[0], box[3] - box[1])

    def read(quarter):
        return read_hand(weights, picture, Region((box[:2] + box[2:]) / 2, side, quarter * jnp.pi / 2), 0.0)

    tries = jax.lax.map(read, jnp.arange(4.0))
    best = tries.keypoints[jnp.argmax(tries.presence), :, :2]
    return read_hand(weights, picture, landmark_region(best), 0.0)


def read_keypoints(weights: HandWeights, picture: Picture, keypoints: Float[Array, "21 2"]) -> Hands:
    """Reads what keypoints that somebody gave do not say: depth, side, world landmarks; x and y stay as given."""
    hand = read_hand(weights, picture, landmark_region(keypoints), 0.0)
    return dataclasses.replace(hand, keypoints=hand.keypoints.at[:, :2].set(keypoints))


def read_hand(weights: HandWeights, picture: Picture, region: Region, min_score: float) -> Hands:
    """Reads the one hand in a region of a picture."""
    crop = _crop(picture, region)
    return _place(weights.landmark, crop, region, min_score)


# Only these see the picture, so a new picture size recompiles them and not the networks.
@jax.jit
def _frame(picture: Picture, region: Region) -> Float[Array, "size size 3"]:
    return cut_out(picture, region, PALM_SIZE, black_outside=True)


@jax.jit
def _crop(picture: Picture, region: Region) -> Float[Array, "size size 3"]:
    return cut_out(picture, region, LANDMARK_SIZE, black_outside=False)


def _palms(variables, frame, max_palms, min_score):
    with jax.default_matmul_precision(_PRECISION):
        boxes, logits = PalmDetector().apply(variables, frame[None])
    return suppress(decode_palms(boxes[0], logits[0], min_score), max_palms)


@partial(jax.jit, static_argnames="max_palms")
def _tile_palms(variables, frame, region, core, max_palms, min_score):
    return in_picture(_palms(variables, frame, max_palms, min_score), region, core)


@partial(jax.jit, static_argnames="max_hands")
def _palm_regions(variables, frame, size, max_hands, min_score):
    palms = _palms(variables, frame, max_hands, min_score)
    regions = jax.vmap(hand_region, in_axes=(0, 0, None))(palms.boxes, palms.keypoints, letterbox_region(size))
    return regions, palms.valid


@jax.jit
def _place(variables, crop, region, min_score):
    with jax.default_matmul_precision(_PRECISION):
        landmarks, presence, right, world = LandmarkNetwork().apply(variables, crop[None])
    return place_hand(landmarks[0], presence[0], right[0], world[0], region, min_score)


_drop_duplicates = jax.jit(drop_duplicates)
_merge_palms = jax.jit(merge_palms, static_argnames="max_hands")
_read_box = jax.jit(read_box)
_read_keypoints = jax.jit(read_keypoints)


class FlaxBackend:
    """Detects hands in one picture at a time; reads only the regions that hold a palm."""

    def __init__(self, task: str | os.PathLike, max_hands: int, min_score: float, tiled: bool = False):
        self._weights = jax.device_put(load_weights(task))
        self._max_hands = max_hands
        self._min_score = min_score
        self._tiled = tiled

    def detect(self, image: UInt8[np.ndarray, "height width 3"]) -> list[DetectedHand]:
        """Finds hands in a picture."""
        picture = pad_picture(image)
        if self._tiled:
            regions, found = self._find_in_tiles(picture, jax.device_get(lay_tiles(*image.shape[:2])))
        else:
            regions, found = find_regions(self._weights, picture, self._max_hands, self._min_score)
        regions, found = jax.device_get((regions, found))
        hands = [read_hand(self._weights, picture, _item(regions, i), self._min_score) for i in np.flatnonzero(found)]
        return to_list(jax.device_get(_drop_duplicates(_stack(hands))))[: self._max_hands] if hands else []

    def read(
        self,
        image: UInt8[np.ndarray, "height width 3"],
        boxes: Float[np.ndarray, "boxes 4"],
        keypoints: Float[np.ndarray, "hands 21 2"],
    ) -> list[DetectedHand]:
        """Reads the hands whose boxes or keypoints, pixels, are given, in this order, and looks for no others."""
        picture = pad_picture(image)
        hands = [_read_box(self._weights, picture, box) for box in boxes.astype(np.float32)]
        hands += [_read_keypoints(self._weights, picture, points) for points in keypoints.astype(np.float32)]
        return to_list(_stack(hands)) if hands else []

    def _find_in_tiles(self, picture: Picture, tiles: Tiles) -> tuple[Region, Bool[Array, " hands"]]:
        """Finds more than `max_hands` regions: what looks like a palm in a small square is often none."""
        each = (_item(tiles, i) for i in range(len(tiles.cores)))
        palms = [
            find_tile_palms(self._weights, picture, tile.regions, tile.cores, self._max_hands, self._min_score)
            for tile in each
        ]
        return _merge_palms(jax.tree.map(np.concatenate, _stack(palms)), max_hands=_CANDIDATES * self._max_hands)


def _item(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def _stack(trees):
    return jax.tree.map(lambda *fields: np.stack(fields), *jax.device_get(trees))


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

"""From the landmark network's raw output to hands in the picture."""

import dataclasses

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from handjax.perception.networks import LANDMARK_SIZE
from handjax.perception.regions import Region, rotate, to_picture

_DEPTH_SCALE = 0.4
_MATCH_DISTANCE, _MATCHES, _OVERLAP = 0.2, 10, 0.2
_REGION_SCALE, _REGION_SHIFT = 2.0, -0.1
_WRIST, _INDEX_KNUCKLE, _MIDDLE_KNUCKLE, _RING_KNUCKLE, _LITTLE_KNUCKLE = 0, 5, 9, 13, 17
_PALM = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)  # what moves little when fingers bend


@flax.struct.dataclass
class Hands:
    """Hands read out of their regions.

    Attributes:
      keypoints: x and y in pixels, depth in the same scale relative to the wrist.
      world: metres about the hand's centre.
      presence: probability that the region holds a hand.
      right: probability that it is a right hand.
      valid: this entry is a hand; entries are padded to a static number.
    """

    keypoints: Float[Array, "*hands 21 3"]
    world: Float[Array, "*hands 21 3"]
    presence: Float[Array, "*hands"]
    right: Float[Array, "*hands"]
    valid: Bool[Array, "*hands"]


def place_hand(
    landmarks: Float[Array, "21 3"],
    presence: Float[Array, ""],
    right: Float[Array, ""],
    world: Float[Array, "21 3"],
    region: Region,
    min_presence: float,
) -> Hands:
    """Carries one hand from its upright crop back into the picture.

    Source: MediaPipe's `TensorsToLandmarksCalculator`, `LandmarkProjectionCalculator` and
    `WorldLandmarkProjectionCalculator` as its hand landmarker sets them.
    """
    crop = landmarks / LANDMARK_SIZE
    depth = crop[:, 2:] / _DEPTH_SCALE * region.side
    return Hands(
        keypoints=jnp.concatenate([to_picture(crop[:, :2], region), depth], axis=-1),
        world=jnp.concatenate([rotate(world[:, :2], region.rotation), world[:, 2:]], axis=-1),
        presence=presence,
        right=right,
        valid=presence >= min_presence,
    )


def landmark_region(points: Float[Array, "21 2"]) -> Region:
    """The square in which to read a hand whose landmarks are known: twice its palm, turned with wrist to knuckles.

    Args:
      points: keypoints, pixels.

    Source: MediaPipe's `HandLandmarksToRectCalculator` and `RectTransformationCalculator` as its hand landmarker sets
    them.
    """
    knuckles = (points[_INDEX_KNUCKLE] + points[_RING_KNUCKLE]) / 4 + points[_MIDDLE_KNUCKLE] / 2
    x, y = knuckles - points[_WRIST]
    rotation = jnp.pi / 2 - jnp.arctan2(-y, x)
    upright = rotate(points[jnp.array(_PALM)], -rotation)
    low, high = upright.min(axis=0), upright.max(axis=0)
    center = (low + high) / 2 + (high - low) * jnp.array([0.0, _REGION_SHIFT])
    return Region(center=rotate(center, rotation), side=_REGION_SCALE * (high - low).max(), rotation=rotation)


def drop_duplicates(hands: Hands) -> Hands:
    """Marks as not valid the hands that an earlier hand already is.

    Two hands are one where at least 10 points lie within 0.2 palm sizes and their boxes overlap by more than 0.2.

    Source: MediaPipe's `HandLandmarksDeduplicationCalculator`.
    """
    places = hands.keypoints[..., :2]
    palm = places[:, jnp.array([_WRIST, _INDEX_KNUCKLE, _LITTLE_KNUCKLE])]
    palm_size = jnp.linalg.norm(palm - jnp.roll(palm, 1, axis=1), axis=-1).max(axis=-1)
    reach = _MATCH_DISTANCE * jnp.maximum(palm_size[:, None], palm_size[None])
    distances = jnp.linalg.norm(places[:, None] - places[None], axis=-1)
    matches = (distances < reach[..., None]).sum(axis=-1)
    same = (matches >= _MATCHES) & (_box_overlaps(places) > _OVERLAP)
    valid = hands.valid
    for later in range(1, valid.shape[0]):
        repeated = (same[later, :later] & valid[:later]).any()
        valid = valid.at[later].set(valid[later] & ~repeated)
    return dataclasses.replace(hands, valid=valid)


def _box_overlaps(places: Float[Array, "hands 21 2"]) -> Float[Array, "hands hands"]:
    low, high = places.min(axis=1), places.max(axis=1)
    sides = jnp.minimum(high[:, None], high[None]) - jnp.maximum(low[:, None], low[None])
    intersection = jnp.prod(jnp.maximum(sides, 0.0), axis=-1)
    area = jnp.prod(high - low, axis=-1)
    return intersection / jnp.maximum(area[:, None] + area[None] - intersection, jnp.finfo(area.dtype).tiny)

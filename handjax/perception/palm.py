"""From the palm detector's raw output to the regions in which hands are read."""

from functools import cache

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from handjax.perception.networks import PALM_SIZE
from handjax.perception.regions import Region, rotate, to_picture

_ANCHOR_GRIDS = ((24, 2), (12, 6))  # cells a side, anchors a cell
_OVERLAP = 0.3
_WRIST, _MIDDLE_KNUCKLE = 0, 2
_HAND_SCALE, _HAND_SHIFT = 2.6, -0.5
# the hand detector's graph of MediaPipe Tasks says 90 where radians are meant
_TARGET_ANGLE = 90.0


@flax.struct.dataclass
class Palms:
    """Palm detections: box corners x0, y0, x1, y1 and seven keypoints in [0, 1] of the detector's input."""

    boxes: Float[Array, "palms 4"]
    keypoints: Float[Array, "palms 7 2"]
    scores: Float[Array, " palms"]
    valid: Bool[Array, " palms"]


@cache
def anchor_centers() -> Float[np.ndarray, "2016 2"]:
    """Centres of the detector's anchors in [0, 1], finest grid first.

    Source: MediaPipe's `SsdAnchorsCalculator` with strides 8, 16, 16, 16, offset 0.5, anchors of fixed size.
    """
    grids = []
    for cells, anchors in _ANCHOR_GRIDS:
        steps = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        centers = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 1, 2)
        grids.append(np.repeat(centers, anchors, axis=1).reshape(-1, 2))
    return np.concatenate(grids)


def decode_palms(raw_boxes: Float[Array, "2016 18"], logits: Float[Array, "2016"], min_score: float) -> Palms:
    """Turns the network's output into boxes, keypoints and scores; `valid` are those of at least `min_score`."""
    anchors = jnp.asarray(anchor_centers())
    places = raw_boxes.reshape(-1, 9, 2) / PALM_SIZE
    center, extent = places[:, 0] + anchors, places[:, 1]
    scores = jax.nn.sigmoid(jnp.clip(logits, -100.0, 100.0))
    return Palms(
        boxes=jnp.concatenate([center - extent / 2, center + extent / 2], axis=-1),
        keypoints=places[:, 2:] + anchors[:, None],
        scores=scores,
        valid=(scores >= min_score) & (extent >= 0).all(axis=-1),
    )


def suppress(palms: Palms, max_palms: int) -> Palms:
    """Weighted non-maximum suppression: each best palm becomes the score-weighted mean of those that overlap it.

    Args:
      palms: all detections.
      max_palms: how many to return at most (static); the rest of the result is not `valid`.

    Returns:
      The best palms, best first.

    Source: Bazarevsky et al., BlazeFace, arXiv:1907.05047, section 3.4; overlap 0.3 as MediaPipe's hand detector.
    """

    def take_best(remaining, _):
        masked = jnp.where(remaining, palms.scores, -1.0)
        best = jnp.argmax(masked)
        cluster = remaining & (box_overlap(palms.boxes, palms.boxes[best]) > _OVERLAP)
        cluster = cluster.at[best].set(remaining[best])
        weights = jnp.where(cluster, palms.scores, 0.0)
        weights /= jnp.maximum(weights.sum(), jnp.finfo(weights.dtype).tiny)
        merged = Palms(
            boxes=weights @ palms.boxes,
            keypoints=jnp.einsum("a,akc->kc", weights, palms.keypoints),
            scores=palms.scores[best],
            valid=remaining[best],
        )
        return remaining & ~cluster, merged

    return jax.lax.scan(take_best, palms.valid, length=max_palms)[1]


def box_overlap(boxes: Float[Array, "palms 4"], box: Float[Array, "4"]) -> Float[Array, " palms"]:
    """Intersection over union of each palm box with one box; corners x0, y0, x1, y1, any unit."""
    sides = jnp.minimum(boxes[:, 2:], box[2:]) - jnp.maximum(boxes[:, :2], box[:2])
    intersection = jnp.prod(jnp.maximum(sides, 0.0), axis=-1)
    areas = jnp.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
    union = areas + jnp.prod(box[2:] - box[:2]) - intersection
    return jnp.where(union > 0, intersection / jnp.where(union > 0, union, 1.0), 0.0)


def hand_region(box: Float[Array, "4"], keypoints: Float[Array, "7 2"], frame: Region) -> Region:
    """The square around the whole hand, turned with the line from wrist to middle knuckle.

    Args:
      box: the palm's box in [0, 1] of the detector's input.
      keypoints: its keypoints, likewise.
      frame: the region of the picture that the detector saw.

    Returns:
      The hand's region, pixels of the picture.

    Source: MediaPipe's `DetectionsToRectsCalculator` and `RectTransformationCalculator` as its hand detector sets them.
    """
    corners = to_picture(box.reshape(2, 2), frame)
    wrist, knuckle = to_picture(keypoints[jnp.array([_WRIST, _MIDDLE_KNUCKLE])], frame)
    x, y = knuckle - wrist
    rotation = _TARGET_ANGLE - jnp.arctan2(-y, x)
    extent = corners[1] - corners[0]
    shift = rotate(extent * jnp.array([0.0, _HAND_SHIFT]), rotation)
    return Region(center=corners.mean(axis=0) + shift, side=_HAND_SCALE * extent.max(), rotation=rotation)

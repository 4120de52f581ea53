"""What the outline of a hand says of its fingers, beside keypoints that always show five.

The picture is parted into hand and background by colour; the keypoints only tell where the colours are learnt. The
outline can then contradict them: a finger can be missing in it, or be joined to its neighbour where the keypoints lie
apart. The latter is the webbing graph of HandAnat section 3.1, stage 2. Its tips are counted in `tips`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from handjax.anatomy.tips import count_fingers
from handjax.hand.topology import KEYPOINT_BONES

INSIDE, OUTSIDE = 0.04, 0.45
"""Palm lengths from the bones up to which there is hand for sure, and from which on there is background."""

APART = 0.36
"""Palm lengths between the joints of two fingers from which on background shows between them: two breadths."""

STRETCHED = 0.9
"""Share of its length that a straight finger spans at least."""

CLOSED = 0.9
"""Share of a line between two fingers that lies in the mask where they are joined."""

LOOSE = 0.05
"""Squared palm lengths of the hand's colour apart from the hand: a third of a finger, which may be one."""

CHROMA_BINS, LIGHT_BINS = 32, 8
SAMPLES_A_LINE = 12
_PALM_LINES = np.array([(1, 5), (5, 9), (9, 13), (13, 17), (0, 5), (0, 9), (0, 13), (0, 17)])


class Outline(NamedTuple):
    """What the silhouette of one hand shows.

    Attributes:
      mask: the hand; what lies beyond the wrist is left out.
      certainty: share of the pixels under the palm's lines that colours give to the hand, or of those far from all
        bones that they give to the background: the lesser one. Fingers have no part in it, for they are in question.
      support: of each finger, thumb to little, the share of its bones that lie in the mask.
      webbing: of neighbouring fingers, from thumb and index to ring and little, whether the mask is closed between
        joints that lie apart; None where the fingers are bent or close to each other.
      fingers: how many stand out; None unless all are spread and seen for themselves.
    """

    mask: Bool[np.ndarray, "size size"]
    certainty: float
    support: Float[np.ndarray, "5"]
    webbing: tuple[bool | None, ...]
    fingers: int | None


def read_outline(image: UInt8[np.ndarray, "size size 3"], keypoints: Float[np.ndarray, "21 3"]) -> Outline:
    """Looks at the silhouette of one hand in a square picture around it, as `crop_image` cuts it.

    Args:
      image: the picture.
      keypoints: x, y and depth in pixels.

    Source:
      HandAnat section 3.1, stage 2 (G_w); its construction from outline and keypoints is ours.
    """
    palm = float(np.linalg.norm(keypoints[9] - keypoints[0]))
    points = np.asarray(keypoints[:, :2], np.float64)
    palm_lines = _drawn(points[_PALM_LINES], len(image))
    from_bones = ndimage.distance_transform_edt(~(palm_lines | _drawn(points[KEYPOINT_BONES], len(image))))
    hand_side = ~_beyond_wrist(points, len(image), palm)
    hand, background = (from_bones < INSIDE * palm) & hand_side, (from_bones > OUTSIDE * palm) & hand_side
    likeness = ndimage.gaussian_filter(_likeness(image, hand, background), 0.012 * palm)
    sides = (likeness[palm_lines & hand_side] > 0.5, likeness[background] < 0.5)
    certainty = min(float(side.mean()) if side.size else 0.0 for side in sides)
    alike = (likeness > 0.5) & hand_side
    mask = _part_with(alike, hand)
    fingers = points[1:].reshape(5, 4, 2)
    support = np.array([_on_line(mask, finger[1:]).mean() for finger in fingers])
    webbing = tuple(_joined(mask, palm, *pair) for pair in zip(fingers[:-1], fingers[1:], strict=True))
    number = None if _largest(alike & ~mask) > LOOSE * palm**2 else count_fingers(mask, keypoints)
    return Outline(mask, certainty, support, webbing, number)


def _likeness(
    image: UInt8[np.ndarray, "size size 3"], hand: Bool[np.ndarray, "size size"], other: Bool[np.ndarray, "size size"]
) -> Float[np.ndarray, "size size"]:
    """Share of the hand in the likelihood of each pixel's colour; shadows are grey, so brightness counts little."""
    light = image.astype(np.float32).sum(axis=-1)
    chroma = image[..., :2] / np.maximum(light, 30.0)[..., None]
    hue = np.clip(80.0 * chroma - 12.0, 0, CHROMA_BINS - 1).astype(np.int64)
    shade = (light / 765.01 * LIGHT_BINS).astype(np.int64)
    shape = (CHROMA_BINS, CHROMA_BINS, LIGHT_BINS)
    colour = np.ravel_multi_index((hue[..., 0], hue[..., 1], shade), shape)

    def density(where):
        counts = np.bincount(colour[where], minlength=int(np.prod(shape))).reshape(shape)
        smooth = ndimage.gaussian_filter(counts / max(where.sum(), 1), (0.8, 0.8, 1.2), mode="constant")
        return smooth.ravel()[colour]

    of_hand, of_other = density(hand), density(other)
    return of_hand / np.maximum(of_hand + of_other, 1e-12)


def _drawn(ends: Float[np.ndarray, "lines 2 2"], size: int) -> Bool[np.ndarray, "size size"]:
    """Pixels under lines between points."""
    drawn = np.zeros((size, size), bool)
    line = np.linspace(ends[:, 0], ends[:, 1], 2 * size).reshape(-1, 2).astype(int)
    x, y = line[((line >= 0) & (line < size)).all(axis=1)].T
    drawn[y, x] = True
    return drawn


def _beyond_wrist(points: Float[np.ndarray, "21 2"], size: int, palm: float) -> Bool[np.ndarray, "size size"]:
    forward = (points[9] - points[0]) / max(float(np.linalg.norm(points[9] - points[0])), 1e-6)
    y, x = np.mgrid[:size, :size] + 0.5
    return (x - points[0, 0]) * forward[0] + (y - points[0, 1]) * forward[1] < -0.1 * palm


def _part_with(mask: Bool[np.ndarray, "size size"], seeds: Bool[np.ndarray, "size size"]) -> np.ndarray:
    """The connected part of a mask that holds most of the seeds; empty where none does."""
    labels, _ = ndimage.label(mask)
    held = np.bincount(labels[seeds & mask], minlength=1)
    return labels == held.argmax() if len(held) > 1 else np.zeros_like(mask)


def _largest(mask: Bool[np.ndarray, "size size"]) -> int:
    """Pixels of a mask's largest connected part."""
    labels, _ = ndimage.label(mask)
    return int(np.bincount(labels.ravel())[1:].max(initial=0))


def _on_line(mask: Bool[np.ndarray, "size size"], corners: Float[np.ndarray, "corners 2"]) -> np.ndarray:
    """The mask along straight lines from corner to corner; outside of the picture nothing is known and all agrees."""
    line = np.concatenate([np.linspace(a, b, SAMPLES_A_LINE) for a, b in zip(corners[:-1], corners[1:], strict=True)])
    line = line[((line >= 0) & (line < len(mask))).all(axis=1)].astype(int)
    return mask[line[:, 1], line[:, 0]] if len(line) else np.ones(1, bool)


def _joined(
    mask: Bool[np.ndarray, "size size"], palm: float, one: Float[np.ndarray, "4 2"], other: Float[np.ndarray, "4 2"]
) -> bool | None:
    """Whether the mask is closed between two stretched fingers, both between their last joints and their tips."""
    pairs = [np.stack([one[joint], other[joint]]) for joint in (2, 3)]
    apart = min(np.linalg.norm(pair[1] - pair[0]) for pair in pairs) > APART * palm
    if not (apart and _stretched(one, palm) and _stretched(other, palm)):
        return None
    return all(float(_on_line(mask, pair).mean()) > CLOSED for pair in pairs)


def _stretched(finger: Float[np.ndarray, "4 2"], palm: float) -> bool:
    bones = float(np.linalg.norm(np.diff(finger, axis=0), axis=1).sum())
    return bones > palm / 2 and float(np.linalg.norm(finger[3] - finger[0])) > STRETCHED * bones

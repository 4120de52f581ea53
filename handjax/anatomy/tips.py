"""Fingers counted in a silhouette, however many there are: tips that stand out, and the valleys that part them.

A ring about the middle of the palm grows inwards. The silhouette outside of it falls apart into arms: each begins at a
tip, and where two arms meet is the valley between them. An arm that rises high over its valley and is as broad as a
finger is one. Keypoints give the palm and which fingers should be seen by themselves; they never give the number.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Place = tuple[int, int]

RINGS = 32
NEAR_MIDDLE = 0.45
"""Palm lengths between the middle of the wrist's and the knuckle's keypoints and that of the silhouette's palm."""
WRINKLE, LEAST_RISE = 0.12, 0.25
"""Palm lengths by which a tip rises over its valley: up to the first it is none, from the second on a finger's."""
MOST_BREADTH, UNEVEN = 0.3, 1.5
"""Palm lengths of a finger's breadth, and times that of the middle one: a broader arm is two fingers side by side."""
LEAST_PALM = 0.38
"""Palm lengths of the palm's inner radius; less of it shows when the hand is seen from its edge."""
FAR_FROM_TIP = 0.4
"""Palm lengths from a fingertip of the keypoints to the nearest tip: farther off it is folded, hidden or joined."""
MOST_HOLE = 0.005
"""Squared palm lengths of background enclosed by the hand: two fingers touch."""
STUMP = 0.26
"""Palm lengths by which a sleeve or an arm may stand out at the wrist."""


class Tip(NamedTuple):
    """Where a silhouette stands out.

    Attributes:
      place: x and y, pixels.
      rise: height over its higher valley, seen from the middle of the palm, palm lengths.
      breadth: greatest breadth of its upper half, palm lengths.
      forward: distance from the wrist towards the fingers, palm lengths.
    """

    place: Float[np.ndarray, "2"]
    rise: float
    breadth: float
    forward: float


def find_tips(mask: Bool[np.ndarray, "size size"], keypoints: Float[np.ndarray, "21 3"]) -> tuple[list[Tip], float]:
    """Finds the tips of a silhouette that are no wrinkles.

    Args:
      mask: the hand up to its wrist, as of `read_outline`; not empty.
      keypoints: x, y and depth in pixels; only the wrist and the middle finger's knuckle are read.

    Returns:
      The tips and the palm's inner radius in palm lengths.
    """
    palm = max(float(np.linalg.norm(keypoints[9] - keypoints[0])), 1e-6)
    wrist, knuckle = np.asarray(keypoints[[0, 9], :2], np.float64)
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    y, x = np.mgrid[box] + 0.5
    mask = mask[box]
    inside = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    near_palm = np.hypot(x - (wrist[0] + knuckle[0]) / 2, y - (wrist[1] + knuckle[1]) / 2) < NEAR_MIDDLE * palm
    middle = _highest(inside * near_palm)
    height = mask * np.hypot(x - x[middle], y - y[middle])
    radius = float(inside[middle])
    forward = (knuckle - wrist) / max(float(np.linalg.norm(knuckle - wrist)), 1e-6)
    tips = []
    for top, valley in _arms(height, radius, WRINKLE * palm):
        labels, _ = ndimage.label(height > (height[top] + valley) / 2)
        place = np.array([x[top], y[top]])
        tips.append(
            Tip(
                place,
                rise=float(height[top] - valley) / palm,
                breadth=2 * float(inside[labels == labels[top]].max()) / palm,
                forward=float((place - wrist) @ forward) / palm,
            )
        )
    return tips, radius / palm


def count_fingers(mask: Bool[np.ndarray, "size size"], keypoints: Float[np.ndarray, "21 3"]) -> int | None:
    """Counts the fingers of a silhouette; None unless all of them are spread and seen for themselves.

    Args:
      mask: the hand up to its wrist, as of `read_outline`.
      keypoints: x, y and depth in pixels.

    Source:
      HandAnat section 3.1, stage 2 (n_f); DECISIONS E4. The construction is ours.
    """
    edges = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    palm = float(np.linalg.norm(keypoints[9] - keypoints[0]))
    enclosed = ndimage.binary_fill_holes(mask) & ~mask
    if not mask.any() or edges.any() or enclosed.sum() > MOST_HOLE * palm**2:
        return None
    tips, radius = find_tips(mask, keypoints)
    stumps = [tip for tip in tips if tip.forward < 0]
    fingers = [tip for tip in tips if tip.forward >= 0]
    if radius < LEAST_PALM or not fingers or any(tip.rise > STUMP for tip in stumps):
        return None
    breadths = np.array([tip.breadth for tip in fingers])
    if min(tip.rise for tip in fingers) < LEAST_RISE or breadths.max() > min(
        MOST_BREADTH, UNEVEN * np.median(breadths)
    ):
        return None
    places = np.stack([tip.place for tip in fingers])
    away = np.linalg.norm(keypoints[4::4, None, :2] - places, axis=-1).min(axis=1)
    return None if away.max() > FAR_FROM_TIP * palm else len(fingers)


def _arms(height: Float[np.ndarray, "size size"], least: float, wrinkle: float) -> list[tuple[Place, float]]:
    """The top of each arm and the height of its higher valley, `least` where it has none; wrinkles are left out."""
    arms: list[tuple[Place, float]] = []
    standing: dict[Place, float] = {}
    for ring in np.linspace(height.max(), least, RINGS + 1)[1:]:
        labels, parts = ndimage.label(height > ring)
        meeting: dict[int, list[Place]] = {part: [] for part in range(1, parts + 1)}
        for top in standing:
            meeting[int(labels[top])].append(top)
        for part, tops in meeting.items():
            if not tops:
                standing[_highest(height * (labels == part))] = least
                continue
            *lower, highest = sorted(tops, key=lambda top: height[top])
            for top in lower:
                valley = max(standing.pop(top), ring)
                if height[top] - valley > wrinkle:
                    arms.append((top, valley))
                    standing[highest] = max(standing[highest], ring)
    return arms + [(top, valley) for top, valley in standing.items() if height[top] - valley > wrinkle]


def _highest(height: Float[np.ndarray, "size size"]) -> Place:
    row, column = np.unravel_index(np.argmax(height), height.shape)
    return int(row), int(column)

"""When does a diffusion model commit to a hand? From the hand's skeletons in what it sees at each step."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from handjax.hand.topology import KEYPOINT_BONES

MOST_DISTANCE = 5.0 / 512
"""Hausdorff distance of skeletons that are the same, in longer sides of the picture: 5 pixels at 512."""
REACH = 50.0
"""Timesteps over which skeletons are compared."""
SPACING = 0.02
"""Of the points by which a bone is compared, in its own lengths."""

Skeleton = Float[np.ndarray, "21 2"]


def skeleton_distance(a: Skeleton, b: Skeleton) -> float:
    """Hausdorff distance of two hands' bones, drawn as straight lines, in their unit.

    Every 50th of a bone is compared with the whole lines of the other hand, so that the result is short of the exact
    distance by at most a hundredth of the longest bone.

    Source:
        HandAnat section 3.3, d_H.
    """
    return max(_farthest(a, b), _farthest(b, a))


def _farthest(a: Skeleton, b: Skeleton) -> float:
    """The greatest distance of a point of a's bones from b's bones."""
    starts, ends = a[KEYPOINT_BONES[:, 0]], a[KEYPOINT_BONES[:, 1]]
    shares = np.linspace(0, 1, round(1 / SPACING) + 1)[:, None, None]
    points = (starts + shares * (ends - starts)).reshape(-1, 1, 2)
    heads, bones = b[KEYPOINT_BONES[:, 0]], b[KEYPOINT_BONES[:, 1]] - b[KEYPOINT_BONES[:, 0]]
    lengths = np.maximum((bones**2).sum(axis=-1), 1e-12)
    along = np.clip(((points - heads) * bones).sum(axis=-1) / lengths, 0, 1)
    nearest = np.linalg.norm(points - heads - along[..., None] * bones, axis=-1).min(axis=1)
    return float(nearest.max())


def commitment(
    timesteps: Float[np.ndarray, " steps"], skeletons: Sequence[Skeleton | None], most: float, reach: float = REACH
) -> float | None:
    """The timestep t* from which a hand's skeleton stays as it is.

    Args:
        timesteps: of the estimates, falling, at most `reach` apart.
        skeletons: of the same hand in each estimate; None where there is none.
        most: distance of skeletons that are the same, in their unit.
        reach: timesteps over which skeletons are compared.

    Returns:
        The greatest timestep such that there is a skeleton at it and at all later ones, and any two of them that are at
        most `reach` apart are the same; None where the last estimate has no skeleton.

    Source:
        HandAnat section 3.3; DECISIONS E6, because the paper's minimum over t is always the last step.
    """
    committed = None
    for step in reversed(range(len(timesteps))):
        own = skeletons[step]
        if own is None:
            break
        later = [skeletons[j] for j in range(step + 1, len(timesteps)) if timesteps[step] - timesteps[j] <= reach]
        if any(other is None or skeleton_distance(own, other) > most for other in later):
            break
        committed = float(timesteps[step])
    return committed


def follow(candidates: Sequence[Sequence[Skeleton]]) -> list[list[Skeleton | None]]:
    """Follows each hand of the last estimate back through the estimates before.

    Args:
        candidates: the hands that were found in each estimate, in the order of sampling.

    Returns:
        For each hand of the last estimate its skeleton in every estimate: of those found there the nearest to the one
        after it; None where none was found.
    """
    hands = []
    for last in candidates[-1]:
        path: list[Skeleton | None] = [last]
        near = last
        for found in reversed(candidates[:-1]):
            distances = [skeleton_distance(near, skeleton) for skeleton in found]
            best = found[int(np.argmin(distances))] if distances else None
            near = near if best is None else best
            path.append(best)
        hands.append(path[::-1])
    return hands


def signal_to_noise(sigma: float) -> float:
    """Signal-to-noise ratio ᾱ / (1 - ᾱ) in decibels, of the noise over signal σ."""
    return -20 * math.log10(sigma)


def share_committed(timesteps: Float[np.ndarray, " steps"], committed: Sequence[float]) -> Float[np.ndarray, " steps"]:
    """The share of hands that have committed when sampling has come to each timestep."""
    reached = timesteps[:, None] <= np.asarray(committed, np.float64)
    return reached.sum(axis=1) / max(len(committed), 1)

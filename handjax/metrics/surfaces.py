"""Distances of two surfaces, each a set of points, that need not correspond."""

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

Cloud = Float[np.ndarray, "_ 3"]


def nearest_distances(first: Cloud, second: Cloud) -> tuple[Float[np.ndarray, " first"], Float[np.ndarray, " second"]]:
    """From each point of the first the distance to the nearest of the second, and the other way round."""
    return cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]


def f_score(prediction: Cloud, truth: Cloud, threshold: float) -> float:
    """F-score of one hand: harmonic mean of the shares of either set that lie near the other.

    Args:
        prediction: predicted points, metres.
        truth: true points, metres.
        threshold: metres; points exactly so far apart are not near. The usual ones are 0.005 and 0.015.

    Source: `calculate_fscore` of lmb-freiburg/freihand:eval.py, whose figure for a set is the mean over hands;
        DECISIONS H2.
    """
    from_prediction, from_truth = nearest_distances(prediction, truth)
    near, found = np.mean(from_prediction < threshold), np.mean(from_truth < threshold)
    return float(2 * near * found / (near + found)) if near + found > 0 else 0.0


def hausdorff_distance(first: Cloud, second: Cloud) -> float:
    """The farthest that a point of either set is from the other set, in the points' unit (MMHMR Table 10)."""
    return float(max(map(np.max, nearest_distances(first, second))))


def chamfer_distance(first: Cloud, second: Cloud) -> float:
    """Mean squared distance to the nearest point of the other set, summed over both ways, in the unit's square.

    Source: Fan, Su and Guibas 2017, Eq. 1, with means in place of sums. MMHMR Table 10 does not define its own; its
        9.7e-5 beside a Hausdorff distance of 0.022 and a PA-MPVPE of 12 mm fits squared metres only.
    """
    return float(sum(np.mean(np.square(far)) for far in nearest_distances(first, second)))

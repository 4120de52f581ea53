"""How far predicted points are from those that they stand for: MPJPE of joints, MPVPE of vertices, PCK and AUC.

The PA- of a name says that hands went through `alignment.procrustes_align` first.
"""

import numpy as np
from jaxtyping import Bool, Float, Shaped

from handjax.metrics.alignment import Points

THRESHOLDS = np.linspace(0.0, 0.05, 100)
"""Metres (DECISIONS H2)."""
HINT_THRESHOLDS = (0.05, 0.1, 0.15)
"""Shares of the box (DECISIONS H3)."""


def distances(prediction: Points, truth: Points) -> Float[np.ndarray, "hands points"]:
    """Distance of each point from its place, in the points' unit."""
    return np.linalg.norm(prediction.astype(np.float64) - truth, axis=-1)


def mean_position_error(prediction: Points, truth: Points, known: Bool[np.ndarray, "hands points"] | None = None):
    """MPJPE of joints, MPVPE of vertices: means over hands for each point, then over points.

    Args:
        prediction: predicted points.
        truth: the points that they stand for.
        known: which of them count; None counts all. Points that no hand knows are left out.

    Returns:
        The error in the points' unit; NaN where nothing is known.

    Source: `get_measures` of lmb-freiburg/freihand:utils/eval_util.py.
    """
    return mean_over_points(distances(prediction, truth), known)


def pck_curve(
    prediction: Points,
    truth: Points,
    known: Bool[np.ndarray, "hands points"] | None = None,
    thresholds: Float[np.ndarray, " thresholds"] = THRESHOLDS,
) -> Float[np.ndarray, " thresholds"]:
    """Share of points no farther than each threshold from their place, over hands and then over points.

    Arguments as for `mean_position_error`; thresholds in the points' unit.
    """
    far = distances(prediction, truth)
    return np.array([mean_over_points(far <= threshold, known) for threshold in thresholds])


def area_under_curve(
    shares: Float[np.ndarray, " thresholds"], thresholds: Float[np.ndarray, " thresholds"] = THRESHOLDS
) -> float:
    """AUC: area under a PCK curve by the trapezoidal rule, as a share of the area under 1 (DECISIONS H2)."""
    return float(np.trapezoid(shares, thresholds) / (thresholds[-1] - thresholds[0]))


def box_pck(
    prediction: Float[np.ndarray, "hands points 2"],
    truth: Float[np.ndarray, "hands points 2"],
    box_side: Float[np.ndarray, " hands"],
    known: Bool[np.ndarray, "hands points"],
    threshold: float,
) -> float:
    """PCK of pictures: share of points no farther from their place than a share of the hand's box.

    Args:
        prediction: predicted points, pixels.
        truth: the points that they stand for, pixels.
        box_side: longer side of each hand's tight box, pixels.
        known: which points count; HInt's visible or occluded ones.
        threshold: share of the box's side.

    Returns:
        The mean over points of the shares of hands.

    Source: `keypoint_pck_accuracy` of geopavlakos/hamer:hamer/utils/pose_utils.py; DECISIONS H3.
    """
    return mean_over_points(box_hits(prediction, truth, box_side, threshold), known)


def box_hits(
    prediction: Float[np.ndarray, "hands points 2"],
    truth: Float[np.ndarray, "hands points 2"],
    box_side: Float[np.ndarray, " hands"],
    threshold: float,
) -> Bool[np.ndarray, "hands points"]:
    """Which points `box_pck` counts as right; arguments as of it."""
    far = np.linalg.norm(prediction.astype(np.float64) - truth, axis=-1)
    return far <= threshold * box_side[:, None]


def mean_over_points(
    values: Shaped[np.ndarray, "hands points"], known: Bool[np.ndarray, "hands points"] | None = None
) -> float:
    """Mean over hands for each point, then over points; what is not known is left out, NaN where nothing is."""
    known = np.ones(values.shape, bool) if known is None else known
    counts = known.sum(axis=0)
    means = np.where(known, values, 0).sum(axis=0)[counts > 0] / counts[counts > 0]
    return float(means.mean()) if len(means) else float("nan")

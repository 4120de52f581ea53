"""Predicted points moved onto true ones before their distances count; any unit, one alignment a hand."""

from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "hands points 3"]
Script = Literal["freihand", "hamer"]
# FreiHAND's script adds it to the sizes that it divides by.
_FREIHAND_TINY = 1e-8


@jax.default_matmul_precision("highest")
def procrustes_align(prediction: Any, truth: Any, script: Script = "freihand") -> Any:
    """Moves, scales and turns each hand so that its points come nearest to the true ones in the mean square.

    Args:
        prediction: predicted points [hands, points, 3]; of NumPy in float64 as the scripts have it, or of JAX.
        truth: the points that they stand for, likewise.
        script: "freihand" may also mirror the hand, as the scripts of FreiHAND and HO-3D do; "hamer" never does.

    Returns:
        The predicted points in the place of the true ones.

    Source: Schönemann 1966, "A generalized solution of the orthogonal Procrustes problem"; `align_w_scale` of
        lmb-freiburg/freihand:eval.py; `compute_similarity_transform` of geopavlakos/hamer:hamer/utils/pose_utils.py;
        DECISIONS H1.
    """
    xp = prediction.__array_namespace__()
    center = truth.mean(axis=1, keepdims=True)
    fixed, moving = truth - center, prediction - prediction.mean(axis=1, keepdims=True)
    left, stretches, right = xp.linalg.svd(moving.swapaxes(1, 2) @ fixed)
    if script == "hamer":  # the least stretch pays for a turn in place of a mirror
        sign = xp.sign(xp.linalg.det(left @ right))
        signs = xp.stack([xp.ones_like(sign), xp.ones_like(sign), sign], axis=1)
        stretches, left = stretches * signs, left * signs[:, None]
    size = xp.sqrt(xp.square(moving).sum(axis=(1, 2))) + (_FREIHAND_TINY if script == "freihand" else 0)
    gain = stretches.sum(axis=1) / size**2
    return gain[:, None, None] * moving @ left @ right + center


def aligned_errors(prediction: Any, truth: Any) -> Any:
    """PA-MPJPE of joints or PA-MPVPE of vertices: of each hand, the mean distance after FreiHAND's alignment.

    Arguments as of `procrustes_align`; the result [hands] is in their unit.
    """
    away = procrustes_align(prediction, truth) - truth
    return away.__array_namespace__().linalg.norm(away, axis=-1).mean(axis=-1)


def wrist_align(prediction: Points, truth: Points, wrist: int, reference: int) -> Points:
    """Scales each hand so that the distance of two points is the true one, and puts its wrist in place.

    Args:
        prediction: predicted points.
        truth: the points that they stand for.
        wrist: index of the wrist.
        reference: index of the other point; HO-3D's is the base of the middle finger, 4 in MANO's order.

    Source: `align_sc_tr` of shreyashampali/ho3d:eval.py.
    """
    prediction, truth = prediction.astype(np.float64), truth.astype(np.float64)

    def length(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, reference] - points[:, wrist], axis=-1)[:, None, None]

    own = length(prediction)
    scaled = prediction / np.where(own > 0, own, 1) * length(truth)
    return scaled - scaled[:, wrist, None] + truth[:, wrist, None]


def root_align(prediction: Points, truth: Points, root: int = 0) -> Points:
    """Moves each hand so that one point is in its true place."""
    return prediction - prediction[:, root, None] + truth[:, root, None]

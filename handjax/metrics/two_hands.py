"""Errors of two hands in one scene, as InterWild measures them (DECISIONS H4); any unit, which the results keep.

Hands are not scaled first, as DIR does: the two protocols are never to be mixed.
"""

import numpy as np
from jaxtyping import Float

from handjax.metrics.alignment import Points
from handjax.metrics.keypoints import distances

Roots = Float[np.ndarray, "scenes 3"]


def relative_root_error(right: Roots, left: Roots, true_right: Roots, true_left: Roots) -> float:
    """MRRPE: mean error of the left wrist's place as seen from the right one.

    Args:
        right: predicted places of right wrists.
        left: of left wrists.
        true_right: the places themselves.
        true_left: likewise.

    Source: `evaluate` of facebookresearch/InterWild:data/HIC/HIC.py.
    """
    error = (left.astype(np.float64) - right) - (true_left.astype(np.float64) - true_right)
    return float(np.linalg.norm(error, axis=-1).mean())


def root_relative_vertex_error(prediction: Points, truth: Points, root: Roots, true_root: Roots) -> float:
    """RRVE: mean error of the vertices of both hands as seen from the right wrist.

    Args:
        prediction: vertices of the right and then the left hand of each scene, in one space.
        truth: the vertices themselves.
        root: predicted places of right wrists.
        true_root: the places themselves.

    Source: `evaluate` of facebookresearch/InterWild:data/HIC/HIC.py.
    """
    return float(distances(prediction - root[:, None], truth - true_root[:, None]).mean())

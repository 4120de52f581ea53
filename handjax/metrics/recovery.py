"""Figures of recovered hands, whatever recovered them: meshes, places in the picture, and how sure it was."""

import dataclasses
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float, Int

from handjax.metrics.alignment import aligned_errors, procrustes_align
from handjax.metrics.calibration import reliability_curve
from handjax.metrics.intervals import bootstrap_mean_interval
from handjax.metrics.keypoints import (
    HINT_THRESHOLDS,
    area_under_curve,
    box_hits,
    distances,
    mean_over_points,
    pck_curve,
)
from handjax.metrics.surfaces import f_score

MILLIMETRES = 1000.0
F_THRESHOLDS = (0.005, 0.015)
"""Metres (DECISIONS H2)."""


@dataclasses.dataclass(frozen=True)
class RecoveredSet:
    """Hands beside what they stand for.

    Attributes:
        vertices, true_vertices: metres.
        keypoints, true_keypoints: of these meshes, metres.
        mesh_known: whose true mesh is known.
        world: keypoints as the record has them, metres; MediaPipe's own on photographs.
        world_known: which of them there are.
        places, true_places: of keypoints in the crop, pixels.
        placed: which true places are known.
        box_side: longer side of the tight box, pixels.
        confidence: of each pose token.
        token_right: whether it is that of the true pose; of no account where no mesh is known.
        hidden: tokens that were hidden before each iteration of decoding.
        iteration_confidence: mean probability of the tokens predicted in it.
    """

    vertices: Float[np.ndarray, "hands V 3"]
    true_vertices: Float[np.ndarray, "hands V 3"]
    keypoints: Float[np.ndarray, "hands 21 3"]
    true_keypoints: Float[np.ndarray, "hands 21 3"]
    mesh_known: Bool[np.ndarray, " hands"]
    world: Float[np.ndarray, "hands 21 3"]
    world_known: Bool[np.ndarray, "hands 21"]
    places: Float[np.ndarray, "hands 21 2"]
    true_places: Float[np.ndarray, "hands 21 2"]
    placed: Bool[np.ndarray, "hands 21"]
    box_side: Float[np.ndarray, " hands"]
    confidence: Float[np.ndarray, "hands L"]
    token_right: Bool[np.ndarray, "hands L"]
    hidden: Int[np.ndarray, "hands T"]
    iteration_confidence: Float[np.ndarray, "hands T"]


def recovery_figures(hands: RecoveredSet) -> list[dict[str, Any]]:
    """Figures by name, each with the number of hands behind it; those that nothing is known for are left out.

    Source: DECISIONS H1 (FreiHAND's alignment), H2, H3; MMHMR's tables.
    """
    decoding = {"hidden": hands.hidden.mean(0).tolist(), "confidence": hands.iteration_confidence.mean(0).tolist()}
    return [
        *(_figure(name, scores) for name, scores in hand_scores(hands).items()),
        *_confidence_figures(hands),
        _plain("confidence", float(hands.confidence.mean()), len(hands.confidence)) | {"by_iteration": decoding},
    ]


def hand_scores(hands: RecoveredSet) -> dict[str, Float[np.ndarray, "hands _"]]:
    """What the figures by name are means of, so that two models can be compared hand by hand.

    A figure is the mean over hands of each column, then over columns (`mean_over_points`); NaN is unknown. Figures that
    nothing is known for are left out.
    """
    scores = _mesh_scores(hands) | _world_scores(hands) | _place_scores(hands)
    return {name: values for name, values in scores.items() if np.isfinite(values).any()}


def _mesh_scores(hands: RecoveredSet) -> dict[str, Float[np.ndarray, "hands 1"]]:
    known, scores, aligned = hands.mesh_known, {}, {}
    for short, long, part in (("J", "pa_mpjpe_mm", "keypoints"), ("V", "pa_mpvpe_mm", "vertices")):
        truth = _float64(getattr(hands, f"true_{part}")[known])
        aligned[part] = procrustes_align(_float64(getattr(hands, part)[known]), truth)
        scores[long] = MILLIMETRES * distances(aligned[part], truth).mean(axis=1)
        curves = (pck_curve(*pair) for pair in zip(aligned[part][:, None], truth[:, None], strict=True))
        scores[f"auc_{short}"] = np.array([area_under_curve(curve) for curve in curves])
    pairs = list(zip(aligned["vertices"], hands.true_vertices[known], strict=True))
    for threshold in F_THRESHOLDS:
        scores[f"f_{MILLIMETRES * threshold:g}"] = np.array([f_score(*pair, threshold) for pair in pairs])
    return {name: _spread(values, known) for name, values in scores.items()}


def _world_scores(hands: RecoveredSet) -> dict[str, Float[np.ndarray, "hands 1"]]:
    known = np.asarray(hands.world_known.all(axis=1))
    truth = _float64(hands.world[known])
    errors = aligned_errors(_float64(hands.keypoints[known]), truth)
    return {"pa_mpjpe_world_mm": _spread(MILLIMETRES * errors, known)}


def _place_scores(hands: RecoveredSet) -> dict[str, Float[np.ndarray, "hands 21"]]:
    places = hands.places, hands.true_places, hands.box_side
    return {
        f"pck_{threshold:g}": np.where(hands.placed, box_hits(*places, threshold), np.nan)
        for threshold in HINT_THRESHOLDS
    }


def _spread(values: Float[np.ndarray, " known"], known: Bool[np.ndarray, " hands"]) -> Float[np.ndarray, "hands 1"]:
    """A column of all hands from values of those that are known."""
    column = np.full((len(known), 1), np.nan)
    column[known, 0] = values
    return column


def _confidence_figures(hands: RecoveredSet) -> list[dict[str, Any]]:
    """Rank correlation of the hands' confidence with their error, and how often tokens are right that were so sure."""
    known = hands.mesh_known
    if known.sum() < 2:
        return []
    truth = _float64(hands.true_keypoints[known])
    error = aligned_errors(_float64(hands.keypoints[known]), truth)
    correlation = scipy.stats.spearmanr(np.log(hands.confidence[known]).mean(axis=1), error).statistic
    curve = reliability_curve(hands.confidence[known].ravel(), hands.token_right[known].ravel())
    bins = {name: np.nan_to_num(getattr(curve, name)).tolist() for name in ("counts", "confidence", "frequency")}
    return [
        _plain("confidence_error_spearman", float(correlation), len(error)),
        _plain("token_calibration_error", curve.error, len(error)) | {"reliability": bins},
        _plain("token_right", float(hands.token_right[known].mean()), len(error)),
    ]


def _figure(name: str, scores: Float[np.ndarray, "hands _"]) -> dict[str, Any]:
    """The figure of scores, with an interval where a hand has a single one."""
    known = np.isfinite(scores)
    item = _plain(name, mean_over_points(scores, known), int(known.any(axis=1).sum()))
    if scores.shape[1] > 1:
        return item
    return item | {"interval_95": bootstrap_mean_interval(scores[known])}


def _plain(name: str, value: float, hands: int) -> dict[str, Any]:
    return {"name": name, "value": value, "hands": hands}


def _float64(points: np.ndarray) -> np.ndarray:
    return points.astype(np.float64)

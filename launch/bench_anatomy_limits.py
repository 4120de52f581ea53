"""What `handjax.anatomy.limits` rests on: hands of photographs that no test set is made of; and what lengths tell."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from handjax.anatomy.features import ANGLE_NAMES, HandFeatures, hand_frame_is_defined, measure, projection_misfit
from handjax.anatomy.limits import ANGLE_LIMITS, DIGIT_RATIOS, LANDMARK_TOLERANCE, MOST_MISFIT
from handjax.anatomy.scores import RATIO_SCALE, THRESHOLD
from handjax.inference.score import LEAST_SUPPORT, SURE_OF_SIDE, HandScore

PHOTOGRAPHS = "training photographs"
FALSE_ALARMS = 0.01
"""Share of the normal hands above the threshold at which long and short fingers are looked for by their lengths."""
_measure = jax.jit(measure)


def bench_limits(scores: Sequence[HandScore]) -> Iterator[dict[str, Any]]:
    """Shares of normal hands beyond each limit, and the medians that limits are made of.

    Args:
      scores: of the photographs that training saw; hands whose side is not sure have no part in angles and lengths.
    """
    misfits = [projection_misfit(score.hand.world, score.hand.keypoints) for score in scores]
    yield share_item(f"{PHOTOGRAPHS}, misfit above {MOST_MISFIT}", np.array(misfits) > MOST_MISFIT)
    supports = [score.outline.support.min() for score in scores if score.outline]
    yield share_item(f"{PHOTOGRAPHS}, a finger's support below {LEAST_SUPPORT}", np.array(supports) < LEAST_SUPPORT)
    features = [sure for score in scores if (sure := _features(score)) is not None]
    flexion = np.stack([np.asarray(hand.flexion, np.float64) for hand in features])
    beyond = np.maximum(flexion - ANGLE_LIMITS[:, 1], ANGLE_LIMITS[:, 0] - flexion).max(axis=1)
    for degrees in (0, 10, 20, round(np.degrees(LANDMARK_TOLERANCE)), 30):
        yield share_item(f"{PHOTOGRAPHS}, an angle more than {degrees}° beyond its limit", np.degrees(beyond) > degrees)
    medians = dict(zip(ANGLE_NAMES, np.degrees(np.median(flexion, axis=0)).round(1).tolist(), strict=True))
    thumb = ANGLE_NAMES[0]
    item = {"name": f"{PHOTOGRAPHS}, median flexion of {thumb}", "ours": medians[thumb], "unit": "°"}
    yield item | {"hands": len(features), "medians": medians}
    ratios = np.median([hand.digit_ratios for hand in features], axis=0)
    away = float(np.abs(ratios - DIGIT_RATIOS).max())
    item = {"name": f"{PHOTOGRAPHS}, median lengths of fingers less those of the table, at most", "ours": away}
    yield item | {"unit": "palms", "hands": len(features), "medians": ratios.round(3).tolist()}


def length_item(name: str, normal: Sequence[HandScore], edited: Sequence[HandScore]) -> dict[str, Any]:
    """Whether keypoints tell hands with a finger too long or too short from normal ones, by the worst length.

    The strict rule asks for a mean of five lengths; that of a single finger is what a finer rule would ask for.

    Args:
      name: of the set.
      normal: normal hands.
      edited: hands one of whose fingers is too long or too short.
    """
    usual, wrong = (
        np.array([worst for score in scores if (worst := _worst_length(score)) is not None])
        for scores in (normal, edited)
    )
    differences = np.subtract.outer(wrong, usual)
    threshold = float(np.quantile(usual, 1 - FALSE_ALARMS))
    return {
        "name": f"{name}, long and short fingers told by keypoints' lengths",
        "ours": float((differences > 0).mean() + 0.5 * (differences == 0).mean()),
        "unit": "AUC",
        "found_at_1_percent_false_alarms": float((wrong > threshold).mean()),
        "threshold_log": threshold,
        "one_finger_alone_fails_at_log": float(-len(DIGIT_RATIOS) * RATIO_SCALE * np.log(THRESHOLD)),
        "hands": len(wrong),
        "normal_hands": len(usual),
    }


def share_item(name: str, beyond: Bool[np.ndarray, " hands"]) -> dict[str, Any]:
    """The share of hands that are beyond a limit."""
    part, whole = int(beyond.sum()), len(beyond)
    return {"name": name, "ours": part / whole, "unit": "of the hands", "part": part, "of": whole}


def _features(score: HandScore) -> HandFeatures | None:
    """What is measured of a hand; None where its side is not sure or its keypoints tell nothing."""
    hand = score.hand
    if hand.score < SURE_OF_SIDE or not hand_frame_is_defined(hand.world):
        return None
    return jax.device_get(_measure(hand.world, np.array(hand.side == "right")))


def _worst_length(score: HandScore) -> float | None:
    """The greatest |ln(r / r_ref)| of a hand's fingers."""
    features = _features(score)
    return None if features is None else float(np.abs(np.log(features.digit_ratios / DIGIT_RATIOS)).max())

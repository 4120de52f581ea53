"""Generated hands beside the hands they were to be: keypoints, confidence, presence."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from handjax.metrics.intervals import bootstrap_mean_interval, wilson_interval

CENTIMETRES = 100.0


@dataclasses.dataclass(frozen=True)
class HandMatch:
    """A hand that was wanted, and the one found in its place.

    Attributes:
        wanted: keypoints, pixels.
        wanted_world: keypoints about the hand's centre, metres.
        side: longer side of the tight box of the wanted keypoints, pixels.
        found: keypoints of the closest hand; None where the picture has none.
        found_world: likewise.
        score: the detector's of the found hand; None likewise.
    """

    wanted: Float[np.ndarray, "21 2"]
    wanted_world: Float[np.ndarray, "21 3"]
    side: float
    found: Float[np.ndarray, "21 2"] | None = None
    found_world: Float[np.ndarray, "21 3"] | None = None
    score: float | None = None

    @property
    def distance(self) -> float:
        """Mean distance of the keypoints, pixels; only of a found hand."""
        return float(np.linalg.norm(self.found - self.wanted, axis=1).mean())


def hand_figures(matches: Sequence[HandMatch], pictures_with_hand: int, pictures: int) -> list[dict[str, Any]]:
    """Figures of generated hands, each with its 95 % interval where one is known; there must be a match.

    Args:
        matches: one for each hand that was wanted.
        pictures_with_hand: generated pictures in which any hand is found.
        pictures: all that were looked at.

    Returns:
        Items of name, value, interval and the number of hands or pictures behind it. Errors are of found hands only, so
        they say nothing without the detection rate.

    Source:
        DECISIONS C7 (hand probability), H6 (MPJPE), H7 (hand confidence); MSE as SesaHand's table has it, whose units
        are not given: squared pixels, squared centimetres about the hand's centre, mean over coordinates.
    """
    found = [match for match in matches if match.score is not None]
    errors = {
        "mpjpe_2d_px_self": [match.distance for match in found],
        "mpjpe_2d_box_self": [match.distance / match.side for match in found],
        "mse_2d_px2_self": [np.square(match.found - match.wanted).mean() for match in found],
        "mse_3d_cm2_self": [
            np.square(CENTIMETRES * (match.found_world - match.wanted_world)).mean() for match in found
        ],
        "hand_confidence": [match.score for match in found],
        "hand_confidence_misses_0": [match.score or 0.0 for match in matches],
    }
    return [
        _share("detection_rate", len(found), len(matches), "hands"),
        _share("hand_probability", pictures_with_hand, pictures, "pictures"),
        *(_mean(name, np.array(values, np.float64)) for name, values in errors.items()),
    ]


def _share(name: str, count: int, of: int, unit: str) -> dict[str, Any]:
    return {"name": name, "value": count / of, "interval_95": wilson_interval(count, of), unit: of}


def _mean(name: str, values: Float[np.ndarray, " n"]) -> dict[str, Any]:
    if not len(values):
        return {"name": name, "value": None, "interval_95": None, "hands": 0}
    return {
        "name": name,
        "value": float(values.mean()),
        "interval_95": bootstrap_mean_interval(values),
        "hands": len(values),
    }

"""Generated hands beside the hands they were to be: keypoints, confidence, presence."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from handjax.metrics.intervals import bootstrap_mean_interval, wilson_interval

CENTIMETRES = 100.0


@dataclasses.dataclass(frozen=True)
class FoundHand:
    """A hand in a generated picture: keypoints in pixels and, about its centre, in metres; the detector's score.

    The score of MediaPipe's networks, ours and its own, is that of the side, 0.5 to 1.
    """

    keypoints: Float[np.ndarray, "21 2"]
    world: Float[np.ndarray, "21 3"]
    score: float


@dataclasses.dataclass(frozen=True)
class HandMatch:
    """A hand that was wanted, and the one that was found for it.

    Attributes:
        keypoints: wanted, pixels.
        world: wanted, about the hand's centre, metres.
        side: longer side of the tight box of the wanted keypoints, pixels.
        found: None where the picture has none for it.
        errors: by judge, how far the keypoints that it reads at the wanted hand's place in both pictures are from each
            other, pixels; every judge reads every hand, also where none is to be seen.
    """

    keypoints: Float[np.ndarray, "21 2"]
    world: Float[np.ndarray, "21 3"]
    side: float
    found: FoundHand | None = None
    errors: Mapping[str, float] = dataclasses.field(default_factory=dict)


def keypoint_distance(wanted: Float[np.ndarray, "21 2"], made: Float[np.ndarray, "21 2"]) -> float:
    """Mean distance of the keypoints of a hand from the wanted ones, pixels."""
    return float(np.linalg.norm(made - wanted, axis=1).mean())


def hand_figures(matches: Sequence[HandMatch], pictures_with_hand: int, pictures: int) -> list[dict[str, Any]]:
    """Figures of generated hands, each with its 95 % interval where one is known; there must be a match.

    Args:
        matches: one for each hand that was wanted.
        pictures_with_hand: generated pictures in which any hand is found.
        pictures: all that were looked at.

    Returns:
        Items of name, value, interval and the number of hands or pictures behind it. MPJPE is of all hands, once for
        each judge; squared errors are of found hands only, so they say nothing without the detection rate.

    Source:
        DECISIONS C7 (hand probability), H6 (MPJPE), H7 (hand confidence); MSE as SesaHand's table has it, whose units
        are not given: squared pixels, squared centimetres about the hand's centre, mean over coordinates.
    """
    pairs = [(match, match.found) for match in matches if match.found is not None]
    errors: dict[str, list[float]] = {}
    for judge in matches[0].errors:
        errors[f"mpjpe_2d_px_{judge}"] = [match.errors[judge] for match in matches]
        errors[f"mpjpe_2d_box_{judge}"] = [match.errors[judge] / match.side for match in matches]
    errors |= {
        "mse_2d_px2_self": [np.square(found.keypoints - match.keypoints).mean() for match, found in pairs],
        "mse_3d_cm2_self": [np.square(CENTIMETRES * (found.world - match.world)).mean() for match, found in pairs],
        "hand_confidence": [found.score for _, found in pairs],
        "hand_confidence_misses_0": [match.found.score if match.found else 0.0 for match in matches],
    }
    return [
        _share("detection_rate", len(pairs), len(matches), "hands"),
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

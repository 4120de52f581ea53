import numpy as np
import pytest

from handjax.metrics.hands import FoundHand, HandMatch, hand_figures, keypoint_distance

RNG = np.random.default_rng(0)
WANTED, WORLD = RNG.uniform(0, 100, (21, 2)), RNG.uniform(-0.1, 0.1, (21, 3))


def test_squared_errors_are_of_hands_that_were_found_and_position_errors_of_all():
    missed = HandMatch(WANTED, WORLD, 50.0, None, {"self": 9.0, "mesh": 6.0})
    found = FoundHand(WANTED + [3, 4], WORLD + 0.02, 0.9), FoundHand(WANTED + [0, 10], WORLD, 0.7)
    moved = HandMatch(WANTED, WORLD, 50.0, found[0], {"self": 5.0, "mesh": 3.0})
    further = HandMatch(WANTED, WORLD, 25.0, found[1], {"self": 10.0, "mesh": 0.0})
    figures = {item["name"]: item for item in hand_figures([missed, moved, further], 3, 4)}
    values = {name: item["value"] for name, item in figures.items()}
    assert values == pytest.approx(
        {
            "detection_rate": 2 / 3,
            "hand_probability": 3 / 4,
            "mpjpe_2d_px_self": 8.0,
            "mpjpe_2d_box_self": (0.18 + 0.1 + 0.4) / 3,
            "mpjpe_2d_px_mesh": 3.0,
            "mpjpe_2d_box_mesh": (0.12 + 0.06) / 3,
            "mse_2d_px2_self": (12.5 + 50) / 2,
            "mse_3d_cm2_self": 2.0,
            "hand_confidence": 0.8,
            "hand_confidence_misses_0": 1.6 / 3,
        }
    )
    assert figures["hand_confidence"]["hands"] == 2 and figures["hand_probability"]["pictures"] == 4
    assert figures["mpjpe_2d_px_self"]["hands"] == 3
    low, high = figures["mpjpe_2d_px_self"]["interval_95"]
    assert (low, high) == (5, 10)


def test_the_distance_of_keypoints_is_the_mean_over_them():
    made = RNG.uniform(0, 100, (21, 2))
    each = [((a - c) ** 2 + (b - d) ** 2) ** 0.5 for (a, b), (c, d) in zip(WANTED, made, strict=True)]
    assert keypoint_distance(WANTED, made) == pytest.approx(sum(each) / 21)


def test_where_no_hand_is_found_there_is_no_squared_error():
    figures = {item["name"]: item["value"] for item in hand_figures([HandMatch(WANTED, WORLD, 9.0)], 0, 1)}
    assert figures["mse_2d_px2_self"] is None and figures["hand_confidence"] is None
    assert figures["hand_confidence_misses_0"] == 0 and figures["detection_rate"] == 0

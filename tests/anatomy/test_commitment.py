"""t* of sequences of skeletons that are known."""

import numpy as np
import pytest

from handjax.anatomy.commitment import (
    MOST_DISTANCE,
    commitment,
    follow,
    share_committed,
    signal_to_noise,
    skeleton_distance,
)
from handjax.hand.topology import KEYPOINT_BONES

TIMESTEPS = np.arange(961, 0, -20, dtype=np.float32)
HAND = np.random.default_rng(0).uniform(100, 400, (21, 2))


def brute_force(a, b, points=400):
    """Hausdorff distance of two clouds of points drawn along the bones."""

    def cloud(hand):
        shares = np.linspace(0, 1, points)[:, None, None]
        start, end = hand[KEYPOINT_BONES[:, 0]], hand[KEYPOINT_BONES[:, 1]]
        return (start * (1 - shares) + end * shares).reshape(-1, 2)

    a, b = cloud(a), cloud(b)
    nearest = [np.sqrt(((x - y[None]) ** 2).sum(-1)) for x in a[:, None] for y in [b]]
    distances = np.array([row.min() for row in nearest])
    back = np.array([np.sqrt(((x - a) ** 2).sum(-1)).min() for x in b])
    return max(distances.max(), back.max())


def moved(shift):
    return HAND + np.array([shift, 0.0])


def test_the_distance_is_that_of_curves_not_of_keypoints():
    other = HAND + np.random.default_rng(1).normal(scale=15, size=HAND.shape)
    assert skeleton_distance(HAND, other) == pytest.approx(brute_force(HAND, other), abs=1.5)
    assert skeleton_distance(HAND, other) == skeleton_distance(other, HAND)
    assert skeleton_distance(HAND, HAND) == pytest.approx(0, abs=1e-9)
    # a straight finger whose joints slide along it is the same curve
    straight = HAND.copy()
    straight[5:9] = np.linspace([200, 200], [200, 50], 4)
    slid = straight.copy()
    slid[6:8] = [[200, 170], [200, 80]]
    assert skeleton_distance(straight, slid) < 1e-6


def test_one_bone_that_leaves_counts_one_way():
    bent = HAND.copy()
    bent[20] = HAND[19] + [0, -500]
    assert skeleton_distance(HAND, bent) > 100


@pytest.mark.parametrize("steps", [1, 12, 40])
def test_a_hand_that_stands_still_from_a_known_step(steps):
    still = len(TIMESTEPS) - steps
    skeletons = [moved(40.0 * (still - i)) if i < still else moved(0) for i in range(len(TIMESTEPS))]
    assert commitment(TIMESTEPS, skeletons, most=5) == TIMESTEPS[still]


def test_slow_drift_counts_over_fifty_timesteps():
    """Three pixels a step: neighbours are the same, those two steps and 40 timesteps apart are not."""
    turn = 30
    drifting = [moved(3.0 * min(i, turn)) for i in range(len(TIMESTEPS))]
    # from `turn` - 1 on, the farthest pair within reach is one step of drift apart
    assert commitment(TIMESTEPS, drifting, most=5) == TIMESTEPS[turn - 1]
    assert commitment(TIMESTEPS, drifting, most=5, reach=20) == TIMESTEPS[0]
    assert commitment(TIMESTEPS, drifting, most=7) == TIMESTEPS[0]


def test_a_later_jump_and_a_missing_hand_undo_what_was_before():
    jumped = [moved(0)] * 20 + [moved(50)] * (len(TIMESTEPS) - 20)
    assert commitment(TIMESTEPS, jumped, most=5) == TIMESTEPS[20]
    missing = [moved(0)] * 20 + [None] + [moved(0)] * (len(TIMESTEPS) - 21)
    assert commitment(TIMESTEPS, missing, most=5) == TIMESTEPS[21]
    assert commitment(TIMESTEPS, [moved(0)] * (len(TIMESTEPS) - 1) + [None], most=5) is None


def test_two_hands_are_followed_apart():
    left, right = HAND, HAND + 600
    candidates = [[], [right + 3, left + 3], [left + 2], [left, right]]
    first, second = follow(candidates)
    assert first[0] is None and second[0] is None
    np.testing.assert_array_equal(np.array(first[1:]), [left + 3, left + 2, left])
    np.testing.assert_array_equal(second[3], right)
    assert follow([[left], []]) == []


def test_decibels_and_shares():
    assert signal_to_noise(1.0) == 0 and signal_to_noise(10.0) == pytest.approx(-20)
    assert pytest.approx(5) == MOST_DISTANCE * 512
    shares = share_committed(np.array([900.0, 500.0, 100.0]), [500.0, 100.0])
    np.testing.assert_allclose(shares, [0, 0.5, 1])
    np.testing.assert_array_equal(share_committed(np.array([900.0]), []), [0])

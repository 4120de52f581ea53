import jax
import jax.numpy as jnp
import numpy as np

from handjax.perception.landmarks import Hands, drop_duplicates, place_hand
from handjax.perception.regions import Region

HAND = np.random.default_rng(0).uniform(0, 100, (21, 3)).astype(np.float32)


def _hands(*keypoints, valid=None):
    keypoints = jnp.asarray(np.stack(keypoints))
    count = len(keypoints)
    return Hands(
        keypoints=keypoints,
        world=jnp.zeros((count, 21, 3)),
        presence=jnp.ones(count),
        right=jnp.ones(count),
        valid=jnp.ones(count, bool) if valid is None else jnp.asarray(valid),
    )


def _place(landmarks, world, rotation, presence=0.9):
    region = Region(center=jnp.array([300.0, 200.0]), side=jnp.float32(112.0), rotation=jnp.float32(rotation))
    return place_hand(jnp.asarray(landmarks), jnp.float32(presence), jnp.float32(0.8), jnp.asarray(world), region, 0.5)


def test_upright_hand_is_scaled_and_moved():
    landmarks = np.tile(np.array([224.0, 112.0, 22.4], np.float32), (21, 1))
    hand = _place(landmarks, HAND, 0.0)
    # half the crop's scale; depth also divided by 0.4
    np.testing.assert_allclose(hand.keypoints, np.tile([356.0, 200.0, 28.0], (21, 1)), rtol=1e-5)
    np.testing.assert_allclose(hand.world, HAND, rtol=1e-6)
    assert bool(hand.valid)


def test_turned_hand_is_turned_back():
    landmarks = np.tile(np.array([224.0, 112.0, 0.0], np.float32), (21, 1))
    hand = _place(landmarks, HAND, np.pi / 2)
    np.testing.assert_allclose(hand.keypoints[:, :2], np.tile([300.0, 256.0], (21, 1)), rtol=1e-5)
    np.testing.assert_allclose(hand.world, np.stack([-HAND[:, 1], HAND[:, 0], HAND[:, 2]], axis=1), atol=1e-4)


def test_absent_hand_is_not_valid():
    assert not bool(_place(HAND, HAND, 0.0, presence=0.49).valid)


def test_the_same_hand_twice_is_one():
    kept = jax.jit(drop_duplicates)(_hands(HAND, HAND + 1.0, HAND + 300.0)).valid
    np.testing.assert_array_equal(kept, [True, False, True])


def test_a_dropped_hand_drops_no_other():
    np.testing.assert_array_equal(drop_duplicates(_hands(HAND, HAND, valid=[False, True])).valid, [False, True])


def test_nine_matching_points_are_two_hands_and_ten_are_one():
    other = HAND.copy()
    other[9:, 0] += 40.0  # farther than 0.2 palm sizes, boxes still overlapping
    assert drop_duplicates(_hands(HAND, other)).valid.all()
    other[9] = HAND[9]
    np.testing.assert_array_equal(drop_duplicates(_hands(HAND, other)).valid, [True, False])

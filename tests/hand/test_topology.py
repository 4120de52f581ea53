"""Tables of the hand: orders, bones, limits."""

import itertools

import numpy as np
import pytest

from handjax.hand.topology import (
    JOINT_LIMITS,
    KEYPOINT_BONES,
    KEYPOINT_NAMES,
    KEYPOINT_ORDERS,
    MANO_JOINT_NAMES,
    MANO_PARENTS,
    MANO_TO_OPENPOSE,
    OPENPOSE_TO_MANO,
    TIP_NAMES,
    keypoint_permutation,
)


def test_the_mano_permutation_is_the_published_one():
    published = [0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20]
    np.testing.assert_array_equal(MANO_TO_OPENPOSE, published)
    np.testing.assert_array_equal(MANO_TO_OPENPOSE[OPENPOSE_TO_MANO], np.arange(21))


@pytest.mark.parametrize(("source", "target"), itertools.permutations(KEYPOINT_ORDERS, 2))
def test_converters_move_each_name_to_its_place(source, target):
    names = np.array(KEYPOINT_ORDERS[source])
    assert tuple(names[keypoint_permutation(source, target)]) == KEYPOINT_ORDERS[target]


def test_every_order_names_the_same_keypoints():
    for names in KEYPOINT_ORDERS.values():
        assert sorted(names) == sorted(KEYPOINT_NAMES)


def test_interhand_starts_at_the_thumb_tip_and_ends_at_the_wrist():
    names = KEYPOINT_ORDERS["interhand"]
    assert (names[0], names[3], names[4], names[20]) == ("thumb_tip", "thumb_cmc", "index_tip", "wrist")


def test_bones_stay_within_a_finger():
    assert KEYPOINT_BONES.shape == (20, 2)
    for parent, child in KEYPOINT_BONES:
        same_finger = KEYPOINT_NAMES[parent].split("_")[0] == KEYPOINT_NAMES[child].split("_")[0]
        assert same_finger or parent == 0


def test_mano_parents_follow_the_bones_of_the_keypoints():
    names = MANO_JOINT_NAMES + TIP_NAMES
    bones = {(KEYPOINT_NAMES[parent], KEYPOINT_NAMES[child]) for parent, child in KEYPOINT_BONES}
    for joint in range(1, 16):
        assert (names[MANO_PARENTS[joint]], names[joint]) in bones


def test_limits_contain_the_rest_pose_and_are_ordered():
    low, high = np.moveaxis(JOINT_LIMITS, -1, 0)
    assert JOINT_LIMITS.shape == (16, 3, 2)
    assert (low < 0).all() and (high > 0).all()
    pip = MANO_JOINT_NAMES.index("index_pip")
    np.testing.assert_allclose(np.degrees(JOINT_LIMITS[pip, 0]), [-3, 110])

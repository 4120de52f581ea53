"""The parts of a hand grow one by one, and the open hand has adults' proportions."""

import numpy as np
import pytest

from handjax.hand.model import OPEN_HAND
from handjax.hand.topology import FINGERS, KEYPOINT_NAMES, KEYPOINT_PARENTS, MANO_TO_OPENPOSE
from launch.assets.proportions import growth, growth_spread, thumb_places

PARTS = [KEYPOINT_NAMES[k] for k in range(1, 21) if KEYPOINT_PARENTS[k] != 0]


@pytest.fixture(scope="module")
def hand():
    with np.load(OPEN_HAND) as arrays:
        joints = arrays["joint_regressor"] @ arrays["template"]
        skeleton = np.concatenate([joints, arrays["tip_regressor"] @ arrays["template"]])
        points = np.concatenate([arrays["template"], joints])
        moves = growth(points, skeleton, arrays["skin_weights"])
        return points, skeleton, moves, arrays["tip_regressor"].argmax(1)


def bone_lengths(hand, growths):
    """Length of the bone that ends in each keypoint but the wrist, OpenPose order."""
    points, _, moves, tips = hand
    points = points + np.tensordot(growths, moves, 1)
    skeleton = np.concatenate([points[-16:], points[tips]])[MANO_TO_OPENPOSE]
    return np.linalg.norm(skeleton[1:] - skeleton[KEYPOINT_PARENTS[1:]], axis=1)


@pytest.mark.parametrize("end", PARTS)
def test_a_bone_grows_alone(hand, end):
    before, after = (bone_lengths(hand, amount * (np.array(PARTS) == end).dot(np.eye(17)[:15])) for amount in (0, 0.2))
    expected = np.where(np.arange(1, 21) == KEYPOINT_NAMES.index(end), 1.2, 1.0)
    np.testing.assert_allclose(after / before, expected, atol=2e-3)


@pytest.mark.parametrize(("axis", "part"), [(1, 15), (0, 16)])
def test_the_palm_grows_along_one_axis_and_carries_the_fingers(hand, axis, part):
    points, skeleton, moves, _ = hand
    move = moves[part, -16:]
    knuckles = [1, 4, 7, 10, 13]
    np.testing.assert_allclose(move[knuckles, axis], skeleton[knuckles, axis], atol=1e-7)
    np.testing.assert_array_equal(np.delete(move, axis, axis=1), 0)
    np.testing.assert_allclose(move[1:].reshape(5, 3, 3), move[knuckles][:, None].repeat(3, axis=1), atol=1e-7)


def test_the_thumb_moves_by_its_base_or_as_a_whole(hand):
    points, skeleton, _, _ = hand
    with np.load(OPEN_HAND) as arrays:
        along, inwards = thumb_places(points, skeleton, arrays["skin_weights"])[:, -16:]
    bone = skeleton[14] - skeleton[13]
    # standard deviations of 0.164, 0.206 and 0.251 of the hand's length
    np.testing.assert_allclose(along[13], 0.0067 * bone / np.linalg.norm(bone), atol=1e-7)
    np.testing.assert_allclose(0.189 * np.std([0.164, 0.206, 0.251]), 0.0067, atol=1e-4)
    np.testing.assert_array_equal(np.delete(along, 13, axis=0), 0)
    np.testing.assert_allclose(inwards[13:], np.tile([0, 0, -0.006], (3, 1)))
    np.testing.assert_array_equal(inwards[:13], 0)


def test_spread_is_that_of_the_bones_beyond_that_of_the_size():
    # of the middle finger's proximal phalanx 3.81 / 44.63 in all, 0.063 of it common to the hand
    np.testing.assert_allclose(growth_spread()[6], np.sqrt((3.81 / 44.63) ** 2 - 0.063**2), rtol=1e-6)
    assert (growth_spread() >= 0).all() and growth_spread().max() < 0.13


@pytest.mark.parametrize(
    ("finger", "shares"),
    # of hand length, with the pulp of 3.84, 3.95, 3.95 and 3.73 mm on bones of 15.82, 17.40, 17.30 and 15.96 mm
    [("index", (0.245, 0.143, 0.121)), ("middle", (0.266, 0.170, 0.133)), ("ring", (0.244, 0.165, 0.131)),
     ("little", (0.204, 0.117, 0.115))],
)  # fmt: skip
def test_fingers_have_measured_proportions(hand, finger, shares):
    lengths = bone_lengths(hand, np.zeros(17)).reshape(5, 4)[:, 1:]
    unit = lengths[FINGERS.index("middle")].sum() / (0.266 + 0.170 + 0.133)
    np.testing.assert_allclose(lengths[FINGERS.index(finger)] / unit, shares, atol=0.006)

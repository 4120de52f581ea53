"""Left and right told by keypoints of a hand whose side is known, and two hands of one or of two people."""

import jax.numpy as jnp
import numpy as np
import pytest

from handjax.anatomy.features import BONE_NAMES, measure
from handjax.anatomy.sides import side_doubt, side_of_keypoints, unlike_bones
from handjax.hand.angles import pose_from_angles
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.hand.topology import MANO_JOINT_NAMES


@pytest.fixture(scope="module")
def world():
    """A right hand whose fingers and thumb are bent a little."""
    model = load_open_hand()
    angles = np.zeros((16, 3), np.float32)
    for number, name in enumerate(MANO_JOINT_NAMES[1:], 1):
        angles[number, 0] = np.radians(0 if name.startswith("thumb") else 25)
    pose = pose_from_angles(model, jnp.asarray(angles))
    return np.array(pose_hand(model, pose, jnp.zeros(model.shapedirs.shape[-1]), jnp.zeros(3)).keypoints, np.float64)


@pytest.mark.parametrize("turn", [(0.0, 0.0, 0.0), (0.0, 3.0, 0.0), (1.0, -0.7, 2.0)])
def test_the_side_is_that_of_the_hand_however_it_is_turned(world, turn):
    turned = world @ np.asarray(axis_angle_to_matrix(jnp.array(turn))).T
    assert side_of_keypoints(turned) == "right"
    assert side_of_keypoints(turned * (-1, 1, 1)) == "left"
    assert side_of_keypoints(1000 * turned) == "right"


def test_a_flat_hand_and_nonsense_have_no_side(world):
    flat = world.copy()
    palm = np.cross(flat[5] - flat[0], flat[17] - flat[0])
    palm /= np.linalg.norm(palm)
    flat -= ((flat - flat[0]) @ palm)[:, None] * palm
    assert side_of_keypoints(flat) is None
    assert side_of_keypoints(world * np.nan) is None
    behind = world.copy()  # fingers bent one way, the thumb the other
    behind[1:5] -= 2 * ((behind[1:5] - behind[0]) @ palm)[:, None] * palm
    assert side_of_keypoints(behind) is None


def test_doubts_are_words():
    assert side_doubt("right", "left") == "looks like a left hand by its thumb, a right hand by the detector"
    assert side_doubt("left", "left") is None and side_doubt("left", None) is None


def test_bones_of_both_hands_are_compared_in_palms(world):
    right = measure(jnp.asarray(world), jnp.array(True))
    mirrored = measure(jnp.asarray(1.3 * world * (-1, 1, 1)), jnp.array(False))
    assert unlike_bones(mirrored, right)[0] == pytest.approx(0, abs=1e-5)
    longer = world.copy()
    longer[8] += longer[8] - longer[7]  # the last bone of the index finger twice as long
    difference, words = unlike_bones(measure(jnp.asarray(longer * (-1, 1, 1)), jnp.array(False)), right)
    assert difference == pytest.approx(np.log(2) / len(BONE_NAMES), rel=1e-4)
    assert words == "left index bone 4 2.00 times the right one"

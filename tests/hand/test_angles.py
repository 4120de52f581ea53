"""Anatomical angles: what they mean, that they invert, and which poses a hand can reach within its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from handjax.hand.angles import angles_from_pose, joint_frames, pose_from_angles
from handjax.hand.model import load_open_hand, mirror_pose, pose_hand
from handjax.hand.sampling import sample_angles, sample_orientation, sample_pose
from handjax.hand.topology import JOINT_LIMITS, KEYPOINT_NAMES, MANO_JOINT_NAMES
from tests.hand.mesh_checks import capped, winding_number

FINGERS = ("thumb", "index", "middle", "ring", "little")
ORIGIN = jnp.zeros(3)


@pytest.fixture(scope="module")
def hand():
    return load_open_hand()


def keypoints_of(hand, angles):
    return pose_hand(hand, pose_from_angles(hand, jnp.asarray(angles)), jnp.zeros(10), ORIGIN).keypoints


def fist():
    """Angles of a fist with the thumb across the fingers."""
    degrees = np.zeros((16, 3))
    degrees[[1, 4, 7, 10], 0] = [78, 80, 74, 78]
    degrees[[2, 5, 8, 11], 0] = 95
    degrees[[3, 6, 9, 12], 0] = [45, 45, 40, 40]
    degrees[13:] = [[13, 10, -6], [38, 0, 0], [40, 0, 0]]
    return np.radians(degrees)


def test_frames_are_right_handed_and_follow_the_bones(hand):
    frames = joint_frames(hand)
    np.testing.assert_allclose(frames.mT @ frames, np.broadcast_to(np.eye(3), (16, 3, 3)), atol=1e-5)
    np.testing.assert_allclose(jnp.linalg.det(frames), 1, atol=1e-5)
    joints = pose_hand(hand, jnp.zeros((16, 3)), jnp.zeros(10), ORIGIN).joints
    bone = joints[2] - joints[1]
    np.testing.assert_allclose(frames[1, :, 2], bone / np.linalg.norm(bone), atol=1e-3)


def test_angles_round_trip(hand):
    low, high = np.moveaxis(JOINT_LIMITS, -1, 0)
    angles = np.random.default_rng(0).uniform(low, high).astype(np.float32)
    angles[0] = [1.0, 0.5, -2.0]
    np.testing.assert_allclose(angles_from_pose(hand, pose_from_angles(hand, angles)), angles, atol=1e-5)


@pytest.mark.parametrize("finger", FINGERS[1:])
def test_flexion_bends_to_the_palm_and_abduction_to_the_thumb(hand, finger):
    mcp, tip = MANO_JOINT_NAMES.index(f"{finger}_mcp"), KEYPOINT_NAMES.index(f"{finger}_tip")
    rest = keypoints_of(hand, np.zeros((16, 3)))[tip]
    for axis, direction in ((0, [0, 0, -1]), (1, [1, 0, 0])):
        angles = np.zeros((16, 3))
        angles[mcp, axis] = 0.2
        motion = keypoints_of(hand, angles)[tip] - rest
        assert motion @ np.array(direction) > 0.9 * np.linalg.norm(motion) > 0.005


def test_thumb_flexion_crosses_the_palm_and_abduction_leaves_it(hand):
    tip = KEYPOINT_NAMES.index("thumb_tip")
    rest = keypoints_of(hand, np.zeros((16, 3)))[tip]
    flexed, abducted = np.zeros((2, 16, 3))
    flexed[13, 0] = abducted[13, 1] = 0.3
    assert keypoints_of(hand, flexed)[tip, 0] < rest[0] - 0.015
    assert keypoints_of(hand, abducted)[tip, 2] < rest[2] - 0.015


def test_the_same_angles_are_the_mirrored_pose_on_the_left_hand(hand):
    left = load_open_hand(side="left")
    angles = sample_angles(jax.random.key(3)).at[0].set(jnp.array([0.3, -0.2, 0.5]))
    np.testing.assert_allclose(pose_from_angles(left, angles), mirror_pose(pose_from_angles(hand, angles)), atol=1e-5)
    np.testing.assert_allclose(angles_from_pose(left, pose_from_angles(left, angles)), angles, atol=1e-5)


def test_a_fist_is_plausible(hand):
    low, high = np.moveaxis(JOINT_LIMITS, -1, 0)
    assert (fist() >= low).all() and (fist() <= high).all()
    keypoints = np.asarray(keypoints_of(hand, fist()))
    point = {name: keypoints[index] for index, name in enumerate(KEYPOINT_NAMES)}
    for finger in FINGERS[1:]:
        assert np.linalg.norm(point[f"{finger}_tip"] - point[f"{finger}_mcp"]) < 0.053, finger
    for finger, neighbour in zip(FINGERS[1:], FINGERS[2:], strict=False):
        for part in ("pip", "dip", "tip"):
            gap = point[f"{finger}_{part}"] - point[f"{neighbour}_{part}"]
            assert gap[0] > 0.008, (finger, part)
    # the thumb crosses the index finger, in front of it
    assert point["thumb_tip"][0] < point["index_pip"][0]
    assert point["thumb_tip"][2] < min(point["index_dip"][2], point["middle_dip"][2])


def buried_tips(hand, vertices):
    """For each fingertip whether the air 2 mm in front of it lies inside the rest of the hand."""
    tips, faces = np.asarray(hand.tip_regressor).argmax(1), np.asarray(hand.faces)
    normals = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    outwards = np.stack([normals[(faces == tip).any(1)].sum(0) for tip in tips])
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    return winding_number(vertices[tips] + 0.002 * outwards, *capped(vertices, faces)) > 0.5


@pytest.mark.slow
def test_no_fingertip_is_swallowed(hand):
    poses = jax.vmap(sample_pose, in_axes=(0, None))(jax.random.split(jax.random.key(1), 20), hand)
    poses = jnp.concatenate([pose_from_angles(hand, fist())[None], poses])
    posed = jax.vmap(lambda pose: pose_hand(hand, pose, jnp.zeros(10), ORIGIN))(poses)
    fist_tips, *random_tips = (buried_tips(hand, vertices) for vertices in np.asarray(posed.vertices))
    assert not fist_tips.any()
    assert np.mean(random_tips) < 0.06


@pytest.mark.parametrize("finger", FINGERS[1:])
def test_the_thumb_opposes_every_finger_within_the_limits(hand, finger):
    tips = [KEYPOINT_NAMES.index("thumb_tip"), KEYPOINT_NAMES.index(f"{finger}_tip")]

    @jax.jit
    @jax.value_and_grad
    def cost(angles):
        thumb, other = keypoints_of(hand, angles.reshape(16, 3))[jnp.array(tips)]
        return 1e4 * jnp.sum((thumb - other) ** 2) + 1e-2 * jnp.sum(angles**2)

    bounds = np.where(np.arange(16)[:, None, None] == 0, 0, JOINT_LIMITS).reshape(48, 2)
    found = minimize(cost, np.zeros(48), jac=True, bounds=bounds, method="L-BFGS-B").x
    thumb, other = keypoints_of(hand, found.reshape(16, 3))[jnp.array(tips)]
    assert np.linalg.norm(thumb - other) < 0.002


def test_sampled_poses_stay_within_the_limits(hand):
    keys = jax.random.split(jax.random.key(0), 500)
    low, high = np.moveaxis(JOINT_LIMITS, -1, 0)
    poses = jax.jit(jax.vmap(sample_pose, in_axes=(0, None)))(keys, hand)
    angles = jax.vmap(angles_from_pose, in_axes=(None, 0))(hand, poses)
    assert (angles >= low - 1e-4).all() and (angles <= high + 1e-4).all()
    np.testing.assert_array_equal(poses[:, 0], 0)
    bends = np.asarray(angles)[:, [1, 4, 7, 10], 0]
    assert bends.std(axis=0).min() > np.radians(20)
    open_hands, fists = (bends.max(1) < np.radians(25)).mean(), (bends.min(1) > np.radians(60)).mean()
    assert open_hands > 0.05 and fists > 0.03


def test_orientations_have_no_preferred_direction():
    turns = jax.vmap(sample_orientation)(jax.random.split(jax.random.key(0), 4000))
    angle = np.linalg.norm(turns, axis=1)
    # of uniform rotations the angle has density (1 - cos a) / pi and mean pi/2 + 2/pi
    np.testing.assert_allclose(angle.mean(), np.pi / 2 + 2 / np.pi, atol=0.04)
    np.testing.assert_allclose((turns / angle[:, None]).mean(0), 0, atol=0.04)

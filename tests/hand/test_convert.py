"""Conversion between hand models: what is converted lies over what it came from."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import InputError
from handjax.hand.convert import HandParameters, convert_hand, convert_shape
from handjax.hand.mano import load_mano
from handjax.hand.model import load_open_hand, mirror_model, mirror_pose, pose_hand
from handjax.hand.rotations import axis_angle_to_matrix
from tests.hand.mano_files import TO_MANO_AXES, mano_arrays, write_python2

MIRROR = jnp.array([-1.0, 1.0, 1.0])
convert = jax.jit(convert_hand)


@pytest.fixture(scope="module")
def open_hand():
    return load_open_hand()


@pytest.fixture(scope="module")
def mano(tmp_path_factory):
    return load_mano(write_python2(tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl", mano_arrays()))


@pytest.fixture(scope="module")
def turned(open_hand):
    """The open hand lying along MANO's axes, away from the origin."""
    template = open_hand.template @ TO_MANO_AXES.T.astype(np.float32) + jnp.array([0.1, 0.0, -0.05])
    shapedirs = jnp.einsum("ab,vbs->vas", TO_MANO_AXES.astype(np.float32), open_hand.shapedirs)
    return dataclasses.replace(open_hand, template=template, shapedirs=shapedirs, name="turned")


def random_parameters(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    pose = 0.5 * jax.random.normal(keys[0], (16, 3))
    return HandParameters(pose, jax.random.normal(keys[1], (10,)), jax.random.normal(keys[2], (3,)))


def finger_directions(posed):
    bones = np.diff(np.asarray(posed.joints)[1:].reshape(5, 3, 3), axis=1)
    return bones / np.linalg.norm(bones, axis=-1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("back", [False, True])
def test_wrist_and_directions_of_bones_are_kept(open_hand, mano, seed, back):
    source, target = (mano, open_hand) if back else (open_hand, mano)
    parameters = random_parameters(seed)
    before = pose_hand(source, *parameters)
    after = pose_hand(target, *convert(source, target, parameters))
    np.testing.assert_allclose(after.joints[0], before.joints[0], atol=1e-6)
    np.testing.assert_allclose(finger_directions(after), finger_directions(before), atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_hand_along_other_axes_is_found_again(open_hand, turned, seed):
    parameters = random_parameters(seed)
    before, converted = pose_hand(open_hand, *parameters), convert(open_hand, turned, parameters)
    after = pose_hand(turned, *converted)
    assert np.linalg.norm(after.keypoints - before.keypoints, axis=1).max() < 1e-3
    assert np.linalg.norm(after.vertices - before.vertices, axis=1).mean() < 1e-3


@pytest.mark.parametrize("seed", range(2))
def test_local_rotations_carry_over_in_the_axes_of_the_template(open_hand, turned, seed):
    pose, _, translation = random_parameters(seed)
    converted = convert(open_hand, turned, HandParameters(pose, jnp.zeros(10), translation))
    expected = TO_MANO_AXES @ np.asarray(axis_angle_to_matrix(pose[1:])) @ TO_MANO_AXES.T
    np.testing.assert_allclose(axis_angle_to_matrix(converted.pose[1:]), expected, atol=1e-5)
    same = convert(open_hand, open_hand, HandParameters(pose, jnp.zeros(10), translation))
    np.testing.assert_allclose(same.pose, pose, atol=1e-5)
    np.testing.assert_allclose(same.translation, translation, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_there_and_back(open_hand, mano, seed):
    pose, betas, translation = random_parameters(seed)
    # the synthetic file's random shape directions can follow the open hand's size, but none of its other directions
    parameters = HandParameters(pose, betas.at[1:].set(0.0), translation)
    back = convert(mano, open_hand, convert(open_hand, mano, parameters))
    before, after = pose_hand(open_hand, *parameters), pose_hand(open_hand, *back)
    assert np.linalg.norm(after.keypoints - before.keypoints, axis=1).mean() < 1e-3


def test_a_larger_hand_stays_larger(open_hand, mano):
    small, large = (convert_shape(open_hand, mano, jnp.zeros(10).at[0].set(size)) for size in (-1.0, 1.0))
    bones = [np.linalg.norm(finger_lengths(mano, betas)) for betas in (small, large)]
    wanted = [np.linalg.norm(finger_lengths(open_hand, jnp.zeros(10).at[0].set(size))) for size in (-1.0, 1.0)]
    np.testing.assert_allclose(bones, wanted, rtol=0.02)


def finger_lengths(model, betas):
    joints = pose_hand(model, jnp.zeros((16, 3)), betas, jnp.zeros(3)).joints
    return np.linalg.norm(np.diff(np.asarray(joints)[1:].reshape(5, 3, 3), axis=1), axis=-1)


def test_left_hands_convert_as_their_mirror_images(open_hand, mano):
    pose, betas, translation = random_parameters(5)
    right = convert(open_hand, mano, HandParameters(pose, betas, translation))
    mirrored = HandParameters(mirror_pose(pose), betas, translation * MIRROR)
    left = convert(mirror_model(open_hand), mirror_model(mano), mirrored)
    np.testing.assert_allclose(left.betas, right.betas, atol=1e-3)
    np.testing.assert_allclose(left.translation, right.translation * MIRROR, atol=1e-5)
    expected = axis_angle_to_matrix(mirror_pose(right.pose))
    np.testing.assert_allclose(axis_angle_to_matrix(left.pose), expected, atol=1e-4)


def test_batches(open_hand, mano):
    many = [random_parameters(seed) for seed in range(3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *many)
    converted = jax.jit(jax.vmap(convert_hand, in_axes=(None, None, 0)))(open_hand, mano, batch)
    np.testing.assert_allclose(converted.translation[1], convert(open_hand, mano, many[1]).translation, atol=1e-5)


def test_sides_do_not_mix(open_hand):
    with pytest.raises(InputError, match="mirror"):
        convert_hand(open_hand, mirror_model(open_hand), random_parameters(0))

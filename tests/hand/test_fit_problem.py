import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.hand.angles import pose_from_angles
from handjax.hand.camera import default_camera
from handjax.hand.fit_problem import (
    CHAINS,
    OWN,
    Observed,
    Picture,
    Unknowns,
    given_keypoints,
    keypoints_about_wrist,
    linearize,
    move,
    skeleton_of,
)
from handjax.hand.mano import load_mano
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.hand.topology import JOINT_LIMITS
from tests.hand.mano_files import mano_arrays, write_python2

BATCH = 4


def random_unknowns(seed):
    rng = np.random.default_rng(seed)
    lower, upper = np.moveaxis(JOINT_LIMITS[CHAINS[:, :3]], -1, 0)
    angles = np.moveaxis(rng.uniform(1.2 * lower, 1.2 * upper, (BATCH, 5, 3, 3)), (0, 1), (-1, -2))
    turn = rng.standard_normal((BATCH, 3))
    place = np.stack([*rng.uniform(-0.1, 0.1, (2, BATCH)), np.log(rng.uniform(0.3, 0.7, BATCH))])
    values = (
        np.moveaxis(axis_angle_to_matrix(turn), 0, -1),
        angles,
        rng.standard_normal((10, BATCH)),
        place,
        0.1 * rng.standard_normal((3, BATCH)),
        0.3 * rng.standard_normal((1, BATCH)),
    )
    return turn, Unknowns(*(jnp.asarray(value, jnp.float32) for value in values))


@pytest.mark.parametrize("which", ["right", "left", "mano"])
def test_keypoints_are_those_of_pose_hand(which, tmp_path):
    if which == "mano":
        model = load_mano(write_python2(tmp_path / "MANO_RIGHT.pkl", mano_arrays()))
        model = dataclasses.replace(model, posedirs=None)  # which the fit leaves out
    else:
        model = load_open_hand(which)
    turn, unknowns = random_unknowns(0)
    found = keypoints_about_wrist(skeleton_of(model), unknowns)
    for hand in range(BATCH):
        angles = jnp.zeros((16, 3)).at[CHAINS[:, :3]].set(jnp.transpose(unknowns.angles[..., hand], (2, 0, 1)))
        pose = pose_from_angles(model, angles).at[0].set(turn[hand])
        expected = pose_hand(model, pose, unknowns.betas[:, hand], jnp.zeros(3)).keypoints
        fingers = np.transpose(found[:, 1:, :, hand], (2, 1, 0)).reshape(20, 3)
        np.testing.assert_allclose(fingers, expected[1:] - expected[0], atol=1e-5)
        np.testing.assert_array_equal(found[:, 0, :, hand], 0)


@pytest.mark.parametrize(
    ("picture", "points", "rejecting"), [(True, False, False), (False, True, True), (True, True, True)]
)
@pytest.mark.slow
def test_derivatives_are_those_of_the_cost(picture, points, rejecting):
    """The last column of the normal equations is the cost's gradient; errors reach from small to wild."""
    skeleton, (_, unknowns) = skeleton_of(load_open_hand()), random_unknowns(1)
    rng = np.random.default_rng(2)
    weight = jnp.asarray(rng.uniform(size=(BATCH, 21)), jnp.float32)
    pixels = jnp.asarray(rng.uniform(100, 400, (BATCH, 21, 2)), jnp.float32)
    metres = jnp.asarray(0.1 * rng.standard_normal((BATCH, 21, 3)), jnp.float32)
    seen = Picture(default_camera(512, 512), given_keypoints(pixels, weight, jnp.array([2.0, 20.0, 50.0, 100.0])))
    known = given_keypoints(metres, weight, jnp.array([0.002, 0.01, 0.05, 0.2]))
    observed = Observed(seen if picture else None, known if points else None)
    normal = linearize(skeleton, observed, rejecting, unknowns)[1]

    def cost(own, shared):
        return linearize(skeleton, observed, rejecting, move(observed, unknowns, own, shared))[0].sum()

    still = jnp.zeros((OWN, 5, BATCH)), jnp.zeros((normal.shape[0] - 1 - OWN, BATCH))
    by_own, by_shared = jax.grad(cost, argnums=(0, 1))(*still)
    scale = np.abs(by_own).max() + np.abs(by_shared).max()
    np.testing.assert_allclose(normal[:OWN, -1], by_own, rtol=1e-3, atol=1e-5 * scale)
    np.testing.assert_allclose(normal[OWN:-1, -1].sum(axis=1), by_shared, rtol=1e-3, atol=1e-5 * scale)
    np.testing.assert_array_equal(normal, normal.swapaxes(0, 1))

"""Rotations against SciPy, and their gradients where formulas divide by zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handjax.hand import rotations


@pytest.fixture(scope="module")
def vectors():
    random = np.random.default_rng(0)
    axes = random.normal(size=(400, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate([random.uniform(0, np.pi, 300), np.pi - 10 ** random.uniform(-4, -1, 50)])
    angles = np.concatenate([angles, 10 ** random.uniform(-7, -1, 50)])
    return (axes * angles[:, None]).astype(np.float32)


def test_axis_angle_to_matrix(vectors):
    expected = Rotation.from_rotvec(vectors.astype(np.float64)).as_matrix()
    np.testing.assert_allclose(rotations.axis_angle_to_matrix(vectors), expected, atol=1e-6)


def test_matrix_to_axis_angle(vectors):
    matrices = Rotation.from_rotvec(vectors.astype(np.float64)).as_matrix().astype(np.float32)
    np.testing.assert_allclose(rotations.matrix_to_axis_angle(matrices), vectors, atol=2e-5)


def test_half_turns_keep_their_axis():
    matrices = np.stack([np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])])
    turned = rotations.matrix_to_axis_angle(jnp.asarray(matrices, jnp.float32))
    np.testing.assert_allclose(np.abs(turned), np.pi * np.eye(3), atol=1e-6)


def test_euler_angles_are_intrinsic_xyz():
    angles = np.random.default_rng(1).uniform(-1.5, 1.5, (100, 3)).astype(np.float32)
    expected = Rotation.from_euler("XYZ", angles.astype(np.float64)).as_matrix()
    np.testing.assert_allclose(rotations.euler_to_matrix(angles), expected, atol=1e-6)
    np.testing.assert_allclose(rotations.matrix_to_euler(expected.astype(np.float32)), angles, atol=1e-5)


def test_compose_applies_the_inner_rotation_first(vectors):
    inner, outer = vectors[:100], vectors[100:200]
    expected = (Rotation.from_rotvec(outer) * Rotation.from_rotvec(inner)).as_matrix()
    composed = np.array(rotations.compose(outer, inner), np.float64)
    np.testing.assert_allclose(Rotation.from_rotvec(composed).as_matrix(), expected, atol=1e-5)


def test_six_d_round_trip(vectors):
    matrices = Rotation.from_rotvec(vectors.astype(np.float64)).as_matrix().astype(np.float32)
    six_d = rotations.matrix_to_six_d(matrices)
    np.testing.assert_allclose(six_d[:, :3], matrices[:, :, 0])
    np.testing.assert_allclose(rotations.six_d_to_matrix(six_d), matrices, atol=1e-6)


def test_six_d_of_any_vectors_is_a_rotation():
    six_d = jax.random.normal(jax.random.key(0), (200, 6)) * jnp.array([100.0] * 3 + [0.01] * 3)
    matrices = rotations.six_d_to_matrix(six_d)
    np.testing.assert_allclose(matrices @ matrices.mT, np.broadcast_to(np.eye(3), (200, 3, 3)), atol=1e-4)
    np.testing.assert_allclose(jnp.linalg.det(matrices), 1, atol=1e-4)


@pytest.mark.parametrize(
    "six_d", [[0.0] * 6, [1.0, 0, 0, 0, 0, 0], [1.0, 2, 3, 2, 4, 6], [0, 0, 0, 1.0, 0, 0]], ids=str
)
def test_six_d_gradient_is_finite_where_it_is_degenerate(six_d):
    gradient = jax.jacobian(rotations.six_d_to_matrix)(jnp.array(six_d))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("angle", [0.0, 1e-10, 1e-7, 1e-4])
def test_gradient_near_no_rotation_is_the_cross_product(angle):
    gradient = jax.jacobian(rotations.axis_angle_to_matrix)(jnp.array([angle, 0.0, 0.0]))
    cross = np.zeros((3, 3, 3))
    cross[2, 1, 0] = cross[0, 2, 1] = cross[1, 0, 2] = 1
    np.testing.assert_allclose(gradient, cross - cross.swapaxes(0, 1), atol=2e-4)


def test_gradient_of_the_identity_is_half_the_skew_part():
    gradient = jax.jacobian(rotations.matrix_to_axis_angle)(jnp.eye(3))
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(gradient[0, 2, 1], 0.5, atol=1e-6)
    np.testing.assert_allclose(gradient[0, 1, 2], -0.5, atol=1e-6)

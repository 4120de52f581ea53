import jax
import jax.numpy as jnp
import numpy as np

from handjax.hand.camera import (
    PinholeCamera,
    WeakPerspectiveCamera,
    crop_camera,
    default_camera,
    project,
    project_weak,
    unproject,
    weak_to_translation,
)

CAMERA = PinholeCamera(focal=jnp.array([500.0, 480.0]), center=jnp.array([250.0, 130.0]))


def test_project_equals_the_intrinsic_matrix():
    points = np.random.default_rng(0).uniform([-0.2, -0.2, 0.4], [0.2, 0.2, 0.9], (50, 3)).astype(np.float32)
    homogeneous = points @ np.array([[500.0, 0, 250], [0, 480, 130], [0, 0, 1]]).T
    expected = homogeneous[:, :2] / homogeneous[:, 2:]
    np.testing.assert_allclose(project(CAMERA, jnp.asarray(points)), expected, atol=1e-3)


def test_unproject_inverts_project():
    points = jax.random.uniform(jax.random.key(1), (20, 3), minval=0.1, maxval=1.0)
    np.testing.assert_allclose(unproject(CAMERA, project(CAMERA, points), points[:, 2]), points, atol=1e-5)


def test_default_camera_sees_the_optical_axis_at_the_image_centre():
    camera = default_camera(300, 512)
    np.testing.assert_allclose(project(camera, jnp.array([0.0, 0.0, 0.7])), [256, 150])
    # half a metre at one metre spans half of the focal length, which is twice the longer side
    np.testing.assert_allclose(project(camera, jnp.array([0.25, 0.0, 1.0]))[0] - 256, 256)


def test_crop_camera_moves_projections_as_the_crop_moves_pixels():
    points = jnp.array([[0.05, 0.02, 0.6], [-0.1, 0.1, 0.8]])
    box = jnp.array([100.0, 40.0, 300.0, 340.0])
    pixels = np.asarray(project(CAMERA, points))
    expected = (pixels - [100, 40]) * [96 / 200, 192 / 300]
    np.testing.assert_allclose(project(crop_camera(CAMERA, box, (192, 96)), points), expected, rtol=1e-5)


def test_weak_perspective_agrees_with_pinhole_for_a_flat_object():
    weak = WeakPerspectiveCamera(scale=jnp.array(800.0), translation=jnp.array([210.0, 90.0]))
    camera = default_camera(512, 512)
    flat = jnp.array([[0.03, -0.05, 0.0], [0.1, 0.08, 0.0]])
    seen = project(camera, flat + weak_to_translation(weak, camera))
    np.testing.assert_allclose(seen, project_weak(weak, flat), atol=1e-3)

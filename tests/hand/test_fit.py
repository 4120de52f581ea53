import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.hand.angles import angles_from_pose
from handjax.hand.camera import default_camera, project
from handjax.hand.fit import HandFit, fit_hand
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rotations import matrix_to_axis_angle
from handjax.hand.sampling import sample_pose
from handjax.hand.topology import JOINT_LIMITS

SIZE, HANDS = 512, 16
MODEL = load_open_hand()
CAMERA = default_camera(SIZE, SIZE)
EVERYTHING = jnp.ones((HANDS, 21))


@jax.jit
@jax.vmap
def random_hand(key):
    """Keypoints in camera space of a random hand, seen from anywhere, 0.3 to 0.5 m away: it fills the picture."""
    keys = jax.random.split(key, 4)
    turn, _ = jnp.linalg.qr(jax.random.normal(keys[0], (3, 3)))
    pose = sample_pose(keys[1], MODEL).at[0].set(matrix_to_axis_angle(turn * jnp.sign(jnp.linalg.det(turn))))
    keypoints = pose_hand(MODEL, pose, 0.5 * jax.random.normal(keys[2], (10,)), jnp.zeros(3)).keypoints
    distance = jax.random.uniform(keys[3], minval=0.3, maxval=0.5)
    return keypoints - keypoints.mean(0) + jnp.array([0, 0, 1.0]) * distance


TRUTH = random_hand(jax.random.split(jax.random.key(7), HANDS))
PIXELS = project(CAMERA, TRUTH)
EXTENT = (PIXELS.max(1) - PIXELS.min(1)).max(-1)
NOISY = PIXELS + 0.01 * EXTENT[:, None, None] * jax.random.normal(jax.random.key(8), PIXELS.shape)
# metres about the hand's centre, with an error of 2 mm and a scale of their own, as a network gives them
WORLD = 1.1 * (TRUTH - TRUTH.mean(1, keepdims=True) + 0.002 * jax.random.normal(jax.random.key(9), TRUTH.shape))


@jax.jit
@jax.vmap
def fitted_keypoints(fit: HandFit):
    return pose_hand(MODEL, fit.pose, fit.betas, fit.translation).keypoints


@pytest.fixture(scope="module")
def fit() -> HandFit:
    return fit_hand(MODEL, NOISY, EVERYTHING, WORLD, (SIZE, SIZE))


def pa_mpjpe_mm(points: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance after the best similarity (Umeyama, 1991)."""
    points, truth = points - points.mean(0), truth - truth.mean(0)
    u, s, vt = np.linalg.svd(truth.T @ points)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    aligned = (s * sign).sum() / (points**2).sum() * points @ (u * sign @ vt).T
    return 1000 * np.linalg.norm(aligned - truth, axis=1).mean()


def test_reprojection_is_below_the_noise_and_error_px_tells_it(fit):
    seen = project(CAMERA, fitted_keypoints(fit))
    to_truth = np.linalg.norm(np.asarray(seen - PIXELS), axis=-1).mean(-1)
    noise = np.linalg.norm(np.asarray(NOISY - PIXELS), axis=-1).mean(-1)
    assert (to_truth < noise).mean() > 0.7
    assert np.median(to_truth / np.asarray(EXTENT)) < 0.011
    np.testing.assert_allclose(fit.error_px, np.linalg.norm(np.asarray(seen - NOISY), axis=-1).mean(-1), atol=0.02)


def test_three_dimensions_are_recovered(fit):
    errors = [pa_mpjpe_mm(np.asarray(a), np.asarray(b)) for a, b in zip(fitted_keypoints(fit), TRUTH, strict=True)]
    print(f"PA-MPJPE mm: median {np.median(errors):.2f}, max {max(errors):.2f}")
    assert np.median(errors) < 3.0
    assert max(errors) < 6.0


def test_joints_stay_within_their_limits(fit):
    angles = np.asarray(jax.vmap(lambda pose: angles_from_pose(MODEL, pose))(fit.pose))[:, 1:]
    beyond = np.maximum(angles - JOINT_LIMITS[1:, :, 1], JOINT_LIMITS[1:, :, 0] - angles)
    assert np.degrees(beyond.max()) < 6.0


def test_keypoints_without_confidence_have_no_influence(fit):
    confidence = EVERYTHING.at[:, 8].set(0.0)
    clean = fit_hand(MODEL, NOISY, confidence, WORLD, (SIZE, SIZE))
    wild = fit_hand(MODEL, NOISY.at[:, 8].add(300.0), confidence, WORLD.at[:, 8].add(0.5), (SIZE, SIZE))
    np.testing.assert_allclose(wild.pose, clean.pose, atol=1e-5)
    assert float(jnp.abs(clean.pose - fit.pose).max()) > 1e-3


def test_one_wild_keypoint_is_outvoted(fit):
    wild = fit_hand(MODEL, NOISY.at[:, 12].add(0.5 * EXTENT[:, None]), EVERYTHING, WORLD, (SIZE, SIZE))
    others = np.delete(np.arange(21), 12)
    moved = np.linalg.norm(np.asarray(project(CAMERA, fitted_keypoints(wild)) - PIXELS), axis=-1)[:, others].mean(-1)
    assert np.median(moved / np.asarray(EXTENT)) < 0.02


def test_two_dimensions_alone_reproject_to_two_pixels():
    """At an extent of 200 px in a 512 px picture noise of 1 % is 2 px an axis, 2.5 px in distance."""
    small = (PIXELS - 256) * (200 / EXTENT)[:, None, None] + 256
    noisy = small + 2.0 * jax.random.normal(jax.random.key(8), small.shape)
    fit = fit_hand(MODEL, noisy, EVERYTHING, None, (SIZE, SIZE))
    to_truth = np.linalg.norm(np.asarray(project(CAMERA, fitted_keypoints(fit)) - small), axis=-1).mean(-1)
    print(f"2-D only, px: to the keypoints {np.median(fit.error_px):.2f}, to the truth {np.median(to_truth):.2f}")
    assert np.median(fit.error_px) < 2.0
    assert np.median(to_truth) < 2.25
    assert to_truth.max() < 4.0

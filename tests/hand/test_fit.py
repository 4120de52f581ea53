import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.hand.angles import angles_from_pose
from handjax.hand.camera import default_camera, project
from handjax.hand.fit import HandFit, HandFit3d, fit_hand, fit_hand_3d
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from handjax.hand.sampling import sample_pose
from handjax.hand.topology import JOINT_LIMITS
from tests.hand.webxr_hand import webxr_keypoints

SIZE, HANDS = 512, 64
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
SPAN = (TRUTH.max(1) - TRUTH.min(1)).max(-1)[:, None, None]
NOISY_POINTS = TRUTH + 0.01 * SPAN * jax.random.normal(jax.random.key(10), TRUTH.shape)
NOISY = PIXELS + 0.01 * EXTENT[:, None, None] * jax.random.normal(jax.random.key(8), PIXELS.shape)
# metres about the hand's centre, with an error of 2 mm and a scale of their own, as a network gives them
WORLD = 1.1 * (TRUTH - TRUTH.mean(1, keepdims=True) + 0.002 * jax.random.normal(jax.random.key(9), TRUTH.shape))


@jax.jit
@jax.vmap
def fitted_keypoints(fit: HandFit | HandFit3d):
    return pose_hand(MODEL, fit.pose, fit.betas, fit.translation).keypoints


@pytest.fixture(scope="module")
def fit() -> HandFit:
    return fit_hand(MODEL, NOISY, EVERYTHING, WORLD, (SIZE, SIZE))


def pa_mpjpe_mm(points, truth) -> np.ndarray:
    """Mean distance of each hand's keypoints after the best similarity (Umeyama, 1991), in float64."""
    errors = []
    for hand, true in zip(np.asarray(points, np.float64), np.asarray(truth, np.float64), strict=True):
        hand, true = hand - hand.mean(0), true - true.mean(0)
        u, s, vt = np.linalg.svd(true.T @ hand)
        sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
        aligned = (s * sign).sum() / (hand**2).sum() * hand @ (u * sign @ vt).T
        errors.append(1000 * np.linalg.norm(aligned - true, axis=1).mean())
    return np.array(errors)


def at_200_px(pixels):
    """Hands shrunk about the picture's centre to an extent of 200 px, where noise of 1 % is 2 px an axis."""
    extent = (pixels.max(1) - pixels.min(1)).max(-1)
    small = (pixels - SIZE / 2) * (200 / extent)[:, None, None] + SIZE / 2
    return small, small + 2.0 * jax.random.normal(jax.random.key(8), small.shape)


def reprojection_px(fit: HandFit, pixels) -> np.ndarray:
    return np.linalg.norm(np.asarray(project(CAMERA, fitted_keypoints(fit)) - pixels), axis=-1).mean(-1)


def test_reprojection_is_below_the_noise_and_error_px_tells_it(fit):
    seen = project(CAMERA, fitted_keypoints(fit))
    to_truth = np.linalg.norm(np.asarray(seen - PIXELS), axis=-1).mean(-1)
    noise = np.linalg.norm(np.asarray(NOISY - PIXELS), axis=-1).mean(-1)
    assert (to_truth < noise).mean() > 0.7
    assert np.median(to_truth / np.asarray(EXTENT)) < 0.011
    np.testing.assert_allclose(fit.error_px, np.linalg.norm(np.asarray(seen - NOISY), axis=-1).mean(-1), atol=0.02)


def test_three_dimensions_are_recovered(fit):
    errors = pa_mpjpe_mm(fitted_keypoints(fit), TRUTH)
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


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 19])
def test_a_fit_does_not_depend_on_how_many_are_made(fit, count):
    few = fit_hand(MODEL, NOISY[:count], EVERYTHING[:count], WORLD[:count], (SIZE, SIZE))
    np.testing.assert_allclose(few.pose, fit.pose[:count], atol=0.01)
    np.testing.assert_allclose(few.error_px, fit.error_px[:count], atol=0.01)


def test_one_wild_keypoint_is_outvoted(fit):
    wild = fit_hand(MODEL, NOISY.at[:, 12].add(0.5 * EXTENT[:, None]), EVERYTHING, WORLD, (SIZE, SIZE))
    others = np.delete(np.arange(21), 12)
    moved = np.linalg.norm(np.asarray(project(CAMERA, fitted_keypoints(wild)) - PIXELS), axis=-1)[:, others].mean(-1)
    assert np.median(moved / np.asarray(EXTENT)) < 0.02


def test_two_dimensions_alone_reproject_to_two_pixels():
    small, noisy = at_200_px(PIXELS)
    fit = fit_hand(MODEL, noisy, EVERYTHING, None, (SIZE, SIZE))
    to_truth = reprojection_px(fit, small)
    print(f"2-D only, px: to the keypoints {fit.error_px.mean():.2f}, to the truth {to_truth.mean():.2f}")
    assert fit.error_px.mean() < 1.4
    assert to_truth.mean() < 2.3
    assert to_truth.max() < 5.0


def test_keypoints_in_space_are_fitted_to_two_millimetres():
    fit = fit_hand_3d(MODEL, NOISY_POINTS, EVERYTHING)
    found = fitted_keypoints(fit)
    errors, noise = pa_mpjpe_mm(found, TRUTH), pa_mpjpe_mm(NOISY_POINTS, TRUTH)
    print(f"3-D: PA-MPJPE mm of the noise {noise.mean():.2f}, of the fit {errors.mean():.2f}, max {errors.max():.2f}")
    assert errors.mean() < 1.6
    assert errors.max() < 2.5
    distance = np.linalg.norm(np.asarray(found - NOISY_POINTS), axis=-1)
    np.testing.assert_allclose(fit.error_m, distance.mean(-1), atol=1e-5)
    # in place and in size, too
    assert 1000 * np.linalg.norm(np.asarray(found - TRUTH), axis=-1).mean() < 2.0


@pytest.mark.slow
def test_missing_and_wrong_points_in_space_are_borne():
    rng = np.random.default_rng(5)
    missing = rng.uniform(size=(HANDS, 21)) < 0.3
    holes = jnp.where(missing[..., None], jnp.nan, NOISY_POINTS)
    errors = pa_mpjpe_mm(fitted_keypoints(fit_hand_3d(MODEL, holes, EVERYTHING)), TRUTH)
    print(f"3-D, 30 % missing: PA-MPJPE mm median {np.median(errors):.2f}, max {errors.max():.2f}")
    assert np.median(errors) < 2.9
    assert errors.max() < 25.0
    wrong = np.array(NOISY_POINTS)
    np.put_along_axis(wrong, two_of_each(rng), wrong[:, :2] + rng.choice([-0.1, 0.1], (HANDS, 2, 3)), axis=1)
    errors = pa_mpjpe_mm(fitted_keypoints(fit_hand_3d(MODEL, wrong, EVERYTHING)), TRUTH)
    print(f"3-D, two wrong: PA-MPJPE mm median {np.median(errors):.2f}, max {errors.max():.2f}")
    assert np.median(errors) < 2.0
    assert errors.max() < 25.0


def two_of_each(rng) -> np.ndarray:
    """Two keypoints of each hand, for `put_along_axis`."""
    return rng.permuted(np.tile(np.arange(21), (HANDS, 1)), axis=1)[:, :2, None]


@pytest.mark.slow
def test_missing_and_wrong_points_of_a_picture_are_borne():
    rng = np.random.default_rng(6)
    small, noisy = at_200_px(PIXELS)
    missing = rng.uniform(size=(HANDS, 21)) < 0.3
    fit = fit_hand(MODEL, jnp.where(missing[..., None], jnp.nan, noisy), EVERYTHING, None, (SIZE, SIZE))
    seen = np.linalg.norm(np.asarray(project(CAMERA, fitted_keypoints(fit)) - small), axis=-1)
    kept = (seen * ~missing).sum(1) / (~missing).sum(1)
    print(
        f"2-D, 30 % missing, px to the truth: kept {np.median(kept):.2f}, max {kept.max():.2f}; all {seen.mean():.2f}"
    )
    assert np.median(kept) < 2.5
    assert kept.max() < 6.0
    assert seen.mean() < 6.0
    wrong = np.array(noisy)
    np.put_along_axis(wrong, two_of_each(rng), rng.uniform(100, 400, (HANDS, 2, 2)), axis=1)
    to_truth = reprojection_px(fit_hand(MODEL, wrong, EVERYTHING, None, (SIZE, SIZE)), small)
    print(f"2-D, two wrong, px to the truth: median {np.median(to_truth):.2f}, max {to_truth.max():.2f}")
    assert np.median(to_truth) < 3.5
    assert to_truth.max() < 40.0


@pytest.mark.slow
def test_fingers_without_a_palm_are_fitted():
    confidence = EVERYTHING.at[:, jnp.array([0, 1, 5, 9, 13, 17])].set(0.0)
    fit = fit_hand(MODEL, NOISY, confidence, None, (SIZE, SIZE))
    assert np.median(fit.error_px / EXTENT) < 0.01
    assert (fit.error_px / EXTENT).max() < 0.1


@pytest.mark.parametrize("with_world", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_keypoints_that_are_no_numbers_are_missing(with_world):
    holes = NOISY.at[:, 8].set(jnp.nan).at[:, 15, 0].set(jnp.inf)
    world = WORLD.at[:, 8].set(jnp.nan).at[:, 15].set(jnp.nan) if with_world else None
    zeros = EVERYTHING.at[:, jnp.array([8, 15])].set(0.0)
    expected = fit_hand(MODEL, NOISY, zeros, WORLD if with_world else None, (SIZE, SIZE))
    for confidence in (EVERYTHING, zeros, EVERYTHING.at[:, jnp.array([8, 15])].set(jnp.nan)):
        found = fit_hand(MODEL, holes, confidence, world, (SIZE, SIZE))
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    nothing = fit_hand(MODEL, jnp.full_like(NOISY, jnp.nan), EVERYTHING, world, (SIZE, SIZE))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(nothing))


@pytest.mark.slow
def test_a_hand_that_nobody_fitted_to():
    """WebXR's generic hand, whose shape the open hand can follow to 1.7 mm.

    The noise alone is 2.06 mm in space.
    """
    rng = np.random.default_rng(0)
    curl = np.clip(rng.uniform(size=(HANDS, 1)) + 0.1 * rng.standard_normal((HANDS, 5)), 0, 1)
    bends = curl[..., None] * np.radians([[10, 30, 45]] + [[70, 90, 45]] * 4)
    turns = np.asarray(jax.vmap(axis_angle_to_matrix)(3 * rng.standard_normal((HANDS, 3))))
    truth = np.einsum("hab,hkb->hka", turns, np.stack([webxr_keypoints(bend) for bend in bends]))
    truth = jnp.asarray(truth - truth.mean(1, keepdims=True) + np.array([0, 0, 0.5]), jnp.float32)
    span = (truth.max(1) - truth.min(1)).max(-1)[:, None, None]
    noisy = truth + 0.01 * span * jax.random.normal(jax.random.key(1), truth.shape)
    clean = pa_mpjpe_mm(fitted_keypoints(fit_hand_3d(MODEL, truth, EVERYTHING)), truth)
    errors = pa_mpjpe_mm(fitted_keypoints(fit_hand_3d(MODEL, noisy, EVERYTHING)), truth)
    print(f"WebXR, 3-D: PA-MPJPE mm {errors.mean():.2f}, max {errors.max():.2f}, without noise {clean.mean():.2f}")
    assert clean.mean() < 1.8
    assert errors.mean() < 2.5
    assert errors.max() < 3.3
    small, noisy = at_200_px(project(CAMERA, truth))
    fit = fit_hand(MODEL, noisy, EVERYTHING, None, (SIZE, SIZE))
    to_truth = reprojection_px(fit, small).mean()
    print(f"WebXR, 2-D, px: to the keypoints {fit.error_px.mean():.2f}, to the truth {to_truth:.2f}")
    assert fit.error_px.mean() < 2.0
    assert to_truth < 2.9

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import handjax
from handjax.conditions.crops import box_side, crop_image, hand_box, hand_in_crop
from handjax.conditions.photo import conditions_from_hand, conditions_from_hands
from handjax.hand.camera import default_camera, project
from handjax.hand.fit import HandFit
from handjax.hand.model import load_open_hand, pose_hand
from handjax.images import read_image
from handjax.perception import HandDetector
from handjax.perception.hands import DetectedHand

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"

SIZE = 96


@pytest.fixture(scope="module")
def true_hand():
    """A right hand with known pose as it would be detected, and what a perfect estimator says of it."""
    rng = np.random.default_rng(0)
    model = load_open_hand()
    pose = jnp.asarray(rng.normal(0, 0.15, (16, 3)), jnp.float32)
    betas = jnp.asarray(rng.normal(0, 0.5, model.shapedirs.shape[-1]), jnp.float32)
    translation = jnp.array([0.01, 0.07, 0.75])
    camera = default_camera(SIZE, SIZE)
    keypoints = pose_hand(model, pose, betas, translation).keypoints
    pixels = np.concatenate([project(camera, keypoints), np.zeros((21, 1))], axis=1).astype(np.float32)
    hand = DetectedHand.from_landmarks("right", 1.0, pixels, np.asarray(keypoints - keypoints.mean(0)))
    return hand, HandFit(pose, betas, translation, camera, jnp.zeros(()))


def mirrored(hand: DetectedHand) -> DetectedHand:
    keypoints = hand.keypoints * [-1, 1, 1] + [SIZE, 0, 0]
    return DetectedHand.from_landmarks("left", 1.0, keypoints.astype(np.float32), hand.world * [-1, 1, 1])


def test_left_hands_reach_the_estimator_as_right_ones_and_come_back(true_hand):
    hand, fit = true_hand
    crop = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), np.uint8)

    def estimator(crops, keypoints, confidence, world):
        for i in range(2):
            np.testing.assert_array_equal(crops[i], crop)
            np.testing.assert_allclose(keypoints[i], hand.keypoints[:, :2], atol=1e-4)
            np.testing.assert_allclose(world[i], hand.world, atol=1e-6)
        return _repeat(fit, len(keypoints))

    right, left = conditions_from_hands([crop, crop[:, ::-1]], [hand, mirrored(hand)], estimator)
    for name in ("mask", "depth", "mesh", "skeleton"):
        np.testing.assert_allclose(getattr(left, name), getattr(right, name)[:, ::-1], atol=1e-5)
    assert (right.mask > 0).sum() > 500
    # what the record says of the left hand must draw where the left hand is
    keypoints = pose_hand(load_open_hand("left"), left.pose, left.betas, left.translation).keypoints
    pixels = left.camera[:2] * keypoints[:, :2] / keypoints[:, 2:] + left.camera[2:]
    np.testing.assert_allclose(pixels, left.keypoints, atol=1e-3)
    np.testing.assert_allclose(left.keypoints, mirrored(hand).keypoints[:, :2])


def test_fit_finds_the_hand_that_the_keypoints_were_made_of(true_hand):
    hand, fit = true_hand
    crop = np.zeros((SIZE, SIZE, 3), np.uint8)
    perfect = conditions_from_hand(crop, hand, lambda crops, *_: _repeat(fit, len(crops)))
    fitted = conditions_from_hand(crop, hand)
    assert fitted.fit_error_px < 1.0
    overlap = ((fitted.mask > 0) & (perfect.mask > 0)).sum() / ((fitted.mask > 0) | (perfect.mask > 0)).sum()
    assert overlap > 0.9
    both = (fitted.mask > 0) & (perfect.mask > 0)
    assert np.abs(fitted.depth - perfect.depth)[both].mean() < 0.08


def test_every_number_of_hands_gives_as_many_conditions(true_hand):
    hand, fit = true_hand
    crops = [np.zeros((SIZE, SIZE, 3), np.uint8)] * 17
    many = conditions_from_hands(crops, [hand] * 17, lambda crops, *_: _repeat(fit, len(crops)))
    assert len(many) == 17
    np.testing.assert_array_equal(many[16].depth, many[0].depth)
    assert conditions_from_hands([], []) == []


def _repeat(fit: HandFit, many: int) -> HandFit:
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * many), fit)


@pytest.mark.parametrize("name", ["fullcurl", "halfcurl", "nocurl"])
def test_a_real_hand_is_fitted_where_the_detector_is_not_sure_of_its_side(name):
    """Taken for the other hand its keypoints in space mislead the fit, which the picture must put right."""
    image = read_image(PHOTOS / f"{name}.jpg")
    (hand,) = HandDetector.load(max_hands=1).detect(image)
    assert hand.score < 0.9
    box = hand_box(hand.keypoints)
    seen = hand_in_crop(hand, box, 192)
    conditions = conditions_from_hand(crop_image(image, box, 192), seen)
    assert conditions.fit_error_px < 0.06 * box_side(seen.keypoints)

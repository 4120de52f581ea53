"""Jitter goes, motion stays: hands of a clip that turn and come nearer, read with noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handjax.hand.camera import default_camera, project
from handjax.hand.model import load_open_hand
from handjax.inference.clip import smooth_clip, with_one_side
from handjax.inference.scene import ReconstructedHand, both_sides, reposed
from handjax.perception import DetectedHand, one_euro
from handjax.perception.one_euro import OneEuro

FRAMES, RATE, SHAPE = 60, 30.0, (240, 320)
CAMERA = default_camera(*SHAPE)


def test_turns_about_one_axis_are_filtered_as_their_angle():
    axis = np.array([2.0, -1, 2]) / 3
    angles = 2.5 + np.random.default_rng(0).normal(0.05, 0.2, 40).cumsum()  # across half a turn, where vectors jump
    turns, plain, settings = one_euro.start((2, 3)), one_euro.start(()), OneEuro(0.7, 3.0, 1.3)
    smooth_turns, smooth = jax.jit(one_euro.smooth_turns), jax.jit(one_euro.smooth)
    for angle in angles:
        vector = Rotation.from_rotvec(angle * axis).as_rotvec()
        turns = smooth_turns(settings, turns, jnp.array([vector, -vector], jnp.float32), RATE)
        plain = smooth(settings, plain, jnp.float32(angle), RATE)
        for sign, value in zip((1, -1), np.asarray(turns.value), strict=True):
            apart = Rotation.from_rotvec(value) * Rotation.from_rotvec(-sign * float(plain.value) * axis)
            assert apart.magnitude() < 2e-4
    assert np.abs(angles).max() > np.pi


@pytest.fixture(scope="module")
def models():
    return both_sides(load_open_hand())


def hand_in(models, pose, betas, wrist):
    nothing, sure = np.zeros((0, 3)), np.ones(16)
    zeros = {"log_likelihood": 0.0, "keypoint_error": 0.0}
    hand = ReconstructedHand("right", pose, betas, *5 * [nothing], sure, sure, sure, **zeros)
    hand = reposed(models, hand, CAMERA, betas, wrist=wrist)
    return dataclasses.replace(hand, places=np.asarray(project(CAMERA, hand.keypoints)))


@pytest.fixture(scope="module")
def clips(models):
    """A finger that bends while the hand turns and comes nearer, as it is and with noise."""
    random, true, noisy = np.random.default_rng(1), [], []
    for time in np.arange(FRAMES) / RATE:
        pose = np.zeros((16, 3), np.float32)
        pose[0], pose[4] = (0.0, 0.6 * np.sin(2 * time), 0.0), (0.8 * np.sin(3 * time) ** 2, 0.0, 0.0)
        wrist = np.array([0.05 * np.sin(2 * time), 0.06, 0.7 - 0.1 * time], np.float32)
        true.append({4: hand_in(models, pose, np.zeros(10, np.float32), wrist)})
        pose = pose + random.normal(0, 0.05, pose.shape).astype(np.float32)
        betas = random.normal(0, 0.5, 10).astype(np.float32)
        noisy.append({4: hand_in(models, pose, betas, wrist * np.float32(1 + random.normal(0, 0.02)))})
    return true, noisy


def test_jitter_goes_and_motion_stays(models, clips):
    true, noisy = clips
    smooth = smooth_clip(models, noisy, CAMERA, RATE)
    assert [list(frame) for frame in smooth] == [[4]] * FRAMES
    assert len({frame[4].betas.tobytes() for frame in smooth}) == 1
    np.testing.assert_allclose(smooth[0][4].betas, np.mean([frame[4].betas for frame in noisy], axis=0), atol=1e-6)
    points = [np.array([frame[4].keypoints for frame in clip]) for clip in (true, noisy, smooth)]
    jitter = [np.diff(each, n=2, axis=0).std() for each in points[1:]]
    far = [np.linalg.norm(each - points[0], axis=-1).mean() for each in points[1:]]
    shapes = [each - each[:, :1] for each in points]
    bent = [np.linalg.norm(each - shapes[0], axis=-1).mean() for each in shapes[1:]]
    assert jitter[1] < 0.4 * jitter[0] and far[1] < 0.9 * far[0] and bent[1] < 0.6 * bent[0]
    middle = smooth[30][4]
    again = reposed(models, middle, CAMERA, middle.betas, wrist=middle.keypoints[0])
    np.testing.assert_allclose(again.vertices, middle.vertices, atol=1e-5)


def test_a_hand_keeps_its_side_over_the_clip():
    """Weighed by how sure each frame is: one that is sure outweighs two that guess."""

    def found(side, score):
        return DetectedHand.from_landmarks(side, score, np.eye(21, 3, dtype=np.float32), np.zeros((21, 3), np.float32))

    clip = [{1: found("left", 0.98), 2: found("left", 0.7)}, {1: found("right", 0.55)}, {}, {1: found("right", 0.6)}]
    settled = with_one_side(clip)
    assert [list(hands) for hands in settled] == [[1, 2], [1], [], [1]]
    assert {hands[1].side for hands in settled if hands} == {"left"} == {settled[0][2].side}
    assert settled[3][1].score == pytest.approx((0.98 + 0.45 + 0.4) / 3) and settled[0][2].score == pytest.approx(0.7)
    np.testing.assert_array_equal(settled[1][1].keypoints, clip[1][1].keypoints)

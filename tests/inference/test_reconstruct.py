"""Meshes of a picture by a tiny random network: where they stand, their mirror images, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import ConfigError, InputError, WeightsError
from handjax.hand.camera import default_camera, project
from handjax.hand.model import load_open_hand, mirror_model, pose_hand
from handjax.inference.reconstruct import HandReconstructor
from handjax.inference.scene import draw_meshes
from handjax.perception import DetectedHand
from handjax.recovery.camera import MEAN_CAMERA, project_to_crop
from handjax.recovery.reading import Fixed, MeshReader
from tests.recovery.tiny_models import random_model

SHAPE = (240, 320)
KEYPOINTS = np.random.default_rng(0).uniform(100, 180, (21, 3)).astype(np.float32)
KEYPOINTS[:2, :2] = [[100, 100], [180, 180]]  # the square around them is that from 76 to 204


CAMERA = np.array([5.0, 0.02, -0.01], np.float32)


@pytest.fixture(scope="module")
def model():
    """Sees every hand by CAMERA."""
    made = random_model(codes=64)
    head = made.params["shape_head"]
    camera = {"kernel": 0 * head["camera"]["kernel"], "bias": CAMERA - np.array(MEAN_CAMERA, np.float32)}
    return made._replace(params={**made.params, "shape_head": {**head, "camera": camera}})


@pytest.fixture(scope="module")
def reconstructor(model):
    return HandReconstructor(model, load_open_hand())


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (*SHAPE, 3), np.uint8)


def hand_at(keypoints, side="right"):
    return DetectedHand.from_landmarks(side, 1.0, keypoints.astype(np.float32), np.zeros((21, 3), np.float32))


@pytest.fixture(scope="module")
def right(reconstructor, image):
    return reconstructor.read(image, hand_at(KEYPOINTS))


def recovered(reconstructor, image):
    crop, cue = reconstructor.crop(image, hand_at(KEYPOINTS))
    reader = MeshReader(reconstructor.model.network, reconstructor.model.tokenizer.network)
    fixed = Fixed(reconstructor.model.tokenizer.arrays, load_open_hand())
    return jax.jit(reader.recover)(reconstructor.model.params, fixed, crop[None], cue[None], jax.random.key(0))


def test_a_hand_stands_in_the_picture_where_its_crop_shows_it(reconstructor, image, right):
    posed = pose_hand(load_open_hand(), right.pose, right.betas, jnp.zeros(3))
    np.testing.assert_allclose(posed.vertices + right.translation, right.vertices, atol=1e-4)
    made, _ = jax.device_get(recovered(reconstructor, image))
    np.testing.assert_allclose(
        right.places, 140 + 128 * project_to_crop(jnp.asarray(made.posed.keypoints[0]), jnp.array(CAMERA)), atol=1e-3
    )
    seen = project(default_camera(*SHAPE), right.keypoints)
    np.testing.assert_allclose(seen.mean(0), right.places.mean(0), atol=0.3)
    np.testing.assert_allclose(seen, right.places, atol=4)  # perspective is stronger than in the crop
    off = np.linalg.norm(right.places - KEYPOINTS[:, :2], axis=1).mean()
    assert right.keypoint_error == pytest.approx(off / 80, rel=1e-5)  # the box is 80 pixels wide
    assert right.confidence.shape == (16,) and (right.confidence < 1).all()
    np.testing.assert_allclose(right.token_confidence, right.confidence, rtol=1e-5)  # one token a joint
    weights = np.asarray(load_open_hand().skin_weights)
    np.testing.assert_allclose(right.vertex_confidence, weights @ right.confidence, rtol=1e-5)
    assert right.log_likelihood == pytest.approx(np.log(np.float64(right.confidence)).sum(), rel=1e-3)  # 16 tokens


def test_a_left_hand_is_the_mirror_image(reconstructor, image, right):
    mirrored = KEYPOINTS * [-1, 1, 1] + [SHAPE[1], 0, 0]
    left = reconstructor.read(np.ascontiguousarray(image[:, ::-1]), hand_at(mirrored, "left"))
    np.testing.assert_allclose(left.vertices, right.vertices * [-1, 1, 1], atol=1e-4)
    posed = pose_hand(mirror_model(load_open_hand()), left.pose, left.betas, jnp.asarray(left.translation))
    np.testing.assert_allclose(posed.vertices, left.vertices, atol=1e-4)
    np.testing.assert_array_equal(left.faces, right.faces[:, ::-1])


def test_of_two_hands_the_smaller_one_is_farther_and_hidden(reconstructor, image, right):
    half = (KEYPOINTS - 140) / 2 + 140
    far = reconstructor.read(image, hand_at(half))
    assert far.translation[2] == pytest.approx(2 * right.translation[2], rel=0.02)
    alone, both = (draw_meshes(image, hands, default_camera(*SHAPE)) for hands in ([right], [far, right]))
    touched = (alone != image).any(-1)
    assert 0.005 < touched.mean() < 0.2 and touched[76:204, 76:204].sum() == touched.sum()
    np.testing.assert_array_equal(both[touched], alone[touched])
    np.testing.assert_array_equal(draw_meshes(image, [], default_camera(*SHAPE)), image)


def test_what_cannot_be_read_is_refused(model, reconstructor, image):
    with pytest.raises(InputError, match="a square of 13 pixels is too small"):
        reconstructor.read(image, hand_at(140 + (KEYPOINTS - 140) / 10))
    spoilt = model._replace(params=jax.tree.map(lambda value: value * np.nan, model.params))
    with pytest.raises(WeightsError, match="give no numbers"):
        HandReconstructor(spoilt, load_open_hand()).read(image, hand_at(KEYPOINTS))
    with pytest.raises(ConfigError, match="knows open_hand, not mano; as hand model give none"):
        HandReconstructor(model, dataclasses.replace(load_open_hand(), name="mano"))
    with pytest.raises(ConfigError, match="is a left hand; give the right one"):
        HandReconstructor(model, load_open_hand("left"))
    of_mano = model._replace(tokenizer=model.tokenizer._replace(hand="mano"))
    with pytest.raises(ConfigError, match="knows mano, not open_hand; as hand model give its MANO_RIGHT.pkl"):
        HandReconstructor(of_mano, load_open_hand())


def test_hypotheses_are_drawn_poses_with_their_likelihood(reconstructor, image):
    drawn = reconstructor.hypotheses(image, hand_at(KEYPOINTS), 4)
    likelihoods = [each.log_likelihood for each in drawn]
    assert likelihoods == sorted(likelihoods, reverse=True) and len(set(likelihoods)) == 4
    for one in drawn:
        assert one.log_likelihood == pytest.approx(np.log(np.float64(one.token_confidence)).sum(), rel=1e-5)
        posed = pose_hand(load_open_hand(), one.pose, one.betas, jnp.asarray(one.translation))
        np.testing.assert_allclose(posed.vertices, one.vertices, atol=1e-4)
    assert np.abs(drawn[0].pose - drawn[1].pose).max() > 0.1
    again = reconstructor.hypotheses(image, hand_at(KEYPOINTS), 4)
    np.testing.assert_array_equal(again[0].pose, drawn[0].pose)

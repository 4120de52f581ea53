"""Two hands of known places, seen by a network that errs in their shape alone: where they stand, which is nearer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from handjax.conditions.crops import hand_box
from handjax.hand.camera import default_camera, project
from handjax.hand.model import load_open_hand, pose_hand, pose_hand_matrices
from handjax.hand.rasterize import join_meshes, mesh_index, rasterize
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.hand.sampling import sample_pose
from handjax.inference.reconstruct import HandReconstructor
from handjax.inference.scene import both_sides, pairs_of_hands, rays_of, share_shapes, turn_to
from handjax.metrics.two_hands import relative_root_error
from handjax.perception import DetectedHand
from handjax.recovery.camera import project_to_crop
from handjax.recovery.decoding import Decoded
from handjax.recovery.files import RecoveryModel
from handjax.recovery.reading import Recovered
from tests.recovery.tiny_models import random_tokenizer, tiny_network

SHAPE = (300, 400)
CAMERA = default_camera(*SHAPE)
BETAS = np.array([0.5, -1, 0.3, 0, 0, 0, 0, 0, 0, 0], np.float32)
WRISTS = {"right": (-0.06, 0.07, 0.60), "left": (0.0, 0.08, 0.64)}
GUESSED = {"right": 1.5, "left": -0.9}
"""Deviations of size by which it is wrong: it takes the nearer hand for a larger one that is farther away."""
POSE, POSE_TURNED, PROJECT = jax.jit(pose_hand), jax.jit(pose_hand_matrices), jax.jit(project_to_crop)
MIRROR = {"right": np.ones(3), "left": np.array([-1.0, 1, 1])}


@pytest.fixture(scope="module")
def models():
    return both_sides(load_open_hand())


@pytest.fixture(scope="module")
def poses():
    draw = jax.vmap(lambda key: sample_pose(key, load_open_hand()))
    right, left = np.array(draw(jax.random.split(jax.random.key(3))))
    right[0], left[0] = (0.2, 0.5, 0.1), (0.1, -0.4, -0.2)
    return {"right": right, "left": left}


@pytest.fixture(scope="module")
def truth(models, poses):
    """Hands whose wrists are at WRISTS."""
    made = {side: jax.device_get(POSE(models[side], pose, BETAS, jnp.zeros(3))) for side, pose in poses.items()}
    moves = {side: np.array(WRISTS[side], np.float32) - hand.joints[0] for side, hand in made.items()}
    return {
        side: hand._replace(**{k: v + moves[side] for k, v in hand._asdict().items()}) for side, hand in made.items()
    }


def detected(hand, side):
    places = np.concatenate([np.asarray(project(CAMERA, hand.keypoints)), np.zeros((21, 1))], axis=1)
    return DetectedHand.from_landmarks(side, 1.0, places.astype(np.float32), np.zeros((21, 3), np.float32))


def perfect_reading(pose, hand, side, betas):
    """What a network says that knows the pose and sees the hand where it is: the camera of the crop fits its shape."""
    found = detected(hand, side)
    box = hand_box(found.keypoints)
    turns = np.asarray(axis_angle_to_matrix(jnp.asarray(pose)))
    along_the_ray = np.asarray(axis_angle_to_matrix(jnp.asarray(turn_to(rays_of((box[:2] + box[2:]) / 2, CAMERA)))))
    turns = np.concatenate([along_the_ray.T[None] @ turns[:1], turns[1:]])
    turns = turns * np.outer(MIRROR[side], MIRROR[side])  # as the right hand that the network knows
    made = POSE_TURNED(load_open_hand(), jnp.asarray(turns, jnp.float32), jnp.asarray(betas), jnp.zeros(3))
    seen = ((found.keypoints[:, :2] - box[:2]) / (box[2] - box[0]) - 0.5) * MIRROR[side][:2]

    def misses(camera):
        return (np.asarray(PROJECT(made.keypoints, jnp.asarray(camera, jnp.float32))) - seen).ravel()

    camera = scipy.optimize.least_squares(misses, (7.0, 0.0, 0.05), diff_step=1e-3).x
    one = [jnp.asarray(x, jnp.float32)[None] for x in (turns, betas, camera)]
    sure = jnp.full((1, 16), 0.9)
    decoded = Decoded(
        jnp.zeros((1, 16), int), sure, jnp.log(sure).sum(-1), jnp.zeros((5, 1, 16), bool), jnp.ones((5, 1))
    )
    return Recovered(*one, jax.tree.map(lambda x: x[None], made)), decoded


@pytest.fixture(scope="module")
def read(truth, poses):
    """Reads both hands when the network guesses their shapes."""
    reconstructor = HandReconstructor(RecoveryModel(tiny_network(), {}, random_tokenizer()), load_open_hand())

    def run(guessed):
        hands = []
        for side, hand in truth.items():
            betas = BETAS.copy()
            betas[0] += guessed[side]
            reading = perfect_reading(poses[side], hand, side, betas)
            reconstructor._recover = lambda *_, reading=reading: reading
            hands.append(reconstructor.read(np.zeros((*SHAPE, 3), np.uint8), detected(hand, side), camera=CAMERA))
        return hands

    return run


def mrrpe(hands, truth):
    """Millimetres."""
    roots = [hand.keypoints[None, 0] for hand in (*hands, truth["right"], truth["left"])]
    return 1000 * relative_root_error(*roots)


def shown(hands):
    """Which hand each pixel shows: 0 the right one, 1 the left one, -1 neither."""
    faces = [model.faces for model in both_sides(load_open_hand()).values()]
    joined = join_meshes([jnp.asarray(hand.vertices) for hand in hands], faces)
    return np.asarray(mesh_index(rasterize(joined.vertices, joined.faces, CAMERA, *SHAPE), joined))


def test_where_shape_is_known_hands_stand_where_they_are(read, truth):
    hands = read({"right": 0.0, "left": 0.0})
    assert mrrpe(hands, truth) < 1
    for hand in hands:
        np.testing.assert_allclose(hand.keypoints[0], WRISTS[hand.side], atol=2e-3)
        np.testing.assert_allclose(hand.vertices, truth[hand.side].vertices, atol=3e-3)


def test_one_shape_for_a_pair_gives_its_order_in_depth(read, truth, models):
    guessed = read(GUESSED)
    shared = share_shapes(models, guessed, CAMERA)
    assert mrrpe(guessed, truth) > 50 and mrrpe(shared, truth) < 5
    assert guessed[0].translation[2] > guessed[1].translation[2]
    assert shared[0].translation[2] < shared[1].translation[2]
    np.testing.assert_array_equal(shared[0].betas, shared[1].betas)
    ratio = shared[1].keypoints[0, 2] / shared[0].keypoints[0, 2]
    assert ratio == pytest.approx(WRISTS["left"][2] / WRISTS["right"][2], rel=5e-3)  # whatever the common shape is
    alone = [
        shown([hand._replace(vertices=hand.vertices * far) for hand, far in zip(truth.values(), fars, strict=True)])
        for fars in ((1, 9), (9, 1))
    ]  # scaled about the camera a hand is seen in the same place, and as large
    overlap = alone[0] != alone[1]
    right = [(shown(hands) == shown(truth.values()))[overlap].mean() for hands in (shared, guessed)]
    assert overlap.sum() > 500 and right[0] > 0.98 and right[1] < 0.5


def test_pairs_are_left_and_right_close_together_and_about_as_large(read):
    right, left = read({"right": 0.0, "left": 0.0})

    def moved(hand, by, scale=1.0):
        middle = hand.places.mean(0)
        return dataclasses.replace(hand, places=(middle + by + scale * (hand.places - middle)).astype(np.float32))

    assert pairs_of_hands([{5: right, 2: left}]) == [(2, 5)]
    assert pairs_of_hands([{0: right, 1: dataclasses.replace(left, side="right")}]) == []
    assert pairs_of_hands([{0: right, 1: moved(left, 1000)}]) == []
    assert pairs_of_hands([{0: right, 1: moved(left, 0, 2.0)}]) == []
    near, farther = moved(left, 0), moved(left, 30)
    assert pairs_of_hands([{0: right, 1: farther, 2: near}]) == [(0, 2)]
    assert pairs_of_hands([{0: right, 1: near}, {0: right}, {0: right, 1: moved(left, 1000)}]) == [(0, 1)]

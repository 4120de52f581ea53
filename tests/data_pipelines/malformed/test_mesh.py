import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.malformed.edits import BY_NAME
from data_pipelines.malformed.mesh import CHAINS, edit_hand, finger_mesh
from data_pipelines.malformed.mesh_edits import LEAST_BEYOND, RestingHand, draw_plan
from handjax.anatomy.features import measure
from handjax.hand.angles import pose_from_angles
from handjax.hand.camera import PinholeCamera
from handjax.hand.model import load_open_hand, pose_hand
from handjax.hand.rasterize import rasterize
from handjax.hand.topology import JOINT_LIMITS

STRAIGHT = np.zeros((16, 3), np.float32)
STRAIGHT[CHAINS[1:, 0], 1] = np.radians([6, 0, -4, -8])  # fanned out
AWAY = jnp.array([0.0, 0.0, 0.5])
PIXELS = 512
CAMERA = PinholeCamera(focal=jnp.array([900.0, 900.0]), center=jnp.array([256.0, 330.0]))  # 0.56 mm a pixel


@pytest.fixture(scope="module")
def model():
    return load_open_hand()


@pytest.fixture(scope="module")
def mesh(model):
    return finger_mesh(model)


@pytest.fixture(scope="module")
def rest(model):
    return RestingHand(model)


def drawn(name, seed, rest):
    return draw_plan(np.random.default_rng(seed), BY_NAME[name], STRAIGHT, STRAIGHT, rest)


def hand_of(plan, model, mesh):
    return edit_hand(model, mesh, plan, jnp.zeros(3), jnp.zeros(10), AWAY)


def count_at_a_cut(hand):
    """Usual number of pieces into which circles about the palm cut the silhouette above the wrist."""
    mask = np.asarray(rasterize(hand.vertices, hand.faces, CAMERA, PIXELS, PIXELS).mask)
    angle = np.linspace(-0.2 * np.pi, 1.2 * np.pi, 2000)
    pieces = []
    for radius in np.arange(0.074, 0.098, 0.002) * 1800:
        x, y = 256 + radius * np.cos(angle) + 8, 330 - 81 - radius * np.sin(angle)
        inside = mask[np.clip(y.astype(int), 0, 511), np.clip(x.astype(int), 0, 511)] > 0
        pieces.append((np.diff(inside.astype(int)) == 1).sum() + inside[0])
    return np.bincount(pieces).argmax()


def test_a_plan_without_edits_is_the_hand_itself(model, mesh, rest):
    plan = dataclasses.replace(
        drawn("none", 0, rest).plan, length=np.ones(15, np.float32), width=np.ones(15, np.float32)
    )
    hand = hand_of(plan, model, mesh)
    plain = pose_hand(model, pose_from_angles(model, jnp.asarray(STRAIGHT)), jnp.zeros(10), AWAY)
    np.testing.assert_allclose(hand.vertices[: len(model.template)], plain.vertices, atol=1e-6)
    np.testing.assert_allclose(hand.keypoints, plain.keypoints, atol=1e-6)


@pytest.mark.parametrize("name", ["none", "extra_finger", "missing_finger"])
def test_a_cut_across_the_fingers_counts_them(name, model, mesh, rest):
    right = []
    for seed in range(16):
        one = drawn(name, seed, rest)
        if one.shown is None:
            continue
        right.append(count_at_a_cut(hand_of(one.plan, model, mesh)) == len(one.shown))
    assert np.mean(right) >= 0.9


def test_bent_backwards_is_beyond_the_limits_of_motion(model, mesh, rest):
    for seed in range(8):
        one = drawn("backward", seed, rest)
        flexion = np.asarray(measure(hand_of(one.plan, model, mesh).keypoints, True).flexion).reshape(5, 3)
        beyond = (JOINT_LIMITS[CHAINS, 0, 0] - flexion).max(axis=1)
        assert (beyond[list(one.fingers)] > LEAST_BEYOND).all()
        assert (beyond[[f for f in range(1, 5) if f not in one.fingers]] < 0.1).all()


def test_bent_sideways_is_beyond_the_play_of_hinges(model, mesh, rest):
    for seed in range(8):
        one = drawn("sideways", seed, rest)
        abduction = np.asarray(measure(hand_of(one.plan, model, mesh).keypoints, True).abduction).reshape(5, 3)
        hinges = np.abs(abduction[:, 1:]).max(axis=1)
        assert (hinges[list(one.fingers)] > LEAST_BEYOND).all()
        assert (hinges[[f for f in range(1, 5) if f not in one.fingers]] < 0.2).all()


@pytest.mark.parametrize(("name", "low", "high"), [("long_finger", 1.5, 1.9), ("short_finger", 0.5, 0.65)])
def test_lengths_change_by_the_stated_factor(name, low, high, model, mesh, rest):
    usual = np.asarray(measure(hand_of(drawn("none", 0, rest).plan, model, mesh).keypoints, True).digit_ratios)
    for seed in range(6):
        one = drawn(name, seed, rest)
        ratios = np.asarray(measure(hand_of(one.plan, model, mesh).keypoints, True).digit_ratios) / usual
        for finger in range(5):
            # people's fingers differ by a tenth, and by as much from those of the hand that is compared with
            edges = (low, high) if finger in one.fingers else (1.0, 1.0)
            assert 0.85 * edges[0] < ratios[finger] < 1.17 * edges[1]


def test_normal_hands_stay_within_the_limits(rest):
    one = drawn("none", 3, rest)
    assert ((one.plan.angles >= JOINT_LIMITS[..., 0] - 1e-6) & (one.plan.angles <= JOINT_LIMITS[..., 1] + 1e-6)).all()
    assert one.shown == (0, 1, 2, 3, 4) and one.fingers == ()

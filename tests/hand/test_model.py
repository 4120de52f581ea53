"""The open hand: its mesh, its skinning against the textbook formula, its mirror image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handjax.hand.model import (
    OPEN_HAND,
    load_open_hand,
    mirror_pose,
    pose_hand,
    pose_hand_matrices,
    rest_joints,
    shape_hand,
)
from handjax.hand.topology import KEYPOINT_NAMES, MANO_JOINT_NAMES, MANO_PARENTS, MANO_TO_OPENPOSE
from tests.hand.mesh_checks import boundary, capped, winding_number

ZERO_POSE, ZERO_BETAS, ORIGIN = jnp.zeros((16, 3)), jnp.zeros(10), jnp.zeros(3)


@pytest.fixture(scope="module")
def hand():
    return load_open_hand()


@pytest.fixture(scope="module", params=["hand", "forearm"])
def part(request):
    return load_open_hand(part=request.param)


def random_arguments(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    pose = 0.6 * jax.random.normal(keys[0], (16, 3))
    return pose, jax.random.normal(keys[1], (10,)), jax.random.normal(keys[2], (3,))


def test_mesh_is_a_disc_with_one_wrist_loop(part):
    faces = np.asarray(part.faces)
    rim = boundary(faces)
    start = here = next(iter(rim))
    loop = [start]
    while (here := rim[here]) != start:
        loop.append(here)
    assert len(loop) == len(rim) == 20
    np.testing.assert_array_equal(np.unique(faces), np.arange(len(part.template)))
    edges = np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0)
    assert len(part.template) - len(edges) + len(faces) == 1


def test_wrist_loop_is_level(hand):
    rim = np.asarray(hand.template)[list(boundary(hand.faces))]
    flatness = np.linalg.svd(rim - rim.mean(0))[1][-1] / np.sqrt(len(rim))
    assert flatness < 0.003
    assert 0.005 < rim[:, 1].mean() < 0.03


def test_faces_look_outwards_and_have_area(part):
    vertices, faces = capped(part.template, part.faces)
    corner = vertices[faces]
    assert np.einsum("fa,fa->", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])) / 6 > 2e-4
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1) / 2
    assert area.min() > 1e-9


def test_forearm_continues_the_hand(hand):
    forearm = load_open_hand(part="forearm")
    count = len(hand.template)
    assert len(forearm.template) > count
    np.testing.assert_array_equal(forearm.template[:count], hand.template)
    np.testing.assert_allclose(rest_joints(forearm, forearm.template), rest_joints(hand, hand.template), atol=1e-6)
    assert forearm.template[:, 1].max() > 0.15
    np.testing.assert_allclose(forearm.skin_weights[count:, 0], 1, atol=1e-3)


def test_weights_are_convex(part):
    assert part.skin_weights.min() >= 0 and part.joint_regressor.min() >= 0
    np.testing.assert_allclose(part.skin_weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(part.joint_regressor.sum(1), 1, atol=1e-6)


def test_skin_weights_have_no_jumps(hand):
    faces = np.asarray(hand.faces)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    weights = np.asarray(hand.skin_weights)
    assert np.abs(weights[edges[:, 0]] - weights[edges[:, 1]]).sum(1).max() < 1


@pytest.mark.parametrize("seed", range(4))
def test_joints_lie_inside_every_shape(hand, seed):
    betas = jax.random.normal(jax.random.key(seed), (10,))
    vertices = shape_hand(hand, betas)
    inside = winding_number(rest_joints(hand, vertices), *capped(vertices, hand.faces))
    np.testing.assert_allclose(inside, 1, atol=1e-3)


def test_size_of_an_adult(hand):
    def hand_length(betas):
        keypoints = pose_hand(hand, ZERO_POSE, betas, ORIGIN).keypoints
        return np.linalg.norm(keypoints[KEYPOINT_NAMES.index("middle_tip")] - keypoints[0])

    # 95 % of adults: 0.163 to 0.212 m (2012 Anthropometric Survey of U.S. Army Personnel)
    assert 0.175 < hand_length(ZERO_BETAS) < 0.2
    np.testing.assert_allclose(hand_length(ZERO_BETAS.at[0].set(1.0)) / hand_length(ZERO_BETAS), 1.063, atol=1e-3)


def test_shape_directions_after_size_are_uncorrelated(hand):
    directions = np.asarray(hand.shapedirs).reshape(-1, 10)[:, 1:]
    gram = directions.T @ directions
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-6 * gram.max() + 1e-9)
    assert (np.diff(np.diag(gram)) < 0).all()


def keypoint_directions(hand):
    """Keypoints at rest (21, 3) and how each direction moves them (21, 3, 10), float64."""
    pick = np.concatenate([hand.joint_regressor, hand.tip_regressor]).astype(np.float64)[MANO_TO_OPENPOSE]
    return pick @ np.asarray(hand.template), np.einsum("kv,vas->kas", pick, hand.shapedirs)


def finger_lengths(keypoints):
    return np.linalg.norm(np.diff(keypoints[1:].reshape(5, 4, 3), axis=1), axis=-1).sum(axis=1)


@pytest.mark.parametrize("finger", range(5))
def test_each_finger_varies_in_length_by_itself(hand, finger):
    """A tenth more of one finger alone is a hand within three deviations."""
    rest, directions = keypoint_directions(hand)
    steps = np.array([finger_lengths(rest + 1e-3 * directions[..., k]) for k in range(10)]) - finger_lengths(rest)
    slopes = 1e3 * steps.T / finger_lengths(rest)[:, None]
    betas = np.linalg.pinv(slopes) @ (0.1 * np.eye(5)[finger])
    assert np.linalg.norm(betas) < 3
    grown = finger_lengths(rest + directions @ betas) / finger_lengths(rest)
    np.testing.assert_allclose(grown, 1 + 0.1 * np.eye(5)[finger], atol=0.01)


def test_breadth_and_fingers_vary_against_the_palm_as_in_adults(hand):
    """Deviations of the logarithms of breadth over length of the hand, and of middle finger over palm.

    In adults 0.055 and 0.082 (measurements of Gordon et al., 2014). The second is a bound from above: it is the
    difference of two measured lengths and bears the errors of both.
    """
    rest, directions = keypoint_directions(hand)

    def measures(points):
        palm, finger = np.linalg.norm(points[9] - points[0]), finger_lengths(points)[2]
        return np.log([np.linalg.norm(points[5] - points[17]) / (palm + finger), finger / palm])

    steps = [(measures(rest + 1e-3 * directions[..., k]) - measures(rest)) / 1e-3 for k in range(10)]
    breadth, finger = np.linalg.norm(steps, axis=0)
    np.testing.assert_allclose(breadth, 0.055, atol=0.015)
    assert 0.05 < finger < 0.082


def test_identity_returns_the_template(hand):
    posed = pose_hand(hand, ZERO_POSE, ZERO_BETAS, ORIGIN)
    np.testing.assert_allclose(posed.vertices, hand.template, atol=1e-6)
    np.testing.assert_allclose(posed.joints[0], 0, atol=2e-4)


@pytest.mark.parametrize("seed", range(3))
def test_skinning_agrees_with_the_textbook_formula(hand, seed):
    pose, betas, translation = random_arguments(seed)
    rest = np.asarray(hand.template, np.float64) + np.asarray(hand.shapedirs, np.float64) @ np.asarray(betas)
    joints = np.asarray(hand.joint_regressor, np.float64) @ rest
    turns = Rotation.from_rotvec(np.asarray(pose, np.float64)).as_matrix()

    def transform(turn, shift):
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn, shift
        return matrix

    world = [transform(turns[0], joints[0])]
    for joint in range(1, 16):
        parent = MANO_PARENTS[joint]
        world.append(world[parent] @ transform(turns[joint], joints[joint] - joints[parent]))
    skinning = np.stack([matrix @ transform(np.eye(3), -joint) for matrix, joint in zip(world, joints, strict=True)])
    blended = np.einsum("vj,jab->vab", np.asarray(hand.skin_weights, np.float64), skinning)
    expected = np.einsum("vab,vb->va", blended[:, :3, :3], rest) + blended[:, :3, 3] + np.asarray(translation)

    posed = pose_hand(hand, pose, betas, translation)
    np.testing.assert_allclose(posed.vertices, expected, atol=2e-6)
    np.testing.assert_allclose(posed.joints, np.stack(world)[:, :3, 3] + np.asarray(translation), atol=2e-6)


def test_the_whole_hand_turns_about_joint_0(hand):
    pose, betas, translation = random_arguments(0)
    still = pose_hand(hand, pose.at[0].set(0.0), betas, ORIGIN)
    turned = pose_hand(hand, pose, betas, translation)
    np.testing.assert_allclose(turned.joints[0], still.joints[0] + translation, atol=1e-6)
    turn = Rotation.from_rotvec(np.asarray(pose[0])).as_matrix()
    expected = (still.vertices - still.joints[0]) @ turn.T + still.joints[0] + translation
    np.testing.assert_allclose(turned.vertices, expected, atol=2e-6)


@pytest.mark.parametrize("finger", ["thumb", "index", "middle", "ring", "little"])
def test_a_bent_joint_moves_only_its_own_finger(hand, finger):
    middle = MANO_JOINT_NAMES.index(f"{finger}_{'mcp' if finger == 'thumb' else 'pip'}")
    rest = pose_hand(hand, ZERO_POSE, ZERO_BETAS, ORIGIN).keypoints
    bent = pose_hand(hand, ZERO_POSE.at[middle, 0].set(0.5), ZERO_BETAS, ORIGIN).keypoints
    moved = np.linalg.norm(bent - rest, axis=1) > 1e-3
    expected = [name.startswith(finger) and name.split("_")[1] in ("ip", "dip", "tip") for name in KEYPOINT_NAMES]
    np.testing.assert_array_equal(moved, expected)


def test_keypoints_are_the_joints_and_points_of_the_skin(hand):
    posed = pose_hand(hand, *random_arguments(1))
    for index, name in enumerate(KEYPOINT_NAMES):
        if name.endswith("tip"):
            assert np.linalg.norm(posed.vertices - posed.keypoints[index], axis=1).min() < 1e-6
        else:
            np.testing.assert_array_equal(posed.keypoints[index], posed.joints[MANO_JOINT_NAMES.index(name)])


def test_matrices_and_vectors_pose_alike(hand):
    pose, betas, translation = random_arguments(2)
    matrices = jnp.asarray(Rotation.from_rotvec(np.asarray(pose)).as_matrix(), jnp.float32)
    by_matrix = pose_hand_matrices(hand, matrices, betas, translation)
    np.testing.assert_allclose(by_matrix.vertices, pose_hand(hand, pose, betas, translation).vertices, atol=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_the_left_hand_is_the_mirror_image(hand, seed):
    left = load_open_hand(side="left")
    pose, betas, translation = random_arguments(seed)
    mirror = np.array([-1.0, 1.0, 1.0])
    right_posed = pose_hand(hand, pose, betas, translation)
    left_posed = pose_hand(left, mirror_pose(pose), betas, translation * mirror)
    np.testing.assert_allclose(left_posed.vertices, right_posed.vertices * mirror, atol=1e-6)
    np.testing.assert_allclose(left_posed.keypoints, right_posed.keypoints * mirror, atol=1e-6)
    vertices, faces = capped(left.template, left.faces)
    np.testing.assert_allclose(winding_number(rest_joints(left, left.template), vertices, faces), 1, atol=1e-3)


def test_batches_and_gradients(hand):
    poses, betas, translations = (jnp.stack(many) for many in zip(*map(random_arguments, range(3)), strict=True))
    batch = jax.jit(jax.vmap(pose_hand, in_axes=(None, 0, 0, 0)))(hand, poses, betas, translations)
    alone = pose_hand(hand, poses[1], betas[1], translations[1])
    np.testing.assert_allclose(batch.vertices[1], alone.vertices, atol=1e-6)
    gradients = jax.grad(lambda *parameters: (pose_hand(hand, *parameters).keypoints ** 2).sum(), argnums=(0, 1, 2))
    assert all(np.isfinite(gradient).all() for gradient in gradients(ZERO_POSE, ZERO_BETAS, ORIGIN))


def test_texture_coordinates_lie_in_the_unit_square(part):
    assert part.face_uv.shape == (len(part.faces), 3, 2)
    assert part.face_uv.min() >= 0 and part.face_uv.max() <= 1


def test_asset_is_small_and_licensed():
    assert OPEN_HAND.stat().st_size < 2_000_000
    assert "CC0" in OPEN_HAND.with_name("OPEN_HAND_LICENSE.md").read_text()

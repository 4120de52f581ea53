"""MANO files: what is read of them, what is refused, and the model against an independent writing of its formulas."""

import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.hand.angles import pose_from_angles
from handjax.hand.camera import default_camera, project
from handjax.hand.fit import fit_hand, fit_hand_3d
from handjax.hand.mano import absolute_pose, load_hand, load_mano, pca_from_pose, pose_from_pca, relative_pose
from handjax.hand.model import load_open_hand, mirror_model, mirror_pose, pose_hand
from handjax.hand.topology import MANO_PARENTS, MANO_TIP_VERTICES
from tests.hand.mano_files import dense, mano_arrays, mirrored, with_chumpy, write_python2


@pytest.fixture(scope="module")
def arrays():
    return mano_arrays()


@pytest.fixture(scope="module")
def mano_path(arrays, tmp_path_factory):
    return write_python2(tmp_path_factory.mktemp("mano") / "MANO_RIGHT.pkl", with_chumpy(arrays))


@pytest.fixture(scope="module")
def mano(mano_path):
    return load_mano(mano_path)


def random_arguments(seed):
    rng = np.random.default_rng(seed)
    return 0.6 * rng.standard_normal((16, 3)), rng.standard_normal(10), rng.standard_normal(3)


def rotation(vector):
    angle = np.linalg.norm(vector)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def published(arrays, pose, betas, translation):
    """Vertices and joints by Romero et al. 2017, Eq. 1-4, and Loper et al. 2015, section 3, in float64."""
    turns = np.stack([rotation(vector) for vector in pose])
    shaped = arrays["v_template"] + np.einsum("vas,s->va", arrays["shapedirs"], betas)
    joints = arrays["J_regressor"] @ shaped
    correctives = np.einsum("vap,p->va", arrays["posedirs"], (turns[1:] - np.eye(3)).reshape(135))
    world = []
    for joint, parent in enumerate(MANO_PARENTS):
        local = np.eye(4)
        local[:3, :3] = turns[joint]
        local[:3, 3] = joints[joint] - (joints[parent] if joint else 0)
        world.append(world[parent] @ local if joint else local)
    world = np.stack(world)
    skinning = world.copy()
    skinning[:, :3, 3] -= np.einsum("jab,jb->ja", world[:, :3, :3], joints)
    blended = np.einsum("vj,jab->vab", arrays["weights"], skinning)
    vertices = np.einsum("vab,vb->va", blended[:, :3, :3], shaped + correctives) + blended[:, :3, 3]
    return vertices + translation, world[:, :3, 3] + translation


@pytest.mark.parametrize("seed", range(4))
def test_vertices_and_joints_agree_with_the_published_formulas(mano, arrays, seed):
    arguments = random_arguments(seed)
    vertices, joints = published(arrays, *arguments)
    posed = pose_hand(mano, *(jnp.asarray(argument, jnp.float32) for argument in arguments))
    np.testing.assert_allclose(posed.vertices, vertices, atol=1e-6, rtol=0)
    np.testing.assert_allclose(posed.joints, joints, atol=1e-6, rtol=0)
    tips = vertices[list(MANO_TIP_VERTICES["smplx"])]
    np.testing.assert_allclose(posed.keypoints[4::4], tips, atol=1e-6, rtol=0)


def test_gradients_agree_with_finite_differences(mano, arrays):
    rng = np.random.default_rng(9)
    vertex_weights, joint_weights = rng.standard_normal((778, 3)), rng.standard_normal((16, 3))
    arguments = random_arguments(7)

    def measure(pose_function, *arguments):
        vertices, joints = pose_function(*arguments)[:2]
        return (vertex_weights * vertices).sum() + (joint_weights * joints).sum()

    found = jax.grad(lambda *a: measure(lambda *b: pose_hand(mano, *b), *a), argnums=(0, 1, 2))(
        *(jnp.asarray(argument, jnp.float32) for argument in arguments)
    )
    flat, step = np.concatenate([argument.ravel() for argument in arguments]), 1e-5

    def measure_flat(vector):
        return measure(lambda *a: published(arrays, *a), vector[:48].reshape(16, 3), vector[48:58], vector[58:])

    expected = [measure_flat(flat + step * unit) - measure_flat(flat - step * unit) for unit in np.eye(61)]
    found = np.concatenate([np.asarray(part).ravel() for part in found])
    np.testing.assert_allclose(found, np.array(expected) / (2 * step), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_keypoints_are_fitted_with_mano(mano):
    angles = jnp.zeros((16, 3)).at[1:, 0].set(0.5).at[0].set(jnp.array([0.3, 0.2, 0.4]))
    seen = pose_hand(mano, pose_from_angles(mano, angles), jnp.zeros(10), jnp.array([0.0, 0.0, 0.6])).keypoints
    pixels = project(default_camera(512, 512), seen)
    fit = fit_hand(mano, pixels[None], jnp.ones((1, 21)), seen[None], (512, 512))
    assert fit.error_px[0] < 0.5
    for found in (fit, fit_hand_3d(mano, seen[None], jnp.ones((1, 21)))):
        keypoints = pose_hand(mano, found.pose[0], found.betas[0], found.translation[0]).keypoints
        assert np.linalg.norm(keypoints - seen, axis=1).max() < 2e-3


@pytest.mark.parametrize("protocol", [0, 2])
@pytest.mark.parametrize("wrap", [with_chumpy, dense, lambda arrays: arrays])
def test_python_2_pickles_are_read(mano, arrays, tmp_path, protocol, wrap):
    path = write_python2(tmp_path / "MANO_RIGHT.pkl", wrap(arrays), protocol)
    jax.tree.map(np.testing.assert_array_equal, load_mano(path), mano)


@pytest.mark.parametrize("protocol", [0, 2, 3, 5])
def test_python_3_pickles_are_read(mano, arrays, tmp_path, protocol):
    path = tmp_path / "mano.pkl"
    content = arrays | {"J_regressor": arrays["J_regressor"].tocsr(), "scale": np.float64(1)}
    path.write_bytes(pickle.dumps(content, protocol))
    jax.tree.map(np.testing.assert_array_equal, load_mano(path, side="right"), mano)


def test_npz_is_read(mano, arrays, tmp_path):
    np.savez(tmp_path / "mano_right.npz", **dense(arrays))
    jax.tree.map(np.testing.assert_array_equal, load_mano(tmp_path / "mano_right.npz"), mano)


def test_tip_tables(mano_path, mano):
    other = load_mano(mano_path, tips="ho3d")
    np.testing.assert_array_equal(other.tip_regressor.argmax(1), MANO_TIP_VERTICES["ho3d"])
    np.testing.assert_array_equal(mano.tip_regressor.sum(1), 1)


@pytest.mark.parametrize("as_published", [True, False])
def test_the_left_shape_is_mended(mano, arrays, tmp_path, as_published):
    left = mirrored(arrays, fix_shape=not as_published)
    path = write_python2(tmp_path / "MANO_LEFT.pkl", left)
    np.testing.assert_array_equal(load_mano(path).shapedirs, mirror_model(mano).shapedirs)
    np.testing.assert_array_equal(load_mano(path, left_shape="keep").shapedirs, left["shapedirs"].astype(np.float32))
    negated = left["shapedirs"] * np.array([-1.0, 1.0, 1.0])[:, None]
    np.testing.assert_array_equal(load_mano(path, left_shape="negate").shapedirs, negated.astype(np.float32))


def test_mirrored_mano_looks_mirrored(mano):
    pose, betas, translation = (jnp.asarray(argument, jnp.float32) for argument in random_arguments(3))
    mirror = jnp.array([-1.0, 1.0, 1.0])
    right = pose_hand(mano, pose, betas, translation)
    left_model = mirror_model(mano)
    left = pose_hand(left_model, mirror_pose(pose), betas, translation * mirror)
    np.testing.assert_allclose(left.vertices, right.vertices * mirror, atol=1e-6)
    coefficients = jnp.arange(6.0) / 6
    right_pose = pose_from_pca(mano, pose[0], coefficients)
    left_pose = pose_from_pca(left_model, mirror_pose(pose[:1])[0], coefficients)
    np.testing.assert_allclose(left_pose, mirror_pose(right_pose), atol=1e-6)


def test_pose_space(mano, arrays):
    rng = np.random.default_rng(2)
    turn, coefficients = jnp.asarray(rng.standard_normal(3)), jnp.asarray(rng.standard_normal(12))
    expected = (np.asarray(coefficients) @ arrays["hands_components"][:12]).reshape(15, 3)
    flat = pose_from_pca(mano, turn, coefficients, zero="flat")
    np.testing.assert_allclose(flat[0], turn)
    np.testing.assert_allclose(flat[1:], expected, atol=1e-6)
    mean = pose_from_pca(mano, turn, coefficients)
    np.testing.assert_allclose(mean[1:], expected + arrays["hands_mean"].reshape(15, 3), atol=1e-6)
    np.testing.assert_allclose(absolute_pose(mano, flat), mean, atol=1e-6)
    np.testing.assert_allclose(relative_pose(mano, mean), flat, atol=1e-6)
    np.testing.assert_allclose(pca_from_pose(mano, mean, 12), coefficients, atol=1e-5)
    np.testing.assert_allclose(pca_from_pose(mano, flat, 12, zero="flat"), coefficients, atol=1e-5)
    poses = jnp.asarray(random_arguments(4)[0], jnp.float32)[None].repeat(2, axis=0)
    restored = pose_from_pca(mano, poses[:, 0], pca_from_pose(mano, poses))
    np.testing.assert_allclose(restored, poses, atol=1e-5)


def test_the_open_hand_has_no_pose_space():
    with pytest.raises(WeightsError, match="pose space"):
        absolute_pose(load_open_hand(), jnp.zeros((16, 3)))


class Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def assert_refused(path, match, **arguments):
    with pytest.raises(WeightsError, match=match) as caught:
        load_mano(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("place", ["alone", "among the arrays", "in an array"])
def test_a_malicious_pickle_does_not_run(arrays, tmp_path, protocol, place):
    payload = Payload(f"touch {tmp_path / 'ran'}")
    content = {
        "alone": payload,
        "among the arrays": arrays | {"J": payload},
        "in an array": arrays | {"J": np.array([payload], object)},
    }[place]
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert "mano.is.tue.mpg.de" in assert_refused(path, "system")
    assert not (tmp_path / "ran").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "ran").exists()  # the payload works where a pickle is simply loaded


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1+1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cchumpy.ch\nCh.__init__.__globals__\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__class__\x93.",
        b"cnumpy\nndarray\n(dS'state'\nI1\nsb.",  # sets an attribute of a class
        b"ccopy_reg\n_reconstructor\n(cnumpy\ndtype\nNNtR.",
        b"(lp0\n.",
    ],
)
def test_what_is_no_table_of_arrays_is_refused(tmp_path, program):
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(program)
    assert_refused(path, "no pickle of plain arrays")


@pytest.mark.parametrize("content", [b"", b"\x80", b"solid hand\n", b"PK\x03\x04" + bytes(40), bytes(1000)])
@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_damaged_files_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"MANO_RIGHT{suffix}"
    path.write_bytes(content)
    assert "mano.is.tue.mpg.de" in assert_refused(path, "plain arrays|cannot be read")


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_a_missing_file_is_named(tmp_path, suffix):
    for name in ("MANO_LEFT", "hand"):  # that it is missing comes before which hand it is
        assert_refused(tmp_path / f"{name}{suffix}", "cannot be read")


def test_truncated_files_are_refused(mano_path, tmp_path):
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(mano_path.read_bytes()[:-1000])
    assert_refused(path, "no pickle of plain arrays")


def test_an_npz_of_objects_is_refused(arrays, tmp_path):
    np.savez(tmp_path / "MANO_RIGHT.npz", **arrays)
    assert_refused(tmp_path / "MANO_RIGHT.npz", "save them dense")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hands_mean": None}, "hands_mean missing"),
        ({"kintree_table": np.zeros((2, 24), np.int64)}, "24 joints, as SMPL's"),
        ({"kintree_table": np.zeros((2, 16), np.int64)}, "not linked as MANO's"),
        ({"posedirs": np.zeros((778, 3, 207))}, r"posedirs is of shape \(778, 3, 207\)"),
        ({"weights": "none"}, "weights is of shape str"),
        ({"v_template": np.full((778, 3), np.nan)}, "v_template holds values"),
        ({"f": np.full((1538, 3), 778)}, "faces"),
    ],
)
def test_files_of_another_model_are_refused(arrays, tmp_path, change, match):
    content = {name: value for name, value in (dense(arrays) | change).items() if value is not None}
    path = write_python2(tmp_path / "MANO_RIGHT.pkl", content)
    assert "mano.is.tue.mpg.de" in assert_refused(path, match)


def test_the_side_must_be_known(mano_path, tmp_path):
    path = tmp_path / "hand.pkl"
    path.write_bytes(mano_path.read_bytes())
    assert_refused(path, "name it as published, MANO_RIGHT.pkl or MANO_LEFT.pkl, or give side='left'")
    assert load_mano(path, side="right").side == "right"


def test_recipes_name_the_right_hand(mano_path, tmp_path):
    path = tmp_path / "MANO_LEFT.pkl"
    path.write_bytes(mano_path.read_bytes())
    assert load_mano(path).side == "left"
    with pytest.raises(WeightsError, match="MANO_LEFT.pkl: a left hand; give MANO_RIGHT.pkl"):
        load_hand(str(path))
    assert (load_hand(str(mano_path)).name, load_hand("").name) == ("mano", "open_hand")

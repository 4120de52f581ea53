import jax.numpy as jnp
import numpy as np

from handjax.conditions.pictures import hand_pictures, inpaint_mask, normalize_depth
from handjax.hand.camera import PinholeCamera


def test_depth_condition_goes_from_one_at_the_nearest_to_a_fifth_at_the_farthest():
    depth = jnp.array([[0.5, 0.6, 0.7], [9.0, 0.0, 0.55]])
    mask = jnp.array([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(normalize_depth(depth, mask), [[1.0, 0.6, 0.2], [0.0, 0.0, 0.8]], atol=1e-6)


def test_depth_of_nothing_and_of_a_plane_are_finite():
    nothing = normalize_depth(jnp.ones((2, 2)), jnp.zeros((2, 2)))
    plane = normalize_depth(jnp.full((2, 2), 0.7), jnp.ones((2, 2)))
    np.testing.assert_array_equal(nothing, 0.0)
    np.testing.assert_allclose(plane, 1.0)


def test_pictures_of_a_tilted_square():
    vertices = jnp.array([[-0.1, -0.1, 1.0], [0.1, -0.1, 1.0], [0.1, 0.1, 1.2], [-0.1, 0.1, 1.2]])
    faces = jnp.array([[0, 2, 1], [0, 3, 2]])
    camera = PinholeCamera(jnp.array([160.0, 160.0]), jnp.array([32.0, 32.0]))
    pictures = hand_pictures(vertices, faces, camera, 64)
    mask = np.asarray(pictures.mask)
    assert mask[17, 32] == 1 and mask[44, 32] == 1 and mask[15, 32] == 0 and mask[46, 32] == 0
    # depth grows from the upper edge to the lower one, so the condition falls
    column = np.asarray(pictures.depth)[16:45, 32]
    assert column[0] > 0.97 and column[-1] < 0.23 and (np.diff(column) < 0).all()
    np.testing.assert_array_equal(np.asarray(pictures.mesh)[mask == 0], 0.0)
    # 0.25 from everywhere and 0.75 from the camera times the cosine of the 45 degree tilt
    np.testing.assert_allclose(np.asarray(pictures.mesh)[30, 32], 0.25 + 0.75 / np.sqrt(2), atol=1e-3)


def test_inpaint_mask_surrounds_depth_and_keypoints():
    depth = np.zeros((512, 512), np.float32)
    depth[200:300, 220:280] = 0.5
    keypoints = np.full((21, 2), 250.0)
    keypoints[0], keypoints[12] = (250.0, 330.0), (260.0, 210.0)
    # the tight box is 120 px long: 15 % are 18 px, so the 30 px count
    mask = inpaint_mask(depth, keypoints)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (170, 359, 190, 309)
    assert mask.sum() == 190 * 120


def test_inpaint_mask_of_a_large_hand_is_padded_by_its_share_and_cut_at_the_edge():
    keypoints = np.full((21, 2), 250.0)
    keypoints[0], keypoints[12] = (250.0, 450.0), (260.0, 50.0)
    mask = inpaint_mask(np.zeros((512, 512), np.float32), keypoints, np.array([0.0, 1.0, 0.5, 2.0]))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (0, 511, 250, 289)

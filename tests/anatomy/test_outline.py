import jax.numpy as jnp
import numpy as np
import pytest

from handjax.anatomy.outline import read_outline
from handjax.conditions.pictures import hand_pictures
from handjax.hand.angles import pose_from_angles
from handjax.hand.camera import default_camera, project
from handjax.hand.model import load_open_hand, pose_hand

SIZE = 160
SKIN, WALL = np.array([190.0, 140.0, 115.0]), np.array([150.0, 155.0, 160.0])


@pytest.fixture(scope="module")
def spread_hand():
    """A hand with spread fingers before a wall, both with noise and shadows, and its keypoints in pixels."""
    model = load_open_hand()
    spread = jnp.zeros((16, 3)).at[jnp.array([1, 4, 10, 7]), 1].set(jnp.radians(jnp.array([12.0, 2.0, -9.0, -18.0])))
    posed = pose_hand(model, pose_from_angles(model, spread), jnp.zeros(10), jnp.array([0.0, 0.08, 0.5]))
    camera = default_camera(SIZE, SIZE)
    pictures = hand_pictures(posed.vertices, model.faces, camera, SIZE)
    mask = np.asarray(pictures.mask) > 0.5
    colours = np.where(mask[..., None], SKIN * np.asarray(pictures.mesh), WALL * np.linspace(0.6, 1, SIZE)[:, None])
    noise = np.random.default_rng(0).normal(0, 4, colours.shape)
    pixels = np.asarray(project(camera, posed.keypoints))
    depth = np.asarray(posed.keypoints[:, 2:] - posed.keypoints[0, 2]) * camera.focal[0] / 0.5
    return np.clip(colours + noise, 0, 255).astype(np.uint8), np.concatenate([pixels, depth], axis=1), mask


def between(corners) -> np.ndarray:
    """Pixels within a convex polygon."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    ends = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    turns = np.array([(b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) for a, b in ends])
    return (turns > 0).all(axis=0) | (turns < 0).all(axis=0)


def test_spread_fingers_are_all_there_and_not_joined(spread_hand):
    image, keypoints, mask = spread_hand
    outline = read_outline(image, keypoints)
    assert outline.certainty > 0.95
    assert outline.support.min() > 0.9
    assert outline.webbing == (False, False, False, False)
    assert (outline.mask & mask).sum() / (outline.mask | mask).sum() > 0.85  # the mesh goes on beyond the wrist


@pytest.mark.parametrize("pair", [1, 2, 3])
def test_skin_between_two_fingers_joins_these(spread_hand, pair):
    image, keypoints, _ = spread_hand
    one, other = keypoints[1 + 4 * pair : 5 + 4 * pair, :2], keypoints[5 + 4 * pair : 9 + 4 * pair, :2]
    image = image.copy()
    ends = [finger[3] + 0.2 * (finger[3] - finger[2]) for finger in (one, other)]
    image[between(np.array([one[0], ends[0], ends[1], other[0]]))] = 0.9 * SKIN
    outline = read_outline(image, keypoints)
    assert outline.webbing == tuple(k == pair for k in range(4))


@pytest.mark.parametrize("finger", [1, 4])
def test_a_finger_that_is_not_there_has_no_support(spread_hand, finger):
    image, keypoints, _ = spread_hand
    base, tip = keypoints[1 + 4 * finger, :2], keypoints[4 + 4 * finger, :2]
    along = (tip - base) / np.linalg.norm(tip - base)
    aside = 0.12 * SIZE * np.array([-along[1], along[0]])
    base, tip = base + 0.06 * SIZE * along, tip + 0.1 * SIZE * along
    image = image.copy()
    gone = between(np.array([base - aside, base + aside, tip + aside, tip - aside]))
    image[gone] = np.random.default_rng(1).normal(0.8 * WALL, 4, (gone.sum(), 3)).astype(np.uint8)
    support = read_outline(image, keypoints).support
    assert support[finger] < 0.4
    assert np.delete(support, [finger - 1, finger, min(finger + 1, 4)]).min() > 0.9


def test_where_colours_say_nothing_it_is_told(spread_hand):
    image, keypoints, _ = spread_hand
    noise = np.random.default_rng(0).integers(0, 255, image.shape, np.uint8)
    assert read_outline(noise, keypoints).certainty < 0.9


def test_a_bent_finger_has_no_web(spread_hand):
    image, keypoints, _ = spread_hand
    bent = keypoints.copy()
    bent[12] = bent[10]  # middle fingertip at its second joint
    webbing = read_outline(image, bent).webbing
    assert webbing[1] is None
    assert webbing[2] is None
    assert webbing[3] is False

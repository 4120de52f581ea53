"""A rendered hand with spread fingers before a wall: what the tests of outlines and of scores paint over."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from handjax.conditions.pictures import hand_pictures
from handjax.hand.angles import pose_from_angles
from handjax.hand.camera import default_camera, project
from handjax.hand.model import load_open_hand, pose_hand

SIZE = 160
SKIN, WALL = np.array([190.0, 140.0, 115.0]), np.array([150.0, 155.0, 160.0])


class SpreadHand(NamedTuple):
    """The picture, the keypoints in pixels and in metres, and the mesh's mask."""

    image: np.ndarray
    keypoints: np.ndarray
    world: np.ndarray
    mask: np.ndarray


def draw_spread_hand() -> SpreadHand:
    """A right hand, the wall darker above, noise on everything."""
    model = load_open_hand()
    spread = jnp.zeros((16, 3)).at[jnp.array([1, 4, 10, 7]), 1].set(jnp.radians(jnp.array([12.0, 2.0, -9.0, -18.0])))
    posed = pose_hand(model, pose_from_angles(model, spread), jnp.zeros(10), jnp.array([0.0, 0.08, 0.5]))
    camera = default_camera(SIZE, SIZE)
    pictures = hand_pictures(posed.vertices, model.faces, camera, SIZE)
    mask = np.asarray(pictures.mask) > 0.5
    colours = np.where(mask[..., None], SKIN * np.asarray(pictures.mesh), _wall())
    noise = np.random.default_rng(0).normal(0, 4, colours.shape)
    world = as_detected(np.asarray(posed.keypoints))
    depth = (world[:, 2:] - world[0, 2]) * camera.focal[0] / 0.5
    keypoints = np.concatenate([project(camera, jnp.asarray(world)), depth], axis=1).astype(np.float32)
    return SpreadHand(np.clip(colours + noise, 0, 255).astype(np.uint8), keypoints, world, mask)


def as_detected(keypoints: np.ndarray) -> np.ndarray:
    """Keypoints of the model, [21, 3] in metres, where MediaPipe puts them.

    It sees the four knuckles nearer to the fingers, which are shorter for it, and the tips inside of the skin.
    """
    keypoints = keypoints.copy()
    keypoints[5::4] += 0.15 * (keypoints[6::4] - keypoints[5::4])
    keypoints[4::4] += 0.15 * (keypoints[3::4] - keypoints[4::4])
    return keypoints


def fill_gap(image: np.ndarray, keypoints: np.ndarray, pair: int) -> np.ndarray:
    """The picture with skin between a finger and the next one."""
    one, other = keypoints[1 + 4 * pair : 5 + 4 * pair, :2], keypoints[5 + 4 * pair : 9 + 4 * pair, :2]
    ends = [finger[3] + 0.2 * (finger[3] - finger[2]) for finger in (one, other)]
    image = image.copy()
    image[between(np.array([one[0], ends[0], ends[1], other[0]]))] = 0.9 * SKIN
    return image


def remove_finger(image: np.ndarray, keypoints: np.ndarray, finger: int) -> np.ndarray:
    """The picture with wall where a finger was."""
    base, tip = keypoints[1 + 4 * finger, :2], keypoints[4 + 4 * finger, :2]
    along = (tip - base) / np.linalg.norm(tip - base)
    aside = 0.12 * SIZE * np.array([-along[1], along[0]])
    base, tip = base + 0.06 * SIZE * along, tip + 0.1 * SIZE * along
    gone = between(np.array([base - aside, base + aside, tip + aside, tip - aside]))
    image = image.copy()
    image[gone] = np.random.default_rng(1).normal(_wall()[gone], 4).astype(np.uint8)
    return image


def _wall() -> np.ndarray:
    return np.broadcast_to(WALL * np.linspace(0.6, 1, SIZE)[:, None, None], (SIZE, SIZE, 3))


def between(corners) -> np.ndarray:
    """Pixels within a convex polygon."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    ends = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    turns = np.array([(b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) for a, b in ends])
    return (turns > 0).all(axis=0) | (turns < 0).all(axis=0)

"""Both hands of one body side by side, in random poses: what pictures of two hands are painted from."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from data_pipelines.encoding import png
from data_pipelines.scene import camera_about, draw_pose
from data_pipelines.shared_pictures import PlacedHand
from handjax.conditions.crops import RECORD_CROP_SCALE, hand_box
from handjax.conditions.pictures import HandPictures, hand_pictures
from handjax.hand.camera import PinholeCamera, crop_camera, project
from handjax.hand.draw import draw_skeleton
from handjax.hand.model import HandModel, load_open_hand, mirror_pose, pose_hand
from handjax.hand.rasterize import depth_map
from handjax.record import HandRecord, Side

PAIR_CROP_SCALE = 1.3
"""Side of the picture in longer sides of the tight box about both hands."""
NEAREST, FARTHEST = 0.5, 1.2
"""Metres to the middle between the hands."""
LEAST_GAP, MOST_GAP = -0.5, 0.3
"""Between the tight boxes of the hands, in widths of the narrower; below 0 they overlap."""
RISE, DEPTH = 0.25, 0.04
"""Standard deviations of how much higher than the other one hand is, in heights, and how much nearer, in metres."""
_PUSHES = 4
_GRID = 128
_SIDES: tuple[Side, ...] = ("right", "left")
_MIRROR = jnp.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])


class HandPair(NamedTuple):
    """The hands of one body in camera space, metres; the right one first."""

    pose: Float[Array, "2 16 3"]
    betas: Float[Array, " S"]
    translation: Float[Array, "2 3"]
    vertices: Float[Array, "2 V 3"]
    keypoints: Float[Array, "2 21 3"]


@jax.jit
def draw_pair(key: Key[Array, ""], hand: HandModel) -> HandPair:
    """Draws two hands of one shape, side by side or overlapping a little.

    Where one hides the other, all of it is before the other, so that they touch at most.

    Args:
      key: source of randomness.
      hand: the right one.
    """
    finger_key, turn_key, shape_key, place_key = jax.random.split(key, 4)
    keys = jax.random.split(finger_key), jax.random.split(turn_key)
    poses = jax.vmap(draw_pose, (0, 0, None))(*keys, hand)  # both as right hands
    betas = jax.random.normal(shape_key, (hand.shapedirs.shape[-1],))
    posed = jax.vmap(pose_hand, (None, 0, None, None))(hand, poses, betas, jnp.zeros(3))
    vertices, keypoints = posed.vertices * _MIRROR[:, None], posed.keypoints * _MIRROR[:, None]
    translation = _side_by_side(place_key, keypoints)
    for _ in range(_PUSHES):  # another place is seen from another angle
        translation = translation + _push(vertices + translation[:, None], keypoints + translation[:, None], hand)
    return HandPair(
        pose=jnp.stack([poses[0], mirror_pose(poses[1])]),
        betas=betas,
        translation=translation,
        vertices=vertices + translation[:, None],
        keypoints=keypoints + translation[:, None],
    )


def _side_by_side(key: Key[Array, ""], keypoints: Float[Array, "2 21 3"]) -> Float[Array, "2 3"]:
    """Where hands at the origin are to be moved; the one whose forearm comes from further left stands on the left."""
    gap_key, rise_key, depth_key, distance_key = jax.random.split(key, 4)
    low, high = keypoints[..., :2].min(axis=1), keypoints[..., :2].max(axis=1)
    width, height = jnp.moveaxis(high - low, -1, 0)
    gap = jax.random.uniform(gap_key, minval=LEAST_GAP, maxval=MOST_GAP) * width.min()
    forearms = keypoints[:, 0, 0] - keypoints[:, 9, 0]  # from the middle finger's knuckle to the wrist
    order = jnp.where(forearms[0] < forearms[1], 1.0, -1.0) * jnp.array([-1.0, 1.0])
    apart = jnp.array([-0.5, 0.5])
    x = order * (width + gap) / 2
    y = apart * RISE * height.mean() * jax.random.normal(rise_key)
    z = apart * DEPTH * jax.random.normal(depth_key) + jax.random.uniform(distance_key, minval=NEAREST, maxval=FARTHEST)
    middle = jnp.concatenate([(low + high) / 2, keypoints[..., 2:].mean(axis=1)], axis=1)
    return jnp.stack([x, y, z], axis=1) - middle


def _push(vertices: Float[Array, "2 V 3"], keypoints: Float[Array, "2 21 3"], hand: HandModel) -> Float[Array, "2 3"]:
    """By how much the farther hand is to be moved away along its ray, so that the nearer one is before it."""
    middles = keypoints.mean(axis=1)
    far = jnp.argmax(middles[:, 2])
    near = vertices[1 - far]
    camera = camera_about(keypoints.reshape(-1, 3), _GRID, PAIR_CROP_SCALE)
    depth = depth_map(vertices[far], hand.faces, camera, _GRID, _GRID)
    x, y = jnp.floor(project(camera, near)).astype(int).T
    seen = depth.at[y, x].get(mode="fill", fill_value=0.0)
    hides = (seen > 0) & (x >= 0) & (y >= 0)
    behind = jnp.max(near[:, 2] - seen, where=hides, initial=0.0)
    ray = middles[far] / middles[far, 2]
    return jnp.zeros((2, 3)).at[far].set(ray * behind)


def rendered_pair(number: int, seed: int, size: int) -> tuple[dict[str, bytes], tuple[PlacedHand, ...]]:
    """Renders the conditions of a picture of two hands, and the labels of both.

    Args:
      number: of the picture; picture n of a seed is always the same.
      seed: of all pictures.
      size: side of the picture in pixels.

    Returns:
      Depth, skeleton and mesh of both hands as encoded pictures; and the records, the right hand's first, with
      everything but id, image, caption and source. A record's own conditions show its own hand.

    Source: DECISIONS B3, by which depth is scaled of each hand by itself.
    """
    hand = _open_hand()
    pair = draw_pair(jax.random.fold_in(jax.random.key(seed), number), hand)
    camera = camera_about(pair.keypoints.reshape(-1, 3), size, PAIR_CROP_SCALE)
    meshes = [(pair.vertices[0], hand.faces), (pair.vertices[1], hand.faces[:, ::-1])]
    order = np.argsort(pair.keypoints[..., 2].mean(axis=1))
    near, far = (hand_pictures(*meshes[each], camera, size) for each in order)
    skeletons = [draw_skeleton(points, size, size) for points in project(camera, pair.keypoints)]
    conditions = {
        "depth": png(np.where(near.mask > 0, near.depth, far.depth)),
        "skeleton": png(np.maximum(*skeletons)),
        "mesh": png(np.where(near.mask[..., None] > 0, near.mesh, far.mesh)),
    }
    hands = [_placed_hand(pair, index, camera, mesh, size) for index, mesh in enumerate(meshes)]
    return conditions, tuple(hands)


def _placed_hand(
    pair: HandPair,
    index: int,
    camera: PinholeCamera,
    mesh: tuple[Float[Array, "V 3"], Int[Array, "F 3"]],
    size: int,
) -> PlacedHand:
    places = np.asarray(project(camera, pair.keypoints[index]))
    box = hand_box(places, RECORD_CROP_SCALE)
    drawn = crop_camera(camera, jnp.asarray(box, jnp.float32), (size, size))
    pictures: HandPictures = hand_pictures(*mesh, drawn, size)
    skeleton = draw_skeleton(project(drawn, pair.keypoints[index]), size, size)
    ones = np.ones((21, 1), np.float32)
    record = HandRecord(
        id="",
        image=b"",
        keypoints_2d=np.concatenate([places - box[:2], ones], axis=1, dtype=np.float32),
        keypoints_3d=np.concatenate([pair.keypoints[index], ones], axis=1),
        side=_SIDES[index],
        hand_model="open_hand",
        pose=np.asarray(pair.pose[index]),
        betas=np.asarray(pair.betas),
        translation=np.asarray(pair.translation[index]),
        camera=np.concatenate([camera.focal, camera.center - box[:2]], dtype=np.float32),
        mask=png(np.asarray(pictures.mask)),
        depth=png(np.asarray(pictures.depth)),
        skeleton=png(np.asarray(skeleton)),
        mesh=png(np.asarray(pictures.mesh)),
    )
    return PlacedHand(record, box)


@functools.cache
def _open_hand() -> HandModel:
    return load_open_hand("right")

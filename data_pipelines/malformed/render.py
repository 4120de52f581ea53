"""Renders malformed hands as rendered hands are, with the same skin, light, surroundings and camera."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, Key

from data_pipelines.malformed.mesh import COPIES, EditedHand, FingerMesh, FingerPlan, edit_hand
from data_pipelines.scene import SUPERSAMPLING, halve, photograph, shade_arm
from data_pipelines.skin import SkinMap, draw_skin
from handjax.conditions.pictures import normalize_depth
from handjax.hand.angles import pose_from_angles
from handjax.hand.camera import PinholeCamera, project
from handjax.hand.model import HandModel, pose_hand
from handjax.hand.rasterize import rasterize
from handjax.hand.rotations import axis_angle_to_matrix, matrix_to_axis_angle

FINGERS_AND_COPIES = 5 + COPIES
_FREE_SHARE = 0.15


@struct.dataclass
class Arm:
    """What all pictures share.

    Args:
        forearm: right hand with forearm, which is seen.
        parts: of its skin.
        mesh: its fingers.
        hand_vertices: number of its first vertices that are the hand's.
    """

    forearm: HandModel
    parts: SkinMap
    mesh: FingerMesh
    hand_vertices: int = struct.field(pytree_node=False)


class MalformedScene(NamedTuple):
    """A rendered right hand; pictures in [0, 1], `size` pixels square.

    `depth` is the condition (`normalize_depth`) of the hand as it is, without its forearm. `usual` are the keypoints of
    the hand that it would be without the edit, `seen` the share of the hand's pixels that show the last two bones of
    each finger and copy, 5 and 6.
    """

    image: Float[Array, "size size 3"]
    mask: Float[Array, "size size"]
    depth: Float[Array, "size size"]
    keypoints: Float[Array, "21 2"]
    keypoints_3d: Float[Array, "21 3"]
    usual: Float[Array, "21 2"]
    seen: Float[Array, "7"]


@partial(jax.jit, static_argnames="size")
def render_malformed(
    keys: Key[Array, " batch"], plans: FingerPlan, usual: Float[Array, "batch 16 3"], arm: Arm, size: int
) -> MalformedScene:
    """Renders right hands, one a key.

    Args:
      keys: one a picture.
      plans: of the hands.
      usual: joint angles before the edit, radians.
      arm: the hand.
      size: side of the pictures in pixels.

    Returns:
      The scenes, batched.
    """
    return jax.lax.map(lambda each: _render(each[0], each[1], each[2], arm, size), (keys, plans, usual))


def _render(key: Key[Array, ""], plan: FingerPlan, usual: Float[Array, "16 3"], arm: Arm, size: int) -> MalformedScene:
    keys = jax.random.split(key, 7)
    orientation = _draw_orientation(keys[0])
    betas = jax.random.normal(keys[1], (arm.forearm.shapedirs.shape[-1],))
    translation = jnp.array([0.0, 0.0, 1.0]) * jax.random.uniform(keys[2], minval=0.35, maxval=1.2)
    hand = edit_hand(arm.forearm, arm.mesh, plan, orientation, betas, translation)
    copies = hand.vertices[arm.forearm.template.shape[0] :]
    camera = _camera_on_hand(keys[3], jnp.concatenate([hand.vertices[: arm.hand_vertices], copies]), size)
    fine = PinholeCamera(camera.focal * SUPERSAMPLING, camera.center * SUPERSAMPLING)
    raster = rasterize(hand.vertices, hand.faces, fine, size * SUPERSAMPLING, size * SUPERSAMPLING)
    light = shade_arm(keys[4], raster, draw_skin(keys[5], arm.parts)[hand.source], hand.faces)
    cover = halve(raster.mask[..., None])
    shown = _shown(hand, raster.face_index, arm)
    coarse = slice(None, None, SUPERSAMPLING)
    return MalformedScene(
        image=photograph(keys[6], halve(light), cover, halve(raster.depth[..., None]), things=False),
        mask=cover[..., 0],
        depth=normalize_depth(raster.depth[coarse, coarse], shown[coarse, coarse] > -2),
        keypoints=project(camera, hand.keypoints),
        keypoints_3d=hand.keypoints,
        usual=project(camera, _usual_keypoints(arm.forearm, usual, orientation, betas, translation)),
        seen=_seen(shown),
    )


def _draw_orientation(key: Key[Array, ""]) -> Float[Array, "3"]:
    """Palm or back towards the camera, some hands turned anyhow; mostly upright."""
    turn_key, free_key, tilt_key, roll_key, side_key = jax.random.split(key, 5)
    around = jax.random.uniform(turn_key, minval=-1.0, maxval=1.0)
    facing = jnp.radians(40.0) * around + jnp.pi * jax.random.bernoulli(side_key)
    turn = jnp.where(jax.random.bernoulli(free_key, _FREE_SHARE), jnp.pi * around, facing)
    tilt = 0.3 * jax.random.normal(tilt_key)
    roll = 0.8 * jax.random.normal(roll_key)
    x, y, z = jnp.eye(3)
    turns = [axis_angle_to_matrix(axis * angle) for axis, angle in ((z, roll), (x, tilt), (y, turn))]
    return matrix_to_axis_angle(turns[0] @ turns[1] @ turns[2])


def _camera_on_hand(key: Key[Array, ""], shown: Float[Array, "_ 3"], size: int) -> PinholeCamera:
    """The camera of a square about the hand and all its fingers, as loose and as far off as detectors cut it out."""
    scale_key, move_key = jax.random.split(key)
    rays = shown[:, :2] / shown[:, 2:]
    low, high = rays.min(axis=0), rays.max(axis=0)
    focal = size / (jax.random.uniform(scale_key, minval=1.25, maxval=1.8) * jnp.max(high - low))
    moved = size * jax.random.uniform(move_key, (2,), minval=-0.07, maxval=0.07)
    return PinholeCamera(focal=jnp.stack([focal, focal]), center=size / 2 + moved - focal * (low + high) / 2)


def _shown(hand: EditedHand, face_index: Int[Array, "height width"], arm: Arm) -> Int[Array, "height width"]:
    """What is seen of the hand: of each pixel the number in `hand.finger`, -2 on forearm and background."""
    forearm = (hand.faces >= arm.hand_vertices) & (hand.faces < arm.forearm.template.shape[0])
    finger = jnp.where(forearm.any(axis=1), -2, hand.finger)
    return jnp.where(face_index >= 0, finger[jnp.maximum(face_index, 0)], -2)


def _seen(shown: Int[Array, "height width"]) -> Float[Array, "7"]:
    pixels = (shown[..., None] == jnp.arange(FINGERS_AND_COPIES)).sum(axis=(0, 1))
    return pixels / jnp.maximum((shown > -2).sum(), 1)


def _usual_keypoints(model: HandModel, angles, orientation, betas, translation) -> Float[Array, "21 3"]:
    pose = pose_from_angles(model, angles).at[0].set(orientation)
    return pose_hand(model, pose, betas, translation).keypoints

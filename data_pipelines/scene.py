"""Rendered hands: an arm in random pose, skin, light and surroundings, as one pure function of a random key."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from data_pipelines.background import blur, draw_background, draw_color
from data_pipelines.skin import SkinMap, draw_skin, to_linear, to_srgb
from handjax.conditions.crops import RECORD_CROP_SCALE
from handjax.conditions.pictures import hand_pictures
from handjax.hand.camera import PinholeCamera, project
from handjax.hand.convert import HandParameters
from handjax.hand.draw import draw_skeleton
from handjax.hand.model import HandModel, pose_hand
from handjax.hand.rasterize import Raster, rasterize
from handjax.hand.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from handjax.hand.sampling import sample_pose
from handjax.hand.shading import interpolate

SUPERSAMPLING = 2
OCCLUDER_SHARE = 0.2
SHADOW_SHARE = 0.6
# how deep light goes under the skin, as the share of the dark side it still reaches; red goes deepest
SKIN_SCATTER = jnp.array([0.35, 0.18, 0.12])


class Scene(NamedTuple):
    """A rendered right hand and everything that is known of it; pictures in [0, 1], `size` pixels square."""

    image: Float[Array, "size size 3"]
    keypoints: Float[Array, "21 2"]
    keypoints_3d: Float[Array, "21 3"]
    pose: Float[Array, "16 3"]
    betas: Float[Array, " S"]
    translation: Float[Array, "3"]
    camera: Float[Array, "4"]
    mask: Float[Array, "size size"]
    depth: Float[Array, "size size"]
    skeleton: Float[Array, "size size 3"]
    mesh: Float[Array, "size size 3"]


@partial(jax.jit, static_argnames="size")
def render_scenes(
    keys: Key[Array, " batch"],
    forearm: HandModel,
    hand: HandModel,
    parts: SkinMap,
    size: int,
    posed: HandParameters | None = None,
) -> Scene:
    """Renders right hands, one a key.

    Args:
      keys: one a scene.
      forearm: right hand with forearm, which is seen.
      hand: its hand without the forearm, of which depth, mask and mesh are made, as in a fit to a photo.
      parts: of the forearm's skin.
      size: side of the pictures in pixels; the hand's tight box is half of it.
      posed: poses, shapes and places of the hands, batched; None draws them.

    Returns:
      The scenes, batched.
    """
    # not vmap: the rasteriser's loop would run for all scenes as long as for the one with most triangles in view
    return jax.lax.map(lambda each: _render(each[0], each[1], forearm, hand, parts, size), (keys, posed))


def _render(
    key: Key[Array, ""],
    parameters: HandParameters | None,
    forearm: HandModel,
    hand: HandModel,
    parts: SkinMap,
    size: int,
) -> Scene:
    keys = jax.random.split(key, 8)
    pose, betas, translation = parameters or _draw_hand(keys[:4], forearm)
    posed = pose_hand(forearm, pose, betas, translation)
    camera = camera_about(posed.keypoints, size)
    fine = PinholeCamera(camera.focal * SUPERSAMPLING, camera.center * SUPERSAMPLING)
    raster = rasterize(posed.vertices, forearm.faces, fine, size * SUPERSAMPLING, size * SUPERSAMPLING)
    light = shade_arm(keys[4], raster, draw_skin(keys[5], parts), forearm.faces)
    pictures = hand_pictures(posed.vertices[: hand.template.shape[0]], hand.faces, camera, size)
    keypoints = project(camera, posed.keypoints)
    return Scene(
        image=photograph(keys[6], halve(light), halve(raster.mask[..., None]), halve(raster.depth[..., None])),
        keypoints=keypoints,
        keypoints_3d=posed.keypoints,
        pose=pose,
        betas=betas,
        translation=translation,
        camera=jnp.concatenate([camera.focal, camera.center]),
        skeleton=draw_skeleton(keypoints, size, size),
        **pictures._asdict(),
    )


def _draw_hand(keys: Key[Array, "4"], forearm: HandModel) -> HandParameters:
    pose = draw_pose(keys[0], keys[1], forearm)
    betas = jax.random.normal(keys[2], (forearm.shapedirs.shape[-1],))
    return HandParameters(
        pose, betas, jnp.array([0.0, 0.0, 1.0]) * jax.random.uniform(keys[3], minval=0.35, maxval=1.2)
    )


def draw_pose(pose_key: Key[Array, ""], turn_key: Key[Array, ""], hand: HandModel) -> Float[Array, "16 3"]:
    """Draws a pose as people hold up their hands, axis-angle in radians.

    Args:
      pose_key: of the fingers.
      turn_key: of the whole hand.
      hand: whose axes are meant.
    """
    return sample_pose(pose_key, hand).at[0].set(_draw_orientation(turn_key))


def _draw_orientation(key: Key[Array, ""]) -> Float[Array, "3"]:
    """Palm, back or edge towards the camera; tilted a little, and mostly upright."""
    turn_key, tilt_key, roll_key = jax.random.split(key, 3)
    turn = jax.random.uniform(turn_key, minval=-jnp.pi, maxval=jnp.pi)
    tilt = 0.5 * jax.random.normal(tilt_key)
    roll = 0.9 * jax.random.normal(roll_key)
    x, y, z = jnp.eye(3)
    turns = [axis_angle_to_matrix(axis * angle) for axis, angle in ((z, roll), (x, tilt), (y, turn))]
    return matrix_to_axis_angle(turns[0] @ turns[1] @ turns[2])


def camera_about(keypoints: Float[Array, "points 3"], size: int, scale: float = RECORD_CROP_SCALE) -> PinholeCamera:
    """The camera of the square about one hand or several.

    Args:
      keypoints: of all of them, camera space.
      size: side of the square in pixels.
      scale: its side in longer sides of the keypoints' tight box.
    """
    rays = keypoints[:, :2] / keypoints[:, 2:]
    low, high = rays.min(axis=0), rays.max(axis=0)
    focal = size / (scale * jnp.max(high - low))
    return PinholeCamera(focal=jnp.stack([focal, focal]), center=size / 2 - focal * (low + high) / 2)


def halve(image: Float[Array, "height width channels"]) -> Float[Array, "_ _ channels"]:
    """Averages SUPERSAMPLING² pixels to one."""
    height, width, channels = image.shape
    fine = (height // SUPERSAMPLING, SUPERSAMPLING, width // SUPERSAMPLING, SUPERSAMPLING, channels)
    return image.reshape(fine).mean(axis=(1, 3))


def shade_arm(
    key: Key[Array, ""], raster: Raster, albedo: Float[Array, "V 3"], faces: Int[Array, "F 3"]
) -> Float[Array, "height width 3"]:
    """Light that reaches the camera from the skin, linear: a lamp, light from all around, and a little gloss.

    Args:
      key: source of randomness.
      raster: of the arm.
      albedo: share of light that each vertex reflects, linear.
      faces: vertex indices.
    """
    side_key, height_key, power_key, tint_key, gloss_key = jax.random.split(key, 5)
    angle = jax.random.uniform(side_key, maxval=2 * jnp.pi)
    lift = jax.random.uniform(height_key, minval=0.2, maxval=1.4)
    lamp = jnp.array([jnp.cos(angle) * jnp.cos(lift), jnp.sin(angle) * jnp.cos(lift), -jnp.sin(lift)])
    power, around = jax.random.uniform(power_key, (2,), minval=jnp.array([0.4, 0.2]), maxval=jnp.array([1.1, 0.6]))
    tint, sky, ground = jax.random.uniform(tint_key, (3, 3), minval=0.8, maxval=1.1)

    color = interpolate(raster, albedo[faces])
    normals = raster.normals * -jnp.sign(raster.normals[..., 2:] + 1e-9)  # the far side of an open arm is seen as well
    facing = (normals @ lamp)[..., None]
    direct = jnp.clip((facing + SKIN_SCATTER) / (1 + SKIN_SCATTER), 0.0, None)
    ambient = (0.5 - 0.5 * normals[..., 1:2]) * (sky - ground * 0.6) + ground * 0.6
    half = lamp + jnp.array([0.0, 0.0, -1.0])
    gloss = 0.08 * jax.random.uniform(gloss_key) * jnp.clip(normals @ half / jnp.linalg.norm(half), 0.0, 1.0) ** 24
    return (color * (power * tint * direct + around * ambient) + gloss[..., None]) * raster.mask[..., None]


def photograph(
    key: Key[Array, ""],
    light: Float[Array, "size size 3"],
    cover: Float[Array, "size size 1"],
    depth: Float[Array, "size size 1"],
    things: bool = True,
) -> Float[Array, "size size 3"]:
    """Puts the shaded arm before a background, perhaps something before the arm, and takes the photograph.

    Args:
      key: source of randomness.
      light: that the arm sends to the camera, linear.
      cover: share of each pixel that the arm covers.
      depth: of the arm times `cover`, metres.
      things: whether something may be held before the arm.

    Returns:
      sRGB in [0, 1].
    """
    back_key, shadow_key, front_key, camera_key = jax.random.split(key, 4)
    size = light.shape[0]
    background = to_linear(draw_background(back_key, size)) * _shadow(shadow_key, cover)
    picture = light * _crevices(depth, cover) + background * (1.0 - cover)
    picture = _cover_with_things(front_key, picture) if things else picture
    exposure_key, contrast_key, noise_key, amount_key = jax.random.split(camera_key, 4)
    picture = to_srgb(picture * 2 ** jax.random.uniform(exposure_key, minval=-0.5, maxval=0.5))
    contrast = jax.random.uniform(contrast_key, minval=0.85, maxval=1.1)
    noise = 0.025 * jax.random.uniform(amount_key) ** 2 * jax.random.normal(noise_key, picture.shape)
    return jnp.clip(0.5 + contrast * (picture - 0.5) + noise, 0.0, 1.0)


def _crevices(depth: Float[Array, "size size 1"], cover: Float[Array, "size size 1"]) -> Float[Array, "size size 1"]:
    """Ambient occlusion from the depth alone: less light where the surroundings are nearer to the camera.

    Source: Luft, Colditz and Deussen, "Image Enhancement by Unsharp Masking the Depth Buffer", 2006.
    """
    sigma = jnp.asarray(0.025 * depth.shape[0])
    around, weight = jnp.split(blur(jnp.concatenate([depth, cover], axis=-1), sigma), 2, axis=-1)
    behind = depth / jnp.maximum(cover, 1e-3) - around / jnp.maximum(weight, 1e-3)
    return jnp.clip(1.0 - jnp.clip(behind, 0.0, None) / 0.03, 0.35, 1.0)


def _shadow(key: Key[Array, ""], cover: Float[Array, "size size 1"]) -> Float[Array, "size size 1"]:
    """What the arm's soft shadow leaves of the background's light."""
    cast_key, offset_key, blur_key, strength_key = jax.random.split(key, 4)
    size = cover.shape[0]
    offset = jax.random.randint(offset_key, (2,), -size // 8, size // 8)
    soft = blur(cover, size * jax.random.uniform(blur_key, minval=0.02, maxval=0.08))
    strength = 0.6 * jax.random.uniform(strength_key) * jax.random.bernoulli(cast_key, SHADOW_SHARE)
    padded = jnp.pad(soft, ((size // 8,) * 2, (size // 8,) * 2, (0, 0)), mode="edge")
    moved = jax.lax.dynamic_slice(padded, (*(size // 8 - offset), 0), soft.shape)
    return 1.0 - strength * moved


def _cover_with_things(key: Key[Array, ""], picture: Float[Array, "size size 3"]) -> Float[Array, "size size 3"]:
    """Sometimes holds a rounded bar or ball before the hand."""
    there_key, end_key, radius_key, length_key, color_key = jax.random.split(key, 5)
    size = picture.shape[0]
    middle, end = jax.random.uniform(end_key, (2, 2), minval=0.25, maxval=0.75) * size
    length = size * jax.random.uniform(length_key, minval=0.0, maxval=0.7)
    along = (end - middle) / (jnp.linalg.norm(end - middle) + 1e-6)
    radius = size * 10 ** jax.random.uniform(radius_key, minval=-1.9, maxval=-1.0)
    place = jnp.stack(jnp.meshgrid(jnp.arange(size) + 0.5, jnp.arange(size) + 0.5), axis=-1) - middle
    position = jnp.clip(place @ along, -length / 2, length / 2)
    from_axis = place - position[..., None] * along
    distance = jnp.linalg.norm(from_axis, axis=-1, keepdims=True)
    alpha = jnp.clip(radius + 0.5 - distance, 0.0, 1.0) * jax.random.bernoulli(there_key, OCCLUDER_SHARE)
    roundness = jnp.sqrt(jnp.clip(1.0 - (distance / radius) ** 2, 0.05, 1.0))
    color = to_linear(draw_color(color_key)) * (0.35 + 0.65 * roundness) * (1.0 - 0.3 * from_axis[..., 1:] / radius)
    return picture + alpha * (color - picture)

"""Fit of the hand model to 21 keypoints: pose, shape and place of many hands at once, by least squares with priors.

The unknowns of one hand are joint angles rather than rotations, so that the limits of motion are plain bounds. Each
hand is started from several poses, with world landmarks from the one that they show, and the best end is kept.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from handjax.hand.angles import joint_frames
from handjax.hand.camera import PinholeCamera, WeakPerspectiveCamera, default_camera, project, weak_to_translation
from handjax.hand.least_squares import levenberg_marquardt
from handjax.hand.model import HandModel
from handjax.hand.rotations import axis_angle_to_matrix, euler_to_matrix, matrix_to_axis_angle
from handjax.hand.topology import JOINT_LIMITS, MANO_TO_OPENPOSE

ITERATIONS = 20
PALM = jnp.array([0, 1, 5, 9, 13, 17])
# MANO's indices of each finger's three joints and tip, thumb to little
CHAINS = MANO_TO_OPENPOSE[1:].reshape(5, 4)
CURLS = (0.1, 0.6, 1.2)

# Standard deviations that weigh the terms against one another. Keypoints are read to 1 % of the hand's extent; a
# network's world landmarks are off by a centimetre and have their own scale. Shape is held closer than the variety of
# people, because the errors of one picture are not independent: left free, hands shrink to explain them.
KEYPOINT_SIGMA, WORLD_SIGMA, WORLD_SCALE_SIGMA = 0.01, 0.012, 0.5
LIMIT_SIGMA, SHAPE_SIGMA = 0.03, 0.5
# Broad: they decide only what the keypoints leave open.
RESTING_ANGLES = (0.3, 0.0, 0.0)
ANGLE_SIGMA = (0.8, 0.2, 0.1)
# A keypoint this many deviations away counts linearly, not by its square.
OUTLIER = 5.0


@struct.dataclass
class HandFit:
    """Fitted hands, or one of them.

    Args:
        pose: axis-angle for `pose_hand`, radians.
        betas: shape in standard deviations.
        translation: metres, camera space.
        camera: the camera the fit was made with.
        error_px: confidence-weighted mean distance of projected and given keypoints, pixels.
    """

    pose: Float[Array, "*batch 16 3"]
    betas: Float[Array, "*batch S"]
    translation: Float[Array, "*batch 3"]
    camera: PinholeCamera
    error_px: Float[Array, "*batch"]


class _Skeleton(NamedTuple):
    """A model reduced to what its keypoints need: the wrist and, finger by finger, bones from the wrist to the tip.

    Exact for tips that move with one joint, as fingertips do.
    """

    wrist: Float[Array, "3"]
    wrist_dirs: Float[Array, "3 S"]
    bones: Float[Array, "5 4 3"]
    bone_dirs: Float[Array, "5 4 3 S"]
    frames: Float[Array, "5 3 3 3"]


class _Unknowns(NamedTuple):
    turn: Float[Array, "3"]  # after the starting rotation, axis-angle
    angles: Float[Array, "5 3 3"]
    betas: Float[Array, " S"]
    place: Float[Array, "3"]  # x / z, y / z, log z of the wrist
    log_world_scale: Float[Array, ""]


class _Observed(NamedTuple):
    keypoints: Float[Array, "21 2"]
    confidence: Float[Array, "21"]
    world: Float[Array, "21 3"] | None


@partial(jax.jit, static_argnames=("size",))
def fit_hand(
    model: HandModel,
    keypoints: Float[Array, "batch 21 2"],
    confidence: Float[Array, "batch 21"],
    world: Float[Array, "batch 21 3"] | None,
    size: tuple[int, int],
    camera: PinholeCamera | None = None,
) -> HandFit:
    """Fits a hand model to keypoints; the hands are of the model's side, so mirror the others first (DECISIONS B4).

    Args:
        model: the hand.
        keypoints: pixels, OpenPose order.
        confidence: weights in [0, 1]; 0 leaves a keypoint out.
        world: keypoints in metres in the camera's axes, anywhere and of any scale, such as MediaPipe's world
            landmarks; None leaves depth to the priors.
        size: height and width of the picture in pixels.
        camera: the picture's camera; None stands for `default_camera`.

    Returns:
        The fits. Absolute depth rests on the camera and on the hand having an average size.
    """
    camera = default_camera(*size) if camera is None else camera
    skeleton = _skeleton(model)

    def fit_one(observed: _Observed) -> HandFit:
        rotations, starts = _starts(skeleton, observed, camera)
        ends, costs = jax.vmap(lambda r, s: _descend(skeleton, observed, camera, r, s))(rotations, starts)
        best = jnp.argmin(costs)
        rotation, end = rotations[best], jax.tree.map(lambda leaf: leaf[best], ends)
        projected = project(camera, _keypoints(skeleton, rotation, end))
        weight = observed.confidence / jnp.maximum(observed.confidence.sum(), 1e-6)
        error = weight @ jnp.linalg.norm(projected - observed.keypoints, axis=-1)
        pose = jnp.zeros((16, 3)).at[0].set(matrix_to_axis_angle(axis_angle_to_matrix(end.turn) @ rotation))
        pose = pose.at[CHAINS[:, :3]].set(matrix_to_axis_angle(_finger_turns(skeleton, end.angles)))
        return HandFit(pose, end.betas, _translation(end), camera, error)

    return jax.vmap(fit_one)(_Observed(keypoints, confidence, world))


def _skeleton(model: HandModel) -> _Skeleton:
    pick = jnp.concatenate([model.joint_regressor, model.tip_regressor])
    points, dirs = pick @ model.template, jnp.einsum("kv,vas->kas", pick, model.shapedirs)
    starts = np.concatenate([np.zeros((5, 1), int), CHAINS[:, :3]], axis=1)
    frames = joint_frames(model)[CHAINS[:, :3]]
    return _Skeleton(points[0], dirs[0], points[CHAINS] - points[starts], dirs[CHAINS] - dirs[starts], frames)


def _finger_turns(skeleton: _Skeleton, angles: Float[Array, "5 3 3"]) -> Float[Array, "5 3 3 3"]:
    return skeleton.frames @ euler_to_matrix(angles) @ skeleton.frames.mT


def _keypoints(skeleton: _Skeleton, rotation: Float[Array, "3 3"], unknowns: _Unknowns) -> Float[Array, "21 3"]:
    """Keypoints in camera space, all fingers at once."""
    turns = _finger_turns(skeleton, unknowns.angles)
    bones = skeleton.bones + skeleton.bone_dirs @ unknowns.betas
    wrist = skeleton.wrist + skeleton.wrist_dirs @ unknowns.betas + _translation(unknowns)
    turn = jnp.tile(axis_angle_to_matrix(unknowns.turn) @ rotation, (5, 1, 1))
    points = [jnp.tile(wrist, (5, 1))]
    for level in range(4):
        points.append(points[-1] + jnp.einsum("fab,fb->fa", turn, bones[:, level]))
        if level < 3:
            turn = turn @ turns[:, level]
    return jnp.concatenate([wrist[None], jnp.stack(points[1:], axis=1).reshape(20, 3)])


def _translation(unknowns: _Unknowns) -> Float[Array, "3"]:
    depth = jnp.exp(unknowns.place[2])
    return jnp.stack([unknowns.place[0] * depth, unknowns.place[1] * depth, depth])


def _descend(skeleton, observed: _Observed, camera, rotation, start: _Unknowns):
    """The unknowns at the end of the descent from one start, and their cost."""
    flat, unravel = ravel_pytree(start)

    def residuals(vector):
        return _residuals(skeleton, observed, camera, rotation, unravel(vector))

    end, cost = levenberg_marquardt(residuals, flat, ITERATIONS)
    return unravel(end), cost


def _residuals(skeleton, observed, camera, rotation, unknowns: _Unknowns) -> Float[Array, " residuals"]:
    points = _keypoints(skeleton, rotation, unknowns)
    in_view = jnp.maximum(points[:, 2:], 1e-3)
    pixels = project(camera, jnp.concatenate([points[:, :2], in_view], axis=1))
    weight = jnp.sqrt(observed.confidence)[:, None]
    lower, upper = jnp.moveaxis(jnp.asarray(JOINT_LIMITS[CHAINS[:, :3]], jnp.float32), -1, 0)
    terms = [
        weight * _robust((pixels - observed.keypoints) / (KEYPOINT_SIGMA * _extent(observed))),
        (jax.nn.relu(unknowns.angles - upper) + jax.nn.relu(lower - unknowns.angles)) / LIMIT_SIGMA,
        (unknowns.angles - jnp.array(RESTING_ANGLES)) / jnp.array(ANGLE_SIGMA),
        unknowns.betas / SHAPE_SIGMA,
        unknowns.log_world_scale / WORLD_SCALE_SIGMA,
    ]
    if observed.world is not None:
        shape = points - _center(points, observed.confidence)
        given = observed.world - _center(observed.world, observed.confidence)
        terms.append(weight * _robust((shape - jnp.exp(unknowns.log_world_scale) * given) / WORLD_SIGMA))
    return jnp.concatenate([term.ravel() for term in terms])


def _robust(errors: Float[Array, "points dims"]) -> Float[Array, "points dims"]:
    """Scales errors so that their squares grow linearly beyond OUTLIER.

    Source: Charbonnier et al., "Two Deterministic Half-Quadratic Regularization Algorithms", 1994.
    """
    square = jnp.sum(errors**2, axis=-1, keepdims=True) / OUTLIER**2 + 1e-12
    return errors * jnp.sqrt(2.0 / (jnp.sqrt(1.0 + square) + 1.0))


def _center(points: Float[Array, "points dims"], confidence: Float[Array, " points"]) -> Float[Array, " dims"]:
    return confidence @ points / jnp.maximum(confidence.sum(), 1e-6)


def _extent(observed: _Observed) -> Float[Array, ""]:
    """Longer side of the box of the keypoints in use, pixels."""
    used = observed.confidence[:, None] > 0
    low = jnp.where(used, observed.keypoints, jnp.inf).min(0)
    high = jnp.where(used, observed.keypoints, -jnp.inf).max(0)
    return jnp.maximum(jnp.max(high - low), 1.0)


def _starts(skeleton, observed, camera) -> tuple[Float[Array, "starts 3 3"], _Unknowns]:
    """Rotations and unknowns to start from.

    With world landmarks: the pose they show, and half curled, in case they mislead. Without: each likely rotation with
    each curl.
    """
    if observed.world is None:
        likely = _rotations_of_flat_palm(skeleton, observed)
        rotations = jnp.tile(likely, (len(CURLS), 1, 1))
        flexions = jnp.broadcast_to(jnp.repeat(jnp.array(CURLS), len(likely))[:, None, None], (len(rotations), 5, 3))
    else:
        shown = _flexion(skeleton, observed)
        flexions = jnp.stack([shown, jnp.full_like(shown, CURLS[1])])
        rotations = jnp.tile(_rotation_of_palm(skeleton, observed), (2, 1, 1))
    angles = jnp.zeros((*flexions.shape, 3)).at[..., 0].set(flexions)
    return rotations, jax.vmap(partial(_place, skeleton, observed, camera))(rotations, angles)


def _flexion(skeleton, observed) -> Float[Array, "5 3"]:
    """How much further each finger joint bends in the world landmarks than in the model at rest."""
    bend = _bends(observed.world) - _bends(_resting_keypoints(skeleton))
    confidence = jnp.minimum(observed.confidence[0], observed.confidence[1:].reshape(5, 4).min(axis=1))
    lower, upper = jnp.moveaxis(jnp.asarray(JOINT_LIMITS[CHAINS[:, :3], 0], jnp.float32), -1, 0)
    return jnp.clip(jnp.where(confidence[:, None] > 0, bend, CURLS[1]), lower, upper)


def _bends(keypoints: Float[Array, "21 3"]) -> Float[Array, "5 3"]:
    """Angles between successive bones of each finger, the first of which is in the palm."""
    wrist = jnp.broadcast_to(keypoints[0], (5, 1, 3))
    bones = jnp.diff(jnp.concatenate([wrist, keypoints[1:].reshape(5, 4, 3)], axis=1), axis=1)
    bones = bones / jnp.maximum(jnp.linalg.norm(bones, axis=-1, keepdims=True), 1e-6)
    return jnp.arccos(jnp.clip(jnp.sum(bones[:, 1:] * bones[:, :-1], axis=-1), -1.0, 1.0))


def _place(skeleton, observed, camera, rotation, angles) -> _Unknowns:
    """Unknowns that put a rotated, curled hand of mean shape where weak perspective sees it."""
    betas = jnp.zeros(skeleton.wrist_dirs.shape[-1])
    unknowns = _Unknowns(jnp.zeros(3), angles, betas, jnp.zeros(3), jnp.zeros(()))
    points = _keypoints(skeleton, rotation, unknowns) - _translation(unknowns)
    center, seen_center = _center(points, observed.confidence), _center(observed.keypoints, observed.confidence)
    spread = observed.confidence @ jnp.sum((points - center)[:, :2] ** 2, axis=-1)
    seen_spread = observed.confidence @ jnp.sum((observed.keypoints - seen_center) ** 2, axis=-1)
    scale = jnp.sqrt(jnp.maximum(seen_spread, 1.0) / jnp.maximum(spread, 1e-8))
    weak = WeakPerspectiveCamera(scale, seen_center - scale * center[:2])
    x, y, depth = weak_to_translation(weak, camera)
    return unknowns._replace(place=jnp.stack([x / depth, y / depth, jnp.log(depth)]))


def _rotation_of_palm(skeleton, observed) -> Float[Array, "3 3"]:
    """Rotation that brings the resting palm closest to the palm of the world landmarks.

    Source: Kabsch, "A Solution for the Best Rotation to Relate Two Sets of Vectors", 1976.
    """
    weight = observed.confidence[PALM]
    rest = _resting_keypoints(skeleton)[PALM]
    given = observed.world[PALM]
    covariance = jnp.einsum("k,ka,kb->ab", weight, given - _center(given, weight), rest - _center(rest, weight))
    u, _, vt = jnp.linalg.svd(covariance + 1e-12 * jnp.eye(3))
    sign = jnp.array([1.0, 1.0, 1.0]).at[2].set(jnp.sign(jnp.linalg.det(u @ vt)))
    return u * sign @ vt


def _resting_keypoints(skeleton) -> Float[Array, "21 3"]:
    """Keypoints of straight fingers relative to the wrist."""
    return jnp.concatenate([jnp.zeros((1, 3)), skeleton.bones.cumsum(axis=1).reshape(20, 3)])


def _rotations_of_flat_palm(skeleton, observed) -> Float[Array, "2 3 3"]:
    """The two rotations under which a flat palm looks as observed in weak perspective: tilted one way or the other.

    The map from palm plane to pixels is the upper left 2×2 block of a scaled rotation. Its columns have the scale as
    greatest possible length, which leaves the third row up to its sign.
    """
    weight = observed.confidence[PALM]
    rest, seen = _resting_keypoints(skeleton)[PALM], observed.keypoints[PALM]
    rest, seen = rest - _center(rest, weight), seen - _center(seen, weight)
    first, second = jnp.linalg.svd(rest)[2][:2]
    plane = jnp.stack([first, second, jnp.cross(first, second)], axis=-1)
    flat = rest @ plane[:, :2]
    normal = jnp.einsum("k,ka,kb->ab", weight, flat, flat) + 1e-9 * jnp.eye(2)
    to_pixels = jnp.linalg.solve(normal, jnp.einsum("k,ka,kb->ab", weight, flat, seen)).T
    upper = to_pixels / jnp.maximum(jnp.linalg.norm(to_pixels, ord=2), 1e-6)
    length = jnp.sqrt(jnp.maximum(1.0 - jnp.sum(upper**2, axis=0), 0.0))
    opposite = jnp.where(upper[:, 0] @ upper[:, 1] > 0, -1.0, 1.0)
    lower = length * jnp.stack([jnp.ones(()), opposite])
    rotations = []
    for sign in (1.0, -1.0):
        first, second = jnp.concatenate([upper, sign * lower[None]]).T
        rotations.append(jnp.stack([first, second, jnp.cross(first, second)], axis=-1) @ plane.T)
    return jnp.stack(rotations)

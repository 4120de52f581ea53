"""Fit of the hand model to 21 keypoints: pose, shape and place of many hands at once, by least squares with priors.

The unknowns of one hand are joint angles rather than rotations, so that the limits of motion are plain bounds. Each
hand is started from several poses; the best end goes on without the keypoints that it does not explain. A CPU fits a
few hands after the other, for these stay in its caches.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from handjax.hand.angles import joint_frames
from handjax.hand.arrowhead import arrowhead_marquardt
from handjax.hand.camera import PinholeCamera, default_camera, project
from handjax.hand.fit_problem import (
    CHAINS,
    KEYPOINT_SIGMA,
    OWN,
    WORLD_SIGMA,
    Observed,
    Picture,
    Skeleton,
    Unknowns,
    given_keypoints,
    keypoints_about_wrist,
    linearize,
    move,
    skeleton_of,
    tiled,
    wrist_position,
)
from handjax.hand.fit_starts import first_unknowns, starts_in_picture, starts_in_space
from handjax.hand.model import HandModel
from handjax.hand.rotations import euler_to_matrix, matrix_to_axis_angle
from handjax.hand.topology import MANO_TO_OPENPOSE

STEPS_IN_PICTURE, STEPS_IN_SPACE, REJECTING_STEPS = 20, 10, 8
"""Steps of each start, for pixels alone leave flatter valleys, and of the best one without its outliers."""

SIFTING_STEPS, GOOD_STARTS = 4, 3
"""With keypoints in space, steps after which as many starts go on: by then it shows which way they go."""

CPU_CHUNK = 16
"""Hands that a CPU fits at a time."""


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


@struct.dataclass
class HandFit3d:
    """Hands fitted to keypoints in space, or one of them.

    Args:
        pose: axis-angle for `pose_hand`, radians.
        betas: shape in standard deviations.
        translation: metres, in the axes and about the origin of the keypoints.
        error_m: confidence-weighted mean distance of the model's and the given keypoints, metres.
    """

    pose: Float[Array, "*batch 16 3"]
    betas: Float[Array, "*batch S"]
    translation: Float[Array, "*batch 3"]
    error_m: Float[Array, "*batch"]


@partial(jax.jit, static_argnames=("size",))
@jax.default_matmul_precision("highest")
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
        confidence: weights in [0, 1]; 0 leaves a keypoint out, as does a position that is not a number.
        world: keypoints in metres in the camera's axes, anywhere and of any scale, such as MediaPipe's world
            landmarks; None leaves depth to the priors.
        size: height and width of the picture in pixels.
        camera: the picture's camera; None stands for `default_camera`.

    Returns:
        The fits. Absolute depth rests on the camera and on the hand having an average size. MANO's pose correctives,
        which move its tips by a millimetre or so, are left out, from `error_px` too.
    """
    camera = default_camera(*size) if camera is None else camera
    return _in_chunks(partial(_fit_hand, model, camera), keypoints, confidence, world)


def _fit_hand(
    model: HandModel,
    camera: PinholeCamera,
    keypoints: Float[Array, "batch 21 2"],
    confidence: Float[Array, "batch 21"],
    world: Float[Array, "batch 21 3"] | None,
) -> HandFit:
    skeleton = skeleton_of(model)
    rest = _resting_keypoints(model)
    keypoints, seen = _clean(keypoints, confidence)
    sigma = KEYPOINT_SIGMA * jnp.maximum(_extent(keypoints, seen), 1.0)
    picture = Picture(camera, given_keypoints(keypoints, seen, sigma))
    if world is None:
        observed = Observed(picture, None)
        starts = jax.vmap(partial(starts_in_picture, rest))(keypoints, seen)
    else:
        world, known = _clean(world, confidence)
        observed = Observed(picture, given_keypoints(world, known, jnp.full(len(world), WORLD_SIGMA)))
        shown = jax.vmap(partial(starts_in_space, rest))(world, known)
        likely = jax.vmap(partial(starts_in_picture, rest))(keypoints, seen)
        # a network's keypoints in space can be those of the other hand, so the picture has its say
        starts = jax.tree.map(lambda *both: jnp.concatenate(both, axis=1), shown, likely)
    found = _fit(skeleton, observed, *starts)
    wrist = wrist_position(found)
    projected = jax.vmap(partial(project, camera))(_keypoints(skeleton, found, wrist))
    pose = _pose(model, found)
    cameras = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(pose), *leaf.shape)), camera)
    translation = _translation(skeleton, found, wrist)
    return HandFit(pose, found.betas.T, translation, cameras, _mean_distance(projected, keypoints, seen))


@jax.jit
@jax.default_matmul_precision("highest")
def fit_hand_3d(
    model: HandModel, keypoints: Float[Array, "batch 21 3"], confidence: Float[Array, "batch 21"]
) -> HandFit3d:
    """Fits a hand model to keypoints in space, such as the annotations of a data set.

    Args:
        model: the hand, of the keypoints' side.
        keypoints: metres, OpenPose order, about any origin, such as the camera or the wrist.
        confidence: weights in [0, 1]; 0 leaves a keypoint out, as does a position that is not a number.

    Returns:
        The fits.
    """
    return _in_chunks(partial(_fit_hand_3d, model), keypoints, confidence)


def _fit_hand_3d(
    model: HandModel, keypoints: Float[Array, "batch 21 3"], confidence: Float[Array, "batch 21"]
) -> HandFit3d:
    keypoints, known = _clean(keypoints, confidence)
    points = given_keypoints(keypoints, known, KEYPOINT_SIGMA * jnp.maximum(_extent(keypoints, known), 1e-3))
    starts = jax.vmap(partial(starts_in_space, _resting_keypoints(model)))(keypoints, known)
    skeleton = skeleton_of(model)
    found = _fit(skeleton, Observed(None, points), *starts)
    error = _mean_distance(_keypoints(skeleton, found, found.anchor), keypoints, known)
    return HandFit3d(_pose(model, found), found.betas.T, _translation(skeleton, found, found.anchor), error)


def _in_chunks(fit: Callable[..., Any], *hands: Array | None) -> Any:
    """What `fit` makes of all hands; on a CPU, of `CPU_CHUNK` of them after the other."""
    count = jax.tree.leaves(hands)[0].shape[0]

    def one_after_the_other(*hands: Array | None) -> Any:
        chunks = -(-count // CPU_CHUNK)

        def split(leaf: Array) -> Array:
            filled = jnp.pad(leaf, ((0, chunks * CPU_CHUNK - count), *((0, 0),) * (leaf.ndim - 1)), mode="edge")
            return filled.reshape(chunks, CPU_CHUNK, *leaf.shape[1:])

        found = jax.lax.map(lambda chunk: fit(*chunk), jax.tree.map(split, hands))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:count], found)

    if count <= CPU_CHUNK:
        return fit(*hands)
    return jax.lax.platform_dependent(*hands, cpu=one_after_the_other, default=fit)


def _fit(
    skeleton: Skeleton,
    observed: Observed,
    rotations: Float[Array, "batch starts 3 3"],
    flexions: Float[Array, "batch starts 3 5"],
) -> Unknowns:
    """The best end of all starts, then without the keypoints that it does not explain."""
    batch, count = rotations.shape[:2]
    # start after start, each with all hands
    rotations, flexions = (jnp.moveaxis(x, (0, 1), (-1, -2)) for x in (rotations, flexions))
    rotations, flexions = (x.reshape(*x.shape[:-2], -1) for x in (rotations, flexions))
    start = first_unknowns(skeleton, tiled(observed, count), rotations, flexions)
    if observed.points is None:
        steps = STEPS_IN_PICTURE
    else:
        steps = STEPS_IN_SPACE
        ends, costs = _descend(skeleton, tiled(observed, count), False, start, SIFTING_STEPS)
        count = min(GOOD_STARTS, count)
        start = _best(ends, costs, batch, count)
    ends, costs = _descend(skeleton, tiled(observed, count), False, start, steps)
    return _descend(skeleton, observed, True, _best(ends, costs, batch, 1), REJECTING_STEPS)[0]


def _best(ends: Unknowns, costs: Float[Array, " lanes"], batch: int, count: int) -> Unknowns:
    """The ends of least cost of each hand, as lanes again."""
    lanes = jnp.argsort(costs.reshape(-1, batch), axis=0)[:count] * batch + jnp.arange(batch)
    return jax.tree.map(lambda leaf: leaf[..., lanes.ravel()], ends)


def _descend(skeleton: Skeleton, observed: Observed, rejecting: bool, start: Unknowns, steps: int):
    toward = partial(linearize, skeleton, observed, rejecting)
    return arrowhead_marquardt(toward, partial(move, observed), start, OWN, steps)


def _clean(values: Float[Array, "batch 21 dims"], confidence: Float[Array, "batch 21"]):
    """Values and weights, both zero for keypoints that are not numbers."""
    known = jnp.isfinite(values).all(axis=-1) & jnp.isfinite(confidence)
    return jnp.where(known[..., None], values, 0.0), jnp.where(known, confidence, 0.0)


def _extent(keypoints: Float[Array, "batch 21 dims"], weight: Float[Array, "batch 21"]) -> Float[Array, " batch"]:
    """Longest side of the box of the keypoints in use."""
    used = weight[..., None] > 0
    low = jnp.where(used, keypoints, jnp.inf).min(axis=1)
    high = jnp.where(used, keypoints, -jnp.inf).max(axis=1)
    return jnp.max(high - low, axis=-1)


def _resting_keypoints(model: HandModel) -> Float[Array, "21 3"]:
    pick = jnp.concatenate([model.joint_regressor, model.tip_regressor])
    return (pick @ model.template)[MANO_TO_OPENPOSE]


def _keypoints(skeleton: Skeleton, found: Unknowns, wrist: Float[Array, "3 batch"]) -> Float[Array, "batch 21 3"]:
    fingers = keypoints_about_wrist(skeleton, found) + wrist[:, None, None]
    each = jnp.moveaxis(fingers[:, 1:], (3, 2, 1), (0, 1, 2)).reshape(-1, 20, 3)
    return jnp.concatenate([wrist.T[:, None], each], axis=1)


def _pose(model: HandModel, found: Unknowns) -> Float[Array, "batch 16 3"]:
    frames = joint_frames(model)[CHAINS[:, :3]]
    turns = frames @ euler_to_matrix(jnp.transpose(found.angles, (3, 2, 0, 1))) @ frames.mT
    wrist = matrix_to_axis_angle(jnp.moveaxis(found.rotation, -1, 0))
    pose = jnp.zeros((len(wrist), 16, 3)).at[:, 0].set(wrist)
    return pose.at[:, CHAINS[:, :3]].set(matrix_to_axis_angle(turns))


def _translation(skeleton: Skeleton, found: Unknowns, wrist: Float[Array, "3 batch"]) -> Float[Array, "batch 3"]:
    return (wrist - skeleton.wrist[:, None] - skeleton.wrist_dirs @ found.betas).T


def _mean_distance(points: Array, given: Array, weight: Float[Array, "batch 21"]) -> Float[Array, " batch"]:
    distance = jnp.linalg.norm(points - given, axis=-1)
    return jnp.sum(weight * distance, axis=1) / jnp.maximum(weight.sum(axis=1), 1e-6)

"""The least-squares problem of fitting a hand to keypoints: unknowns, errors, their derivatives, priors.

Hands are the last axis of every array and fingers the one before, so that loops over hands run in the vector units.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.hand.angles import joint_frames
from handjax.hand.camera import PinholeCamera
from handjax.hand.model import HandModel
from handjax.hand.products import matrix_product, vector_product
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.hand.topology import JOINT_LIMITS, MANO_TO_OPENPOSE

CHAINS = MANO_TO_OPENPOSE[1:].reshape(5, 4)
"""MANO's indices of each finger's three joints and tip, thumb to little."""

OWN = 9
"""Unknowns of one finger: three angles of three joints."""

# Standard deviations that weigh the terms against one another. Keypoints are read to 1 % of the hand's extent; a
# network's world landmarks are off by a centimetre and have their own scale. In a picture shape is held closer than the
# variety of people, and size closer still, because the errors of one picture are not independent: left free, hands
# shrink to explain them.
KEYPOINT_SIGMA, WORLD_SIGMA, WORLD_SCALE_SIGMA = 0.01, 0.012, 0.5
LIMIT_SIGMA, SIZE_SIGMA, SHAPE_SIGMA, SHAPE_SIGMA_IN_SPACE = 0.03, 0.5, 0.7, 1.0
# Broad: they decide only what the keypoints leave open.
RESTING_ANGLES = (0.3, 0.0, 0.0)
ANGLE_SIGMA = (0.8, 0.2, 0.1)
# A keypoint this many deviations away counts linearly, not by its square.
OUTLIER = 5.0

LOWER, UPPER = np.moveaxis(JOINT_LIMITS[CHAINS[:, :3]].astype(np.float32), (0, -1), (-1, 0))[..., None]
RESTING = np.array(RESTING_ANGLES, np.float32)[:, None, None]
RESTING_PRECISION = np.array(ANGLE_SIGMA, np.float32)[:, None, None] ** -2


class Skeleton(NamedTuple):
    """A model reduced to what its keypoints need: finger by finger, bones from the wrist to the tip.

    Exact for tips that move with one joint, as fingertips do. MANO's pose correctives move no joint, but tips by a
    millimetre or so, which the fit leaves out.
    """

    wrist: Float[Array, "3"]
    wrist_dirs: Float[Array, "3 S"]
    palm: Float[Array, "3 5 1"]
    """From the wrist to each finger's first joint, in the model's axes."""
    palm_dirs: Float[Array, "3 S 5 1"]
    bones: Float[Array, "3 3 5 1"]
    """From each joint to the next or the tip, in the joint's own axes."""
    bone_dirs: Float[Array, "3 3 S 5 1"]
    frames: Float[Array, "3 3 3 5 1"]
    """Axes of each finger's first joint in the model's, of the others in those of the joint before."""


class Unknowns(NamedTuple):
    """Hands as the fit knows them; the wrist is where they turn."""

    rotation: Float[Array, "3 3 batch"]
    angles: Float[Array, "3 3 5 batch"]
    betas: Float[Array, "S batch"]
    place: Float[Array, "3 batch"]
    """Of the wrist in camera space: x / z, y / z, log z."""
    anchor: Float[Array, "3 batch"]
    """Of the wrist among the given points, metres of the hand."""
    log_scale: Float[Array, "1 batch"]
    """Metres of the hand in one of the given points."""


class Given(NamedTuple):
    """Keypoints of each finger, the wrist as the first of all five."""

    values: Float[Array, "dims 5 5 batch"]
    weight: Float[Array, "5 5 batch"]
    sigma: Float[Array, " batch"]


class Picture(NamedTuple):
    """Keypoints in pixels and the camera that saw them."""

    camera: PinholeCamera
    keypoints: Given


class Observed(NamedTuple):
    """What the hands are fitted to: a picture, keypoints in metres, or both."""

    picture: Picture | None
    points: Given | None


@jax.default_matmul_precision("highest")
def skeleton_of(model: HandModel) -> Skeleton:
    """The skeleton of a model at rest."""
    pick = jnp.concatenate([model.joint_regressor, model.tip_regressor])
    points, dirs = pick @ model.template, jnp.einsum("kv,vas->kas", pick, model.shapedirs)
    frames = joint_frames(model)[CHAINS[:, :3]]
    inverse = frames.mT
    chained = jnp.concatenate([frames[:, :1], inverse[:, :-1] @ frames[:, 1:]], axis=1)
    bones, bone_dirs = (jnp.diff(x[CHAINS], axis=1) for x in (points, dirs))
    first = CHAINS[:, 0]
    return Skeleton(
        points[0],
        dirs[0],
        _fingers_last(points[first] - points[0]),
        _fingers_last(dirs[first] - dirs[0]),
        _fingers_last(jnp.einsum("fjab,fjb->fja", inverse, bones)),
        _fingers_last(inverse @ bone_dirs),
        _fingers_last(chained),
    )


def _fingers_last(array: Float[Array, "5 ..."]) -> Float[Array, "... 5 1"]:
    return jnp.moveaxis(array, 0, -1)[..., None]


def given_keypoints(
    keypoints: Float[Array, "batch 21 dims"], weight: Float[Array, "batch 21"], sigma: Float[Array, " batch"]
) -> Given:
    """Keypoints in OpenPose's order, finger by finger; the five copies of the wrist share its weight."""
    fingers = np.concatenate([np.zeros((1, 5), int), np.arange(1, 21).reshape(5, 4).T])
    weight = weight.at[:, 0].divide(5)
    return Given(keypoints.T[:, fingers], weight.T[fingers], sigma)


def tiled(observed: Observed, count: int) -> Observed:
    """The hands over and over, to begin each of them from several starts."""
    picture, points = observed
    if picture is not None:
        picture = picture._replace(keypoints=jax.tree.map(lambda leaf: jnp.tile(leaf, count), picture.keypoints))
    return Observed(picture, jax.tree.map(lambda leaf: jnp.tile(leaf, count), points))


def _parts(observed: Observed) -> list[str]:
    """The shared unknowns besides the turn, in the order of their columns."""
    placed = ["place"] * (observed.picture is not None) + ["anchor"] * (observed.points is not None)
    return ["betas", *placed] + ["log_scale"] * (len(placed) == 2)


def move(
    observed: Observed, unknowns: Unknowns, own: Float[Array, "9 5 batch"], shared: Float[Array, "shared batch"]
) -> Unknowns:
    """The unknowns after a step whose entries are in the order of the columns of `linearize`."""
    turn = jnp.moveaxis(axis_angle_to_matrix(shared[:3].T), 0, -1)
    moved = {"rotation": matrix_product(turn, unknowns.rotation), "angles": unknowns.angles + own.reshape(3, 3, 5, -1)}
    first = 3
    for part in _parts(observed):
        old = getattr(unknowns, part)
        moved[part] = old + shared[first : first + len(old)]
        first += len(old)
    return unknowns._replace(**moved)


def keypoints_about_wrist(skeleton: Skeleton, unknowns: Unknowns) -> Float[Array, "3 5 5 batch"]:
    """The wrist (zero) and the four keypoints of each finger, turned as the camera sees them, metres."""
    return _chain(skeleton, unknowns)[0]


def _chain(skeleton: Skeleton, unknowns: Unknowns):
    """Keypoints, how they move with the betas, and the axes about which the joints turn, followed joint by joint."""
    rotation, betas = unknowns.rotation[:, :, None], unknowns.betas[:, None]
    moves = [matrix_product(rotation, skeleton.palm_dirs)]
    points = [vector_product(rotation, skeleton.palm) + vector_product(moves[0], betas)]
    turn, axes = rotation, []
    for joint in range(3):
        turn, turned_about = _bend(matrix_product(turn, skeleton.frames[joint]), unknowns.angles[joint])
        axes.append(turned_about)
        along = matrix_product(turn, skeleton.bone_dirs[joint])
        moves.append(moves[-1] + along)
        points.append(points[-1] + vector_product(turn, skeleton.bones[joint]) + vector_product(along, betas))
    wrist, still = jnp.zeros_like(points[0]), jnp.zeros_like(moves[0])
    return jnp.stack([wrist, *points], axis=1), jnp.stack([still, *moves], axis=2), jnp.concatenate(axes, axis=1)


def _bend(frame: Float[Array, "3 3 ..."], angles: Float[Array, "3 ..."]):
    """A joint's frame after flexion, abduction and twist, and the axes that it turned about."""
    (ca, cb, cc), (sa, sb, sc) = jnp.cos(angles), jnp.sin(angles)
    x, y, z = frame[:, 0], frame[:, 1], frame[:, 2]
    y, z = ca * y + sa * z, ca * z - sa * y
    along, twist = cb * x - sb * z, sb * x + cb * z
    turned = jnp.stack([cc * along + sc * y, cc * y - sc * along, twist], axis=1)
    return turned, jnp.stack([x, y, twist], axis=1)


def linearize(
    skeleton: Skeleton, observed: Observed, rejecting: bool, unknowns: Unknowns
) -> tuple[Float[Array, " batch"], Float[Array, "size size 5 batch"]]:
    """Cost and normal equations for `arrowhead_marquardt`.

    The shared unknowns are a turn about the camera's axes, betas, and place, anchor and scale where they are free.
    Keypoints far off still pull, so that poor starts find the way, or are left aside when `rejecting`.
    """
    points, moves = _points_and_moves(skeleton, unknowns)
    cost, normal = _priors(observed, unknowns)
    parts, terms = _parts(observed), []
    if observed.picture is not None:
        terms.append((observed.picture.keypoints, *_pixel_errors(observed.picture, parts, unknowns, points, moves)))
    if observed.points is not None:
        terms.append((observed.points, *_point_errors(observed.points, parts, unknowns, points, moves)))
    for given, errors, derivatives in terms:
        scaled = jnp.concatenate([derivatives, errors[:, None]], axis=1) / given.sigma
        square = jnp.sum(scaled[:, -1] ** 2, axis=0)
        loss, trust = _geman_mcclure(square) if rejecting else _charbonnier(square)
        cost += jnp.sum(given.weight * loss, axis=(0, 1))
        rows = jnp.moveaxis(scaled * jnp.sqrt(given.weight * trust), 2, 1)
        rows = rows.reshape(-1, *rows.shape[2:])
        normal += matrix_product(rows.swapaxes(0, 1), rows)
    return cost, normal


def _charbonnier(square: Float[Array, "..."]):
    """Loss that grows linearly with errors beyond OUTLIER, and its slope by half the squared error.

    Source: Charbonnier et al., "Two Deterministic Half-Quadratic Regularization Algorithms", 1994.
    """
    root = jnp.sqrt(1.0 + square / OUTLIER**2)
    return square / (1.0 + root), 1.0 / root


def _geman_mcclure(square: Float[Array, "..."]):
    """Loss that hardly grows with errors beyond OUTLIER, and its slope by half the squared error.

    Source: Geman and McClure, "Statistical Methods for Tomographic Image Reconstruction", 1987.
    """
    trust = 1.0 / (1.0 + square / OUTLIER**2)
    return 0.5 * square * trust, trust**2


def _points_and_moves(skeleton: Skeleton, unknowns: Unknowns):
    """Keypoints about the wrist and how each angle, turn and beta moves them."""
    points, shape_moves, axes = _chain(skeleton, unknowns)
    levers = points[:, None] - jnp.repeat(points[:, 1:4], 3, axis=1)[:, :, None]
    # joint j is point 1 + j and moves only those beyond it
    beyond = np.repeat(np.arange(5) > 1 + np.arange(3)[:, None], 3, axis=0).astype(np.float32)
    bends = jnp.cross(axes[:, :, None], levers, axis=0) * beyond[..., None, None]
    turns = jnp.cross(jnp.eye(3)[..., None, None, None], points[:, None], axis=0)
    return points, jnp.concatenate([bends, turns, shape_moves], axis=1)


def _pixel_errors(picture: Picture, parts: list[str], unknowns: Unknowns, points, moves):
    """Pixels from the given keypoints to the projected ones, (2, 5, 5, batch), and derivatives by all unknowns."""
    wrist, depth = wrist_position(unknowns), jnp.exp(unknowns.place[2])
    by_place = jnp.stack([depth * jnp.eye(3)[:, 0, None], depth * jnp.eye(3)[:, 1, None], wrist], axis=1)
    moves = _with_parts(parts, moves, place=by_place[:, :, None, None])
    seen = points + wrist[:, None, None]
    z = jnp.maximum(seen[2], 1e-3)
    focal, center = (x[:, None, None, None] for x in (picture.camera.focal, picture.camera.center))
    ratio = seen[:2] / z
    return focal * ratio + center - picture.keypoints.values, focal[:, None] / z * (
        moves[:2] - ratio[:, None] * moves[2]
    )


def _point_errors(given: Given, parts: list[str], unknowns: Unknowns, points, moves):
    """Metres from the given points to the hand's, (3, 5, 5, batch), and derivatives by all unknowns."""
    target = jnp.exp(unknowns.log_scale) * given.values
    by_anchor = jnp.eye(3)[..., None, None, None]
    moves = _with_parts(parts, moves, anchor=by_anchor, log_scale=-target[:, None])
    return points + unknowns.anchor[:, None, None] - target, moves


def _with_parts(parts: list[str], moves: Float[Array, "3 columns 5 5 batch"], **derivatives: Array) -> Array:
    """Adds the columns of place, anchor and scale, zero where no derivative is given."""
    columns = [moves]
    for part in parts[1:]:
        shape = (3, 1 if part == "log_scale" else 3, *moves.shape[2:])
        columns.append(jnp.broadcast_to(derivatives.get(part, jnp.zeros(())), shape))
    return jnp.concatenate(columns, axis=1)


def _priors(observed: Observed, unknowns: Unknowns):
    """Cost and normal equations of limits, resting pose and shape; each finger bears a fifth of the shared ones."""
    excess = jnp.maximum(unknowns.angles - UPPER, 0.0) - jnp.maximum(LOWER - unknowns.angles, 0.0)
    strayed = unknowns.angles - RESTING
    slope = excess / LIMIT_SIGMA**2 + strayed * RESTING_PRECISION
    curvature = (excess != 0) / LIMIT_SIGMA**2 + RESTING_PRECISION
    shared = {part: getattr(unknowns, part) for part in _parts(observed)}
    values = jnp.concatenate([jnp.zeros_like(unknowns.betas, shape=(3, unknowns.betas.shape[-1])), *shared.values()])
    held = [_sigmas(observed, part, len(value)) for part, value in shared.items()]
    precision = jnp.asarray(np.concatenate([np.full(3, np.inf), *held]) ** -2.0, jnp.float32)[:, None]
    cost = 0.5 * jnp.sum(excess**2 / LIMIT_SIGMA**2 + strayed**2 * RESTING_PRECISION, axis=(0, 1, 2))
    cost += 0.5 * jnp.sum(precision * values**2, axis=0)
    spread = (len(values), 5, values.shape[-1])
    slope = jnp.concatenate([slope.reshape(OWN, 5, -1), jnp.broadcast_to((precision * values / 5)[:, None], spread)])
    fifth = jnp.broadcast_to(precision[:, None] / 5, spread)
    curvature = jnp.concatenate([curvature.reshape(OWN, 5, -1), fifth])
    diagonal = jnp.eye(len(slope))[..., None, None] * curvature
    corner = jnp.zeros_like(slope[:1])
    border = jnp.concatenate([slope, corner])
    return cost, jnp.concatenate([jnp.concatenate([diagonal, slope[:, None]], axis=1), border[None]])


def _sigmas(observed: Observed, part: str, count: int) -> np.ndarray:
    """Standard deviations of the prior of a shared unknown."""
    if part == "betas" and observed.picture is not None:
        return np.array([SIZE_SIGMA, *[SHAPE_SIGMA] * (count - 1)])
    return np.full(count, {"betas": SHAPE_SIGMA_IN_SPACE, "log_scale": WORLD_SCALE_SIGMA}.get(part, np.inf))


def wrist_position(unknowns: Unknowns) -> Float[Array, "3 batch"]:
    """Of the wrist in camera space, metres."""
    x, y, log_z = unknowns.place
    return jnp.exp(log_z) * jnp.stack([x, y, jnp.ones_like(x)])

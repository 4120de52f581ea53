"""Where the fit of a hand begins: rotations and curls that its keypoints suggest."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.hand.fit_problem import LOWER, UPPER, Observed, Skeleton, Unknowns, keypoints_about_wrist

PALM = jnp.array([0, 1, 5, 9, 13, 17])
CURLS = (0.1, 0.6, 1.2)
# Fingers bend and tell little of the palm, yet something where it is hidden.
STIFFNESS = jnp.full(21, 0.05).at[PALM].set(1.0)


def starts_in_space(
    rest: Float[Array, "21 3"], points: Float[Array, "21 3"], weight: Float[Array, "21"]
) -> tuple[Float[Array, "2 3 3"], Float[Array, "2 3 5"]]:
    """Where to start from keypoints in space: in the pose they show and, lest they mislead, half curled.

    Args:
        rest: keypoints of the model at rest, OpenPose order.
        points: given keypoints, of any scale.
        weight: 0 leaves a keypoint out.

    Returns:
        Rotations of the hand and flexions of each finger's three joints, radians.
    """
    bend = _bends(points) - _bends(rest)
    known = jnp.minimum(weight[0], weight[1:].reshape(5, 4).min(axis=1)) > 0
    shown = jnp.clip(jnp.where(known, bend, CURLS[1]), LOWER[:, 0, :, 0], UPPER[:, 0, :, 0])
    rotation = _rotation_between(rest, points, weight * STIFFNESS)
    return jnp.stack([rotation, rotation]), jnp.stack([shown, jnp.full_like(shown, CURLS[1])])


def starts_in_picture(
    rest: Float[Array, "21 3"], pixels: Float[Array, "21 2"], weight: Float[Array, "21"]
) -> tuple[Float[Array, "6 3 3"], Float[Array, "6 3 5"]]:
    """Where to start from keypoints in a picture: each likely rotation with each curl; as `starts_in_space`."""
    likely = _rotations_of_flat_hand(rest, pixels, weight * STIFFNESS)
    curls = jnp.repeat(jnp.array(CURLS), len(likely))
    return jnp.tile(likely, (len(CURLS), 1, 1)), jnp.broadcast_to(curls[:, None, None], (len(curls), 3, 5))


def first_unknowns(
    skeleton: Skeleton, observed: Observed, rotation: Float[Array, "3 3 batch"], flexion: Float[Array, "3 5 batch"]
) -> Unknowns:
    """Rotated, bent hands of mean shape, put where weak perspective sees them and among the given points."""
    nowhere = jnp.zeros((3, rotation.shape[-1]))
    angles = jnp.zeros((3, *flexion.shape)).at[0].set(flexion).swapaxes(0, 1)
    betas = jnp.zeros((skeleton.wrist_dirs.shape[-1], rotation.shape[-1]))
    unknowns = Unknowns(rotation, angles, betas, nowhere, nowhere, nowhere[:1])
    points = keypoints_about_wrist(skeleton, unknowns)
    if observed.picture is not None:
        camera, (pixels, weight, _) = observed.picture
        spread, seen_spread = _spread(points[:2], weight), _spread(pixels, weight)
        scale = jnp.sqrt(jnp.maximum(seen_spread, 1.0) / jnp.maximum(spread, 1e-8))
        wrist = _center(pixels, weight) - scale * _center(points[:2], weight)
        ray = (wrist - camera.center[:, None]) / camera.focal[:, None]
        log_depth = jnp.log(jnp.mean(camera.focal) / scale)
        unknowns = unknowns._replace(place=jnp.concatenate([ray, log_depth[None]]))
    if observed.points is not None:
        given, weight, _ = observed.points
        unknowns = unknowns._replace(anchor=_center(given, weight) - _center(points, weight))
    return unknowns


def _center(points: Float[Array, "dims 5 5 batch"], weight: Float[Array, "5 5 batch"]) -> Float[Array, "dims batch"]:
    return jnp.sum(weight * points, axis=(1, 2)) / jnp.maximum(weight.sum(axis=(0, 1)), 1e-6)


def _spread(points: Float[Array, "dims 5 5 batch"], weight: Float[Array, "5 5 batch"]) -> Float[Array, " batch"]:
    return jnp.sum(weight * (points - _center(points, weight)[:, None, None]) ** 2, axis=(0, 1, 2))


def _bends(keypoints: Float[Array, "21 3"]) -> Float[Array, "3 5"]:
    """Angles between successive bones of each finger, the first of which is in the palm."""
    wrist = jnp.broadcast_to(keypoints[0], (5, 1, 3))
    bones = jnp.diff(jnp.concatenate([wrist, keypoints[1:].reshape(5, 4, 3)], axis=1), axis=1)
    bones = bones / jnp.maximum(jnp.linalg.norm(bones, axis=-1, keepdims=True), 1e-6)
    return jnp.arccos(jnp.clip(jnp.sum(bones[:, 1:] * bones[:, :-1], axis=-1), -1.0, 1.0)).T


def _centered(points: Float[Array, "points dims"], weight: Float[Array, " points"]) -> Float[Array, "points dims"]:
    return points - weight @ points / jnp.maximum(weight.sum(), 1e-6)


@jax.default_matmul_precision("highest")
def _rotation_between(
    rest: Float[Array, "21 3"], points: Float[Array, "21 3"], weight: Float[Array, "21"]
) -> Float[Array, "3 3"]:
    """Rotation that brings the resting keypoints closest to the given ones.

    Source: Kabsch, "A Solution for the Best Rotation to Relate Two Sets of Vectors", 1976.
    """
    covariance = jnp.einsum("k,ka,kb->ab", weight, _centered(points, weight), _centered(rest, weight))
    u, _, vt = jnp.linalg.svd(covariance + 1e-12 * jnp.eye(3))
    sign = jnp.array([1.0, 1.0, 1.0]).at[2].set(jnp.sign(jnp.linalg.det(u @ vt)))
    return u * sign @ vt


@jax.default_matmul_precision("highest")
def _rotations_of_flat_hand(
    rest: Float[Array, "21 3"], pixels: Float[Array, "21 2"], weight: Float[Array, "21"]
) -> Float[Array, "2 3 3"]:
    """The two rotations under which a flat hand looks as observed in weak perspective: tilted one way or the other.

    The map from the hand's plane to pixels is the upper left 2×2 block of a scaled rotation. Its columns have the
    scale as greatest possible length, which leaves the third row up to its sign.
    """
    rest, seen = _centered(rest, weight), _centered(pixels, weight)
    first, second = jnp.linalg.svd(weight[:, None] * rest)[2][:2]
    plane = jnp.stack([first, second, jnp.cross(first, second)], axis=-1)
    flat = rest @ plane[:, :2]
    normal = jnp.einsum("k,ka,kb->ab", weight, flat, flat) + 1e-9 * jnp.eye(2)
    # the added identity decides where nothing is seen: the hand then faces the camera
    to_pixels = jnp.linalg.solve(normal, jnp.einsum("k,ka,kb->ab", weight, flat, seen) + 1e-9 * jnp.eye(2)).T
    upper = to_pixels / jnp.maximum(jnp.linalg.norm(to_pixels, ord=2), 1e-6)
    length = jnp.sqrt(jnp.maximum(1.0 - jnp.sum(upper**2, axis=0), 0.0))
    opposite = jnp.where(upper[:, 0] @ upper[:, 1] > 0, -1.0, 1.0)
    lower = length * jnp.stack([jnp.ones(()), opposite])
    rotations = []
    for sign in (1.0, -1.0):
        first, second = jnp.concatenate([upper, sign * lower[None]]).T
        rotations.append(jnp.stack([first, second, jnp.cross(first, second)], axis=-1) @ plane.T)
    return jnp.stack(rotations)

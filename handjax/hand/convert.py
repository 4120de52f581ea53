"""Parameters of one hand model turned into another's: the open hand's into MANO's and back.

Both have MANO's 16 joints, but their templates lie along other axes, with fingers spread a little differently, and
their shape directions have nothing in common. Converted hands lie over one another: each bone keeps its direction and
its twist in space, the wrist its place, and the shape is the one whose bones are nearest in length.
"""

import dataclasses
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.errors import InputError
from handjax.hand.angles import joint_frames
from handjax.hand.least_squares import levenberg_marquardt
from handjax.hand.model import HandModel, rest_joints, shape_hand
from handjax.hand.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from handjax.hand.topology import KEYPOINT_PARENTS, MANO_PARENTS, MANO_TO_OPENPOSE

ITERATIONS = 10
# Two models never agree to better than a millimetre, because their joints are not at the same spots of the anatomy.
LENGTH_SIGMA = 5e-4
_PALM = (0, 1, 5, 9, 13, 17)
_FINGER_BONES = [(KEYPOINT_PARENTS[k], k) for k in range(1, 21) if k not in _PALM]
_LENGTHS = MANO_TO_OPENPOSE[np.array([*combinations(_PALM, 2), *_FINGER_BONES])]
"""(30, 2) points that do not move against each other in a pose, among 16 joints and 5 tips in MANO's order."""
_PLANE, _ABOVE = MANO_TO_OPENPOSE[[0, 5, 17]], MANO_TO_OPENPOSE[[1, 9, 13]]
"""The palm's plane and the points whose height above it distances hardly tell."""


class HandParameters(NamedTuple):
    """What `pose_hand` takes besides the model: radians, standard deviations, metres."""

    pose: Float[Array, "16 3"]
    betas: Float[Array, " S"]
    translation: Float[Array, "3"]


@jax.default_matmul_precision("highest")
def convert_hand(source: HandModel, target: HandModel, parameters: HandParameters) -> HandParameters:
    """Finds the parameters under which one model looks as another does; batch with `jax.vmap`.

    Args:
        source: the model that the parameters are of, such as the open hand.
        target: a model of the same side, such as MANO; `mirror_model` and `mirror_pose` change sides.
        parameters: pose with zero the template (see `absolute_pose` for MANO's mean pose), shape and place.

    Returns:
        The target's parameters, the shape as `convert_shape` finds it.

    Raises:
        InputError: the models are of different sides.
    """
    if source.side != target.side:
        raise InputError(f"a {source.side} hand does not convert to a {target.side} one; mirror model and pose first")
    pose, betas, translation = parameters
    new_betas = convert_shape(source, target, betas)
    old, new = _shaped(source, betas), _shaped(target, new_betas)
    turns = _world_turns(axis_angle_to_matrix(pose)) @ joint_frames(old) @ joint_frames(new).mT
    local = jnp.concatenate([turns[:1], turns[MANO_PARENTS[1:]].mT @ turns[1:]])
    wrist = rest_joints(old, old.template)[0] + translation
    return HandParameters(matrix_to_axis_angle(local), new_betas, wrist - rest_joints(new, new.template)[0])


@jax.default_matmul_precision("highest")
def convert_shape(source: HandModel, target: HandModel, betas: Float[Array, " S"]) -> Float[Array, " T"]:
    """Shape of the target whose bones and palm are nearest in length and arch to the source's, by least squares.

    Args:
        source: the model that the shape is of.
        target: the other model.
        betas: standard deviations.

    Returns:
        Standard deviations; directions that change neither stay near zero.
    """
    points, directions = _rest_keypoints(source)
    wanted = _measures(points + directions @ betas)
    points, directions = _rest_keypoints(target)

    def residuals(unknowns):
        missed = (_measures(points + directions @ unknowns) - wanted) / LENGTH_SIGMA
        return jnp.concatenate([missed, unknowns])

    return levenberg_marquardt(residuals, jnp.zeros(directions.shape[-1]), ITERATIONS)[0]


def _shaped(model: HandModel, betas: Float[Array, " S"]) -> HandModel:
    return dataclasses.replace(model, template=shape_hand(model, betas))


def _world_turns(local: Float[Array, "16 3 3"]) -> Float[Array, "16 3 3"]:
    """Rotation of each joint's bone in space."""
    turns = [local[0]]
    for joint in range(1, 16):
        turns.append(turns[MANO_PARENTS[joint]] @ local[joint])
    return jnp.stack(turns)


def _rest_keypoints(model: HandModel) -> tuple[Float[Array, "21 3"], Float[Array, "21 3 S"]]:
    """Joints and tips of the mean shape at rest, and how each shape direction moves them."""
    pick = jnp.concatenate([model.joint_regressor, model.tip_regressor])
    return pick @ model.template, jnp.einsum("kv,vas->kas", pick, model.shapedirs)


def _measures(points: Float[Array, "21 3"]) -> Float[Array, "33"]:
    """Lengths, then heights above the palm's plane, metres."""
    ends = points[_LENGTHS]
    wrist, index, little = points[_PLANE]
    normal = jnp.cross(index - wrist, little - wrist)
    heights = (points[_ABOVE] - wrist) @ normal / jnp.linalg.norm(normal)
    return jnp.concatenate([jnp.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1), heights])

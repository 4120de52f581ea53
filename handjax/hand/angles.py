"""Joint angles as a hand surgeon names them: flexion, abduction and twist about anatomical axes.

Each joint has an orthonormal frame, fixed to its parent bone in the rest pose, whose columns are the flexion axis
(positive bends towards the palm), the abduction axis (positive moves a finger towards the thumb and the thumb away
from the palm) and the bone's own axis (twist). A joint turns by flexion, then abduction about the turned axis, then
twist. The same angles mean the mirrored pose on a left hand.

Source: order of the angles: Wu et al., "ISB Recommendation on Definitions of Joint Coordinate Systems", part II, 2005.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from handjax.hand.model import HandModel, rest_joints
from handjax.hand.rotations import axis_angle_to_matrix, euler_to_matrix, matrix_to_axis_angle, matrix_to_euler
from handjax.hand.topology import FLEXION_DIRECTIONS, MANO_JOINT_NAMES, MANO_PARENTS, TIP_NAMES

_KNUCKLES = [MANO_JOINT_NAMES.index(f"{finger}_mcp") for finger in ("index", "middle", "ring", "little")]


def _bone_ends() -> np.ndarray:
    """Index of each bone's far end among the 16 joints followed by the 5 tips, for joints 1 to 15."""
    ends = []
    for joint in range(1, 16):
        children = np.flatnonzero(joint == MANO_PARENTS)
        finger = MANO_JOINT_NAMES[joint].split("_")[0]
        ends.append(children[0] if len(children) else 16 + TIP_NAMES.index(f"{finger}_tip"))
    return np.array(ends)


_BONE_ENDS = _bone_ends()


def _unit(vectors: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3"]:
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)


@jax.default_matmul_precision("highest")
def palm_frame(joints: Float[Array, "16 3"]) -> Float[Array, "3 3"]:
    """Axes of a right palm: columns radial (to the thumb), distal (to the fingers), dorsal (out of its back)."""
    knuckles = joints[jnp.array(_KNUCKLES)]
    distal = _unit(knuckles.mean(0) - joints[0])
    across = knuckles[0] - knuckles[-1]
    radial = _unit(across - across @ distal * distal)
    return jnp.stack([radial, distal, jnp.cross(distal, radial)], axis=-1)


@jax.default_matmul_precision("highest")
def frames_of_skeleton(joints: Float[Array, "16 3"], tips: Float[Array, "5 3"]) -> Float[Array, "16 3 3"]:
    """Anatomical frames of a right hand at rest.

    Args:
        joints: joints at rest, any unit.
        tips: fingertips at rest, thumb to little.

    Returns:
        One frame a joint; columns are the axes of flexion, abduction and twist. The wrist's is that of the palm.
    """
    palm = palm_frame(joints)
    bones = jnp.concatenate([joints, tips])[_BONE_ENDS] - joints[1:]
    bones = _unit(jnp.concatenate([palm[None, :, 1], bones]))
    flexion = _unit(jnp.cross(bones, FLEXION_DIRECTIONS @ palm.T))
    return jnp.stack([flexion, jnp.cross(bones, flexion), bones], axis=-1)


@jax.default_matmul_precision("highest")
def joint_frames(model: HandModel) -> Float[Array, "16 3 3"]:
    """Anatomical frames of a model's mean shape at rest; a left hand's are the mirrored rotation axes."""
    mirror = jnp.array([1.0 if model.side == "right" else -1.0, 1.0, 1.0])
    joints = rest_joints(model, model.template) * mirror
    frames = frames_of_skeleton(joints, model.tip_regressor @ model.template * mirror)
    # the axis of a rotation is a pseudovector: mirroring x turns its y and z around
    return frames if model.side == "right" else frames * jnp.array([1.0, -1.0, -1.0])[:, None]


@jax.default_matmul_precision("highest")
def pose_from_angles(model: HandModel, angles: Float[Array, "16 3"]) -> Float[Array, "16 3"]:
    """Pose of a hand given its joint angles.

    Args:
        model: the hand whose axes are meant.
        angles: flexion, abduction and twist of each joint in MANO's order, radians; the wrist's turn the whole hand.

    Returns:
        Axis-angle pose for `pose_hand`, radians.
    """
    frames = joint_frames(model)
    return matrix_to_axis_angle(frames @ euler_to_matrix(angles) @ frames.mT)


@jax.default_matmul_precision("highest")
def angles_from_pose(model: HandModel, pose: Float[Array, "16 3"]) -> Float[Array, "16 3"]:
    """Joint angles of a pose; the inverse of `pose_from_angles` for abductions below a quarter turn.

    Args:
        model: the hand whose axes are meant.
        pose: axis-angle pose, radians.

    Returns:
        Flexion, abduction and twist of each joint, radians.
    """
    frames = joint_frames(model)
    return matrix_to_euler(frames.mT @ axis_angle_to_matrix(pose) @ frames)

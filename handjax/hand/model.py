"""The parametric hand: shape space, joints and linear blend skinning as pure functions.

The open hand's template lies flat with straight fingers in camera axes (x right, y down, z forward), its wrist joint at
the origin: a right hand shows its palm to the camera, fingers up, thumb to the right.
"""

import dataclasses
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from handjax.hand.rotations import axis_angle_to_matrix
from handjax.hand.topology import MANO_PARENTS, MANO_TO_OPENPOSE

OPEN_HAND = Path(__file__).parent.parent / "assets" / "open_hand.npz"
Side = Literal["left", "right"]
Part = Literal["hand", "forearm"]


@struct.dataclass
class HandModel:
    """A rigged, skinned hand with a linear shape space, in metres.

    Args:
        template: vertices of the mean shape at rest.
        shapedirs: vertex offsets of one standard deviation along each shape direction; the open hand's first is size.
        skin_weights: share of each joint in each vertex; rows sum to one.
        joint_regressor: joints at rest as weighted means of vertices at rest.
        tip_regressor: fingertips, thumb to little, as weighted means of posed vertices.
        faces: vertex indices, counter-clockwise seen from outside.
        face_uv: texture coordinates of each face's corners, v up.
        side: the hand's side.
        name: the model's name in records.
        posedirs: pose correctives: vertex offsets of each entry of the 15 finger rotations less identity; None for a
            model without, such as the open hand.
        pose_components: finger poses, axis-angle in radians, that the pose space of MANO adds up, one a row.
        pose_mean: the mean finger pose, axis-angle in radians; zero is the flat hand.
    """

    template: Float[Array, "V 3"]
    shapedirs: Float[Array, "V 3 S"]
    skin_weights: Float[Array, "V 16"]
    joint_regressor: Float[Array, "16 V"]
    tip_regressor: Float[Array, "5 V"]
    faces: Int[Array, "F 3"]
    face_uv: Float[Array, "F 3 2"]
    side: Side = struct.field(pytree_node=False)
    name: str = struct.field(pytree_node=False)
    posedirs: Float[Array, "V 3 135"] | None = None
    pose_components: Float[Array, "45 15 3"] | None = None
    pose_mean: Float[Array, "15 3"] | None = None


class PosedHand(NamedTuple):
    """Vertices, the 16 joints in MANO's order and the 21 keypoints in OpenPose's order of a posed hand, metres."""

    vertices: Float[Array, "V 3"]
    joints: Float[Array, "16 3"]
    keypoints: Float[Array, "21 3"]


def load_open_hand(side: Side = "right", part: Part = "hand") -> HandModel:
    """The open hand of the package, made by `launch.assets.open_hand` from MakeHuman's data (CC0).

    Args:
        side: the left hand is the right one mirrored in x.
        part: "hand" ends just above the wrist; "forearm" continues to below the elbow, for rendering. Joints, shape
            directions and the vertices of the hand are the same in both.

    Returns:
        The model with 10 shape directions.
    """
    with np.load(OPEN_HAND) as arrays:
        count = int(arrays["hand_vertices"]) if part == "hand" else len(arrays["template"])
        faces = arrays["faces"].astype(np.int32)
        inside = (faces < count).all(axis=1)
        model = HandModel(
            template=jnp.asarray(arrays["template"][:count]),
            shapedirs=jnp.asarray(arrays["shapedirs"][:count]),
            skin_weights=jnp.asarray(arrays["skin_weights"][:count]),
            joint_regressor=jnp.asarray(arrays["joint_regressor"][:, :count]),
            tip_regressor=jnp.asarray(arrays["tip_regressor"][:, :count]),
            faces=jnp.asarray(faces[inside]),
            face_uv=jnp.asarray(arrays["face_uv"][inside]),
            side="right",
            name="open_hand",
        )
    return model if side == "right" else mirror_model(model)


def mirror_model(model: HandModel) -> HandModel:
    """The other hand: mirrored in x, with faces turned around so that they still look outwards."""
    mirror = jnp.array([-1.0, 1.0, 1.0])
    entries = jnp.tile(jnp.outer(mirror, mirror).ravel(), 15)  # of the 15 rotations between mirrors
    return dataclasses.replace(
        model,
        template=model.template * mirror,
        shapedirs=model.shapedirs * mirror[:, None],
        faces=model.faces[:, ::-1],
        face_uv=model.face_uv[:, ::-1],
        side="left" if model.side == "right" else "right",
        posedirs=None if model.posedirs is None else model.posedirs * mirror[:, None] * entries,
        pose_components=None if model.pose_components is None else mirror_pose(model.pose_components),
        pose_mean=None if model.pose_mean is None else mirror_pose(model.pose_mean),
    )


def mirror_pose(pose: Float[Array, "*batch joints 3"]) -> Float[Array, "*batch joints 3"]:
    """Pose of the other hand's mirrored model that looks like this pose mirrored in x (DECISIONS G4)."""
    return pose * jnp.array([1.0, -1.0, -1.0])


@jax.default_matmul_precision("highest")
def shape_hand(model: HandModel, betas: Float[Array, " S"]) -> Float[Array, "V 3"]:
    """Vertices at rest of a hand of the given shape.

    Args:
        model: the hand.
        betas: shape in standard deviations.

    Returns:
        Metres.
    """
    return model.template + model.shapedirs @ betas


@jax.default_matmul_precision("highest")
def rest_joints(model: HandModel, rest_vertices: Float[Array, "V 3"]) -> Float[Array, "16 3"]:
    """Joints at rest of a shaped hand, metres."""
    return model.joint_regressor @ rest_vertices


@jax.default_matmul_precision("highest")
def pose_hand_matrices(
    model: HandModel,
    rotations: Float[Array, "16 3 3"],
    betas: Float[Array, " S"],
    translation: Float[Array, "3"],
) -> PosedHand:
    """Poses a hand by linear blend skinning; batch with `jax.vmap`.

    Args:
        model: the hand.
        rotations: of each joint relative to its parent; the first turns the whole hand about joint 0 (DECISIONS G5).
        betas: shape in standard deviations.
        translation: added to everything after the rotation, metres.

    Returns:
        Vertices, joints and keypoints, metres.

    Source: Romero, Tzionas and Black, "Embodied Hands", 2017, Eq. 1-4; the open hand has no pose correctives.
    """
    rest = shape_hand(model, betas)
    rest_skeleton = rest_joints(model, rest)
    if model.posedirs is not None:
        rest = rest + model.posedirs @ (rotations[1:] - jnp.eye(3)).ravel()
    # five fingers of three joints each, all with the wrist as root: their chains are followed side by side
    bones = (rest_skeleton[1:] - rest_skeleton[MANO_PARENTS[1:]]).reshape(5, 3, 3)
    bends = rotations[1:].reshape(5, 3, 3, 3)
    turns, joints = [jnp.broadcast_to(rotations[0], (5, 3, 3))], [jnp.broadcast_to(rest_skeleton[0], (5, 3))]
    for k in range(3):
        joints.append(joints[k] + jnp.einsum("fab,fb->fa", turns[k], bones[:, k]))
        turns.append(turns[k] @ bends[:, k])
    turn = jnp.concatenate([rotations[:1], jnp.stack(turns[1:], axis=1).reshape(15, 3, 3)])
    joint = jnp.concatenate([rest_skeleton[:1], jnp.stack(joints[1:], axis=1).reshape(15, 3)])
    shift = joint - jnp.einsum("jab,jb->ja", turn, rest_skeleton)
    blended_turn = jnp.einsum("vj,jab->vab", model.skin_weights, turn)
    vertices = jnp.einsum("vab,vb->va", blended_turn, rest) + model.skin_weights @ shift + translation
    joint = joint + translation
    keypoints = jnp.concatenate([joint, model.tip_regressor @ vertices])[MANO_TO_OPENPOSE]
    return PosedHand(vertices, joint, keypoints)


def pose_hand(
    model: HandModel,
    pose: Float[Array, "16 3"],
    betas: Float[Array, " S"],
    translation: Float[Array, "3"],
) -> PosedHand:
    """Poses a hand given axis-angle rotations; otherwise as `pose_hand_matrices`.

    Args:
        model: the hand.
        pose: axis-angle of each joint relative to its parent, the first for the whole hand, radians.
        betas: shape in standard deviations.
        translation: metres.

    Returns:
        Vertices, joints and keypoints, metres.
    """
    return pose_hand_matrices(model, axis_angle_to_matrix(pose), betas, translation)

"""The hand's mesh with other fingers: bones of other lengths and widths, knuckles moved aside, fingers added.

All of it happens at rest or as a copy of a part of the posed mesh, so that skinning, shading and skin stay as they are.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from handjax.hand.angles import palm_frame, pose_from_angles
from handjax.hand.model import HandModel, PosedHand, pose_hand, rest_joints, shape_hand

CHAINS = np.array([[13, 14, 15], [1, 2, 3], [4, 5, 6], [10, 11, 12], [7, 8, 9]])
"""(5, 3) joints of each finger in MANO's order, thumb to little, from the palm outwards."""
COPIES = 2
FROM_SECOND_JOINT = 5
"""Parts that can be copied: 0 to 4 whole fingers, 5 to 9 fingers from their second joint on."""
_TAPER = (0.25, 0.75)
"""Membership of a finger at which its copy begins and at which it has its full width."""
_ROOT_DEPTH = 0.012
"""How deep in the palm a copy begins, metres."""


@struct.dataclass
class FingerPlan:
    """How one right hand is made.

    Args:
        angles: flexion, abduction and twist of the 16 joints, radians; limits are not minded.
        length: of the 15 bones of joints 1 to 15, in their own lengths.
        width: of the same bones.
        shift: of each finger towards the thumb, metres, thumb to little.
        part: that each copy is of; -1 is no copy.
        copy_angles: of the copy's three joints, radians.
        offset: of each copy from its finger along the palm's radial, distal and dorsal axes, metres.
        copy_size: of each copy, in sizes of its finger.
        at_end: whether a copy continues its finger: its second joint lies at the finger's last.
    """

    angles: Float[Array | np.ndarray, "*batch 16 3"]
    length: Float[Array | np.ndarray, "*batch 15"]
    width: Float[Array | np.ndarray, "*batch 15"]
    shift: Float[Array | np.ndarray, "*batch 5"]
    part: Int[Array | np.ndarray, "*batch 2"]
    copy_angles: Float[Array | np.ndarray, "*batch 2 3 3"]
    offset: Float[Array | np.ndarray, "*batch 2 3"]
    copy_size: Float[Array | np.ndarray, "*batch 2"]
    at_end: Bool[Array | np.ndarray, "*batch 2"]


@struct.dataclass
class FingerMesh:
    """What belongs to which finger; parts are padded to equal numbers.

    Args:
        membership: share of each finger in each vertex.
        copied: vertices of each part, padded with the last one.
        taper: width of each part at these vertices, 0 where it begins.
        copied_faces: indices into `copied`; padding has no area.
        outer_faces: the finger whose last two bones a face of the mesh is on, -1 elsewhere.
        outer_copied: whether a face of a part is on the last two bones.
    """

    membership: Float[Array, "V 5"]
    copied: Int[Array, "10 C"]
    taper: Float[Array, "10 C"]
    copied_faces: Int[Array, "10 D 3"]
    outer_faces: Int[Array, " F"]
    outer_copied: Bool[Array, "10 D"]


@struct.dataclass
class EditedHand:
    """A posed hand with its copies.

    Args:
        vertices: of the mesh and then of the copies, metres, camera space.
        faces: of both.
        source: the mesh's vertex that each vertex is, or is copied from.
        finger: of each face: 0 to 4 on the last two bones of a finger, 5 and 6 on those of a copy, -1 elsewhere.
        keypoints: 21 of the mesh.
    """

    vertices: Float[Array, "W 3"]
    faces: Int[Array, "G 3"]
    source: Int[Array, " W"]
    finger: Int[Array, " G"]
    keypoints: Float[Array, "21 3"]


def finger_mesh(model: HandModel) -> FingerMesh:
    """Finds the fingers of a hand model."""
    weights, faces = np.asarray(model.skin_weights), np.asarray(model.faces)
    membership = weights[:, CHAINS].sum(axis=2)
    joint = weights.argmax(axis=1)
    outer = np.full(len(weights), -1)
    for finger, chain in enumerate(CHAINS):
        outer[np.isin(joint, chain[1:])] = finger
    parts = [membership[:, f] for f in range(5)] + [weights[:, CHAINS[f, 1:]].sum(axis=1) for f in range(5)]
    vertices = [np.flatnonzero(share > _TAPER[0]) for share in parts]
    inner = [np.isin(faces, listed).all(axis=1) for listed in vertices]
    most_vertices, most_faces = max(map(len, vertices)), max(inside.sum() for inside in inner)
    copied = np.stack([np.pad(v, (0, most_vertices - len(v)), mode="edge") for v in vertices])
    own = [np.searchsorted(v, faces[inside]) for v, inside in zip(vertices, inner, strict=True)]
    ends = [outer[faces[inside]].min(axis=1) >= 0 for inside in inner]
    low, high = _TAPER
    return FingerMesh(
        membership=jnp.asarray(membership),
        copied=jnp.asarray(copied),
        taper=jnp.stack([jnp.clip((s[c] - low) / (high - low), 0, 1) for s, c in zip(parts, copied, strict=True)]),
        copied_faces=jnp.stack([jnp.asarray(np.pad(f, ((0, most_faces - len(f)), (0, 0)))) for f in own]),
        outer_faces=jnp.asarray(np.where((outer[faces] == outer[faces][:, :1]).all(axis=1), outer[faces[:, 0]], -1)),
        outer_copied=jnp.stack([jnp.asarray(np.pad(e, (0, most_faces - len(e)))) for e in ends]),
    )


@jax.jit
@jax.default_matmul_precision("highest")
def edit_hand(
    model: HandModel,
    mesh: FingerMesh,
    plan: FingerPlan,
    orientation: Float[Array, "3"],
    betas: Float[Array, " S"],
    translation: Float[Array, "3"],
) -> EditedHand:
    """Makes one right hand by plan.

    Args:
      model: the hand.
      mesh: its fingers.
      plan: what to make of them.
      orientation: axis-angle of the whole hand.
      betas: shape in standard deviations.
      translation: metres.
    """
    rest = shape_hand(model, betas)
    edited = model.replace(template=_reshape(rest, rest_joints(model, rest), model, mesh, plan))
    pose = partial(_pose, model, edited, orientation, translation)
    posed = pose(plan.angles)
    copies = [_copy(edited, mesh, plan, posed, pose, number) for number in range(COPIES)]
    starts = [len(posed.vertices) + number * mesh.copied.shape[1] for number in range(COPIES)]
    ends = [jnp.where(mesh.outer_copied[part], 5 + n, -1) for n, part in enumerate(plan.part)]
    copied = [mesh.copied_faces[part] + start for part, start in zip(plan.part, starts, strict=True)]
    return EditedHand(
        vertices=jnp.concatenate([posed.vertices, *copies]),
        faces=jnp.concatenate([model.faces, *copied]),
        source=jnp.concatenate([jnp.arange(len(posed.vertices)), *(mesh.copied[part] for part in plan.part)]),
        finger=jnp.concatenate([mesh.outer_faces, *ends]),
        keypoints=posed.keypoints,
    )


def _reshape(rest, joints, model: HandModel, mesh: FingerMesh, plan: FingerPlan) -> Float[Array, "V 3"]:
    """Vertices at rest with bones of other lengths and widths and with shifted fingers."""
    tips = model.tip_regressor @ rest
    moved = jnp.zeros_like(rest)
    for finger, chain in enumerate(CHAINS):
        ends = jnp.concatenate([joints[chain], tips[finger : finger + 1]])
        member = mesh.membership[:, finger, None]
        for k, joint in enumerate(chain):
            bone = ends[k + 1] - ends[k]
            long = jnp.linalg.norm(bone)
            along = (rest - ends[k]) @ bone / long
            across = rest - ends[k] - along[:, None] * bone / long
            reached = jnp.clip(along, 0.0, jnp.inf if k == 2 else long)[:, None] * bone / long
            moved += member * (plan.length[joint - 1] - 1.0) * reached
            moved += model.skin_weights[:, joint, None] * (plan.width[joint - 1] - 1.0) * across
        moved += member * plan.shift[finger] * jnp.array([1.0, 0.0, 0.0])
    return rest + moved


def _pose(model: HandModel, edited: HandModel, orientation, translation, angles) -> PosedHand:
    pose = pose_from_angles(model, angles).at[0].set(orientation)
    return pose_hand(edited, pose, jnp.zeros(model.shapedirs.shape[-1]), translation)


def _copy(edited: HandModel, mesh: FingerMesh, plan: FingerPlan, posed: PosedHand, pose, number: int):
    """Posed vertices of a copy; those of no copy lie at the wrist, within the hand."""
    part = plan.part[number]
    whole = part < FROM_SECOND_JOINT
    chain = jnp.asarray(CHAINS)[part % FROM_SECOND_JOINT]
    turned = pose(plan.angles.at[chain].set(plan.copy_angles[number]))
    base = turned.joints[chain[jnp.where(whole, 0, 1)]]
    palm = palm_frame(posed.joints)
    offset = jnp.where(plan.at_end[number], posed.joints[chain[2]] - base, palm @ plan.offset[number])
    root = base - jnp.where(whole, _ROOT_DEPTH, 0.0) * palm[:, 1]
    points = base + plan.copy_size[number] * (turned.vertices[mesh.copied[part]] - base)
    points = root + mesh.taper[part][:, None] * (points - root) + offset
    return jnp.where(part < 0, posed.joints[0], points)

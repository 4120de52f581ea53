"""Joint angles and lengths of a hand from its 21 keypoints in space: pure, batched, differentiable.

Every angle is that between two successive bones, split in the frame of the joint: flexion bends towards the palm,
abduction goes across. Fingers' axes start from the palm's and are carried along the finger, joint by joint.
"""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from handjax.hand.angles import palm_frame
from handjax.hand.topology import FINGERS, FLEXION_DIRECTIONS, KEYPOINT_NAMES, OPENPOSE_TO_MANO

ANGLE_NAMES = tuple(KEYPOINT_NAMES[4 * finger + k].replace("_", " ") for finger in range(5) for k in (1, 2, 3))
"""The joints between each finger's bones, thumb to little, from the palm outwards (DECISIONS E3)."""

BONE_NAMES = tuple(f"{finger} bone {k}" for finger in FINGERS for k in (1, 2, 3, 4))
"""The first of each finger is in the palm."""

# Where a finger's tip goes when its first joint bends: the tables' joints 1, 4, 7, 10 and 13 are each finger's first.
_BENDING = FLEXION_DIRECTIONS[[13, 1, 4, 10, 7]]


@struct.dataclass
class HandFeatures:
    """What is measured of a hand.

    Args:
        flexion: of the joints of `ANGLE_NAMES`, radians; negative is hyperextension.
        abduction: of the same joints, radians; positive is towards the thumb.
        digit_ratios: length of each finger's chain from its knuckle to the tip, over that of the palm (wrist to middle
            knuckle), thumb to little.
        bone_ratios: length of each bone of `BONE_NAMES` over that of the palm.
    """

    flexion: Float[Array, "*batch 15"]
    abduction: Float[Array, "*batch 15"]
    digit_ratios: Float[Array, "*batch 5"]
    bone_ratios: Float[Array, "*batch 20"]


def measure(world: Float[Array, "21 3"], right: Bool[Array, ""]) -> HandFeatures:
    """Measures one hand; batch it with `jax.vmap`.

    Args:
        world: keypoints in any unit, camera axes, OpenPose order. Pixels with a guessed depth give false angles.
        right: whether it is a right hand.

    Source:
        HandAnat section 3.1, stage 2; DECISIONS E3.
    """
    points = world * jnp.where(right, 1.0, jnp.array([-1.0, 1.0, 1.0]))  # a left hand is a mirrored right one
    chains = jnp.concatenate([jnp.tile(points[:1], (5, 1))[:, None], points[1:].reshape(5, 4, 3)], axis=1)
    bones = jnp.diff(chains, axis=1)
    lengths = jnp.sqrt(jnp.sum(bones**2, axis=-1) + 1e-12)
    flexion, abduction = _bends(bones / lengths[..., None], palm_frame(points[OPENPOSE_TO_MANO][:16]))
    palm = lengths[2, 0]
    return HandFeatures(
        flexion=flexion.reshape(15),
        abduction=abduction.reshape(15),
        digit_ratios=lengths[:, 1:].sum(axis=1) / palm,
        bone_ratios=lengths.reshape(20) / palm,
    )


def _bends(bones: Float[Array, "5 4 3"], palm: Float[Array, "3 3"]) -> tuple[Float[Array, "5 3"], Float[Array, "5 3"]]:
    """Flexion and abduction between successive unit bones."""
    axis = jnp.cross(bones[:, 0], jnp.asarray(_BENDING, jnp.float32) @ palm.T)
    flexion, abduction = [], []
    for joint in range(3):
        parent, child = bones[:, joint], bones[:, joint + 1]
        axis = axis - _dot(axis, parent) * parent
        axis = axis / jnp.sqrt(_dot(axis, axis) + 1e-12)
        forward, inward, across = (_dot(child, a)[:, 0] for a in (parent, jnp.cross(axis, parent), axis))
        flexion.append(jnp.arctan2(inward, forward))
        abduction.append(jnp.arctan2(across, jnp.hypot(forward, inward)))
    return jnp.stack(flexion, axis=1), jnp.stack(abduction, axis=1)


def _dot(a: Float[Array, "*batch 3"], b: Float[Array, "*batch 3"]) -> Float[Array, "*batch 1"]:
    return jnp.sum(a * b, axis=-1, keepdims=True)


def projection_misfit(world: Float[np.ndarray, "21 3"], keypoints: Float[np.ndarray, "21 dims"]) -> float:
    """How far a hand's keypoints in space, seen from afar, are from those in the picture.

    Args:
      world: camera axes, any unit.
      keypoints: x and y in pixels; further columns are not read.

    Returns:
      Root mean square over the best scale and place, in longer sides of the box of `keypoints`.
    """
    seen, given = (points[:, :2] - points[:, :2].mean(axis=0) for points in (keypoints, world))
    scale = (seen * given).sum() / max((given**2).sum(), 1e-12)
    box = max(np.ptp(seen, axis=0).max(), 1e-12)
    return float(np.sqrt(((seen - scale * given) ** 2).sum(axis=1).mean()) / box)


def hand_frame_is_defined(world: Float[np.ndarray, "21 3"]) -> bool:
    """Whether keypoints are finite and span a palm, so that angles mean something."""
    palm = world[[0, 5, 17]]
    area = np.linalg.norm(np.cross(palm[1] - palm[0], palm[2] - palm[0]))
    return bool(np.isfinite(world).all() and area > 1e-3 * np.sum((palm[1] - palm[0]) ** 2))

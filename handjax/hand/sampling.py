"""Random poses that a living hand can take, for rendered hands."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from handjax.hand.angles import pose_from_angles
from handjax.hand.model import HandModel
from handjax.hand.rotations import matrix_to_axis_angle, six_d_to_matrix
from handjax.hand.topology import FINGERS, JOINT_LIMITS, MANO_JOINT_NAMES

_MCP, _PIP, _DIP = (
    jnp.array([MANO_JOINT_NAMES.index(f"{finger}_{part}") for finger in FINGERS[1:]]) for part in ("mcp", "pip", "dip")
)
_CMC, _THUMB_MCP, _IP = 13, 14, 15
# abduction of straight fingers, index to little, fanned out and side by side
_SPREAD, _TOGETHER = jnp.radians(jnp.array([[12.0, 1.0, -8.0, -14.0], [-16.0, -1.0, 9.0, 16.0]]))


def sample_angles(key: PRNGKeyArray, curl: Float[Array, "4"] | None = None) -> Float[Array, "16 3"]:
    """Random joint angles within the limits of motion; the wrist's are zero.

    Half of the hands curl all fingers alike, half make gestures in which each finger is open or closed. Bent fingers
    close ranks, the last joint follows the middle one, the thumb opposes more the more the hand is closed, and a fist
    closes no further than its fingertips reach the palm.

    Args:
        key: random key.
        curl: how far index to little finger are closed, 0 open, 1 a fist; None draws it.

    Returns:
        Flexion, abduction and twist of each joint in MANO's order, radians.

    Source: the coupling of the last joints and the loss of abduction in flexion: Lin, Wu and Huang, "Modeling the
        Constraints of Human Hand Motion", 2000.
    """
    keys = jax.random.split(key, 8)
    if curl is None:
        alike = jax.random.uniform(keys[0]) + 0.1 * jax.random.normal(keys[1], (4,))
        gesture = jax.random.beta(keys[2], 0.4, 0.4, (4,))
        curl = jnp.where(jax.random.bernoulli(keys[3]), gesture, alike)
    knuckle, middle, last = (curl + 0.07 * jax.random.normal(keys[4], (3, 4))).clip(0, 1)
    spread = jax.random.uniform(keys[5])
    opposition = (0.2 + 0.6 * curl.mean() + 0.3 * jax.random.normal(keys[6], (3,))).clip(0, 1)
    wiggle = jnp.radians(2.0) * jax.random.normal(keys[7], (4,))

    angles = jnp.zeros((16, 3))
    angles = angles.at[_MCP, 0].set(jnp.radians(-12 + 91 * knuckle))
    angles = angles.at[_MCP, 1].set((1 - knuckle) * (spread * _SPREAD + (1 - spread) * _TOGETHER) + wiggle)
    angles = angles.at[_PIP, 0].set(jnp.radians(96 * middle))
    angles = angles.at[_DIP, 0].set(jnp.radians(46 * (0.8 * middle + 0.2 * last)))
    base, knuckle, last = opposition
    angles = angles.at[_CMC].set(jnp.radians(jnp.array([-15 + 42 * base, 11 * base, 5 - 10 * base])))
    angles = angles.at[_THUMB_MCP, 0].set(jnp.radians(-5 + 52 * knuckle))
    angles = angles.at[_IP, 0].set(jnp.radians(-12 + 62 * last))
    return angles.clip(*jnp.moveaxis(jnp.asarray(JOINT_LIMITS), -1, 0))


def sample_pose(key: PRNGKeyArray, model: HandModel) -> Float[Array, "16 3"]:
    """Random pose within the limits of motion; the whole hand is not turned.

    Args:
        key: random key.
        model: the hand whose axes are meant.

    Returns:
        Axis-angle pose for `pose_hand`, radians; its first row is zero.
    """
    return pose_from_angles(model, sample_angles(key))


def sample_orientation(key: PRNGKeyArray) -> Float[Array, "3"]:
    """Random rotation of the whole hand, uniform over all orientations, as axis-angle in radians."""
    # Gram-Schmidt of Gaussian vectors has no preferred direction
    return matrix_to_axis_angle(six_d_to_matrix(jax.random.normal(key, (6,))))

"""Hands of a batch, posed at the origin, and drawn."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.hand.draw import draw_skeleton
from handjax.hand.model import HandModel, PosedHand, pose_hand_matrices

DRAWN_PIXELS, DRAWN_METRES = 96, 0.3


def pose_hands(hand: HandModel, rotations: Float[Array, "batch 16 3 3"], betas: Float[Array, "batch S"]) -> PosedHand:
    """`pose_hand_matrices` of a batch without translation."""
    return jax.vmap(lambda turns, shape: pose_hand_matrices(hand, turns, shape, jnp.zeros(3)))(rotations, betas)


def draw_poses(hand: HandModel, rotations: Float[Array, "batch 16 3 3"]) -> Float[Array, "batch side side 3"]:
    """Skeletons of hands of mean shape, wrists in the middle, RGB in [0, 1]."""
    points = pose_hands(hand, rotations, jnp.zeros((len(rotations), hand.shapedirs.shape[-1]))).keypoints
    pixels = (points - points[:, :1])[..., :2] / DRAWN_METRES * DRAWN_PIXELS + DRAWN_PIXELS / 2
    return jax.vmap(lambda places: draw_skeleton(places, DRAWN_PIXELS, DRAWN_PIXELS))(pixels)

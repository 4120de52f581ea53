"""Hands of a batch, posed at the origin."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.hand.model import HandModel, PosedHand, pose_hand_matrices


def pose_hands(hand: HandModel, rotations: Float[Array, "batch 16 3 3"], betas: Float[Array, "batch S"]) -> PosedHand:
    """`pose_hand_matrices` of a batch without translation."""
    return jax.vmap(lambda turns, shape: pose_hand_matrices(hand, turns, shape, jnp.zeros(3)))(rotations, betas)

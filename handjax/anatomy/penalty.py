"""The differentiable side of HandAnat: how far a hand is from an anatomical one, smoothly (DECISIONS E5)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.anatomy.features import HandFeatures
from handjax.anatomy.limits import ANGLE_LIMITS, DIGIT_RATIOS
from handjax.anatomy.scores import RATIO_SCALE

SOFTNESS = 0.05
"""Radians over which the penalty of an angle sets in."""


def anatomy_penalty(features: HandFeatures) -> Float[Array, "*batch"]:
    """Mean soft violation of the angle limits plus the distance of the log length ratios: 0 is anatomical.

    Args:
        features: from `measure`.

    Source:
        HandAnat section 3.4, L_anat; DECISIONS E5.
    """
    lower, upper = jnp.asarray(ANGLE_LIMITS.T, jnp.float32)
    beyond = jax.nn.softplus(jnp.stack([features.flexion - upper, lower - features.flexion]) / SOFTNESS) * SOFTNESS
    ratios = jnp.abs(jnp.log(features.digit_ratios / jnp.asarray(DIGIT_RATIOS, jnp.float32)))
    return beyond.sum(axis=0).mean(axis=-1) + ratios.mean(axis=-1) / RATIO_SCALE

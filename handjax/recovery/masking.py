"""Which tokens are hidden: at random in training, by confidence while decoding (MMHMR sections 3.3, 3.4)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key


def draw_masks(rng: Key[Array, " batch"], length: int, most: float) -> Bool[Array, "batch L"]:
    """Hides ⌈γ(τ)·L⌉ random tokens of each example, γ(τ) = cos(πτ/2), τ uniform from 0 to `most` (DECISIONS F4)."""

    def draw(key):
        ratio_key, order_key = jax.random.split(key)
        ratio = jnp.cos(math.pi / 2 * jax.random.uniform(ratio_key, maxval=most))
        hidden = jnp.ceil(ratio * length)
        return jax.random.permutation(order_key, length) < hidden

    return jax.vmap(draw)(rng)


def masked_counts(iterations: int, length: int) -> Int[np.ndarray, " iterations"]:
    """How many tokens are hidden after each iteration, ⌊γ(t/T)·L⌋; none after the last (DECISIONS F5).

    On the host in float64, because float32 gives a cosine of π/2 below zero.
    """
    times = np.arange(1, iterations + 1) / iterations
    return np.maximum(0, np.floor(length * np.cos(np.pi / 2 * times))).astype(np.int32)


def hide_least_confident(
    confidence: Float[Array, "batch L"], known: Bool[Array, "batch L"], count: Int[Array, ""]
) -> Bool[Array, "batch L"]:
    """Which tokens are hidden again: the `count` least confident ones that were not kept before."""
    order = jnp.argsort(jnp.where(known, jnp.inf, confidence), axis=-1)
    return jnp.argsort(order, axis=-1) < count

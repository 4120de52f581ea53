"""Scaled dot-product attention: the one place where its implementation is chosen."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Scores that fit a core's cache: 1 MiB. Above it CPUs spend their time on moving the scores.
BLOCK_SCORES = 2**18


def attention(
    q: Float[Array, "batch queries heads dim"],
    k: Float[Array, "batch keys heads dim"],
    v: Float[Array, "batch keys heads dim"],
    bias: Float[Array, "#batch #heads #queries keys"] | None = None,
) -> Float[Array, "batch queries heads dim"]:
    """Computes softmax(q·kᵀ/√dim + bias)·v with the softmax in float32.

    Args:
        q: queries.
        k: keys.
        v: values.
        bias: added to the scores, broadcast over its axes of length 1.

    Returns:
        The attended values in the dtype of `v`.
    """
    batch, queries, heads, _ = q.shape
    if batch * heads * queries * k.shape[1] <= BLOCK_SCORES:
        return plain_attention(q, k, v, bias)
    # Only the branch of the platform that the program is lowered for is compiled.
    return jax.lax.platform_dependent(q, k, v, bias, cpu=blocked_attention, default=plain_attention)


def plain_attention(q, k, v, bias=None):
    """`attention` with all scores in memory."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores if bias is None else scores + bias)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)


def blocked_attention(q, k, v, bias=None):
    """`attention` one head and one block of queries at a time; scores are computed again for the gradient."""
    batch, queries, heads, dim = q.shape
    keys = k.shape[1]
    bias = jnp.zeros((1, 1, 1, keys)) if bias is None else bias
    bias = jnp.broadcast_to(bias, (batch, heads, bias.shape[2], keys)).reshape(batch * heads, -1, keys)
    q, k, v = (a.swapaxes(1, 2).reshape(batch * heads, -1, dim) for a in (q * dim**-0.5, k, v))
    rows = max(n for n in range(1, queries + 1) if queries % n == 0 and n * keys <= max(BLOCK_SCORES, keys))

    @jax.checkpoint
    def block(q, k, v, bias):
        weights = jax.nn.softmax(jnp.dot(q, k.T, preferred_element_type=jnp.float32) + bias)
        return weights.astype(v.dtype) @ v

    def head(arrays):
        q, k, v, bias = arrays
        if rows == queries:
            return block(q, k, v, bias)
        if len(bias) == 1:
            return jax.lax.map(lambda q: block(q, k, v, bias), q.reshape(-1, rows, dim))
        blocks = (q.reshape(-1, rows, dim), bias.reshape(-1, rows, keys))
        return jax.lax.map(lambda a: block(a[0], k, v, a[1]), blocks)

    out = jax.lax.map(head, (q, k, v, bias))
    return out.reshape(batch, heads, queries, dim).swapaxes(1, 2)

"""Scaled dot-product attention: the one place where its implementation is chosen."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Scores of a batch element and head that fit a core's cache; above it they are computed a block of rows at a time.
PLAIN_SCORES = 1024 * 1024
QUERY_BLOCK = 256


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
        The attended values in the dtype of `v`. Long sequences never hold all scores at once.
    """
    queries, keys = q.shape[1], k.shape[1]
    if queries * keys <= PLAIN_SCORES or queries % QUERY_BLOCK:
        return plain_attention(q, k, v, bias)
    return chunked_attention(q, k, v, bias)


def plain_attention(q, k, v, bias=None):
    """`attention` with all scores in memory."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores if bias is None else scores + bias)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)


def chunked_attention(q, k, v, bias=None):
    """`attention` a head and a block of queries at a time, scores recomputed for the gradient."""
    batch, queries, heads, dim = q.shape
    bias = jnp.zeros((1, 1, 1, 1), jnp.float32) if bias is None else bias
    bias = jnp.broadcast_to(bias, (*bias.shape[:2], queries, k.shape[1])) if bias.shape[2] > 1 else bias

    @jax.checkpoint
    def block(index):
        sample, head, start = index
        rows = jax.lax.dynamic_slice(q, (sample, start, head, 0), (1, QUERY_BLOCK, 1, dim))
        columns = (jax.lax.dynamic_slice(a, (sample, 0, head, 0), (1, a.shape[1], 1, dim)) for a in (k, v))
        return plain_attention(rows, *columns, bias_of(sample, head, start))[0, :, 0]

    def bias_of(sample, head, start):
        at = [i if n > 1 else 0 for i, n in zip((sample, head, start), bias.shape[:3], strict=True)]
        size = (1, 1, QUERY_BLOCK if bias.shape[2] > 1 else 1, bias.shape[3])
        return jax.lax.dynamic_slice(bias, (*at, 0), size)

    grid = jnp.meshgrid(*(jnp.arange(n) for n in (batch, heads, queries // QUERY_BLOCK)), indexing="ij")
    sample, head, chunk = (axis.reshape(-1) for axis in grid)
    out = jax.lax.map(block, (sample, head, chunk * QUERY_BLOCK))
    return out.reshape(batch, heads, queries, dim).swapaxes(1, 2)

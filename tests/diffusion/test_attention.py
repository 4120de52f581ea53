"""The implementations behind the attention dispatcher agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.attention import QUERY_BLOCK, attention, chunked_attention, plain_attention


def draw(queries, keys, dtype=jnp.float32):
    rngs = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(r, (2, n, 3, 8), dtype) for r, n in zip(rngs, (queries, keys, keys), strict=True)]


def test_against_the_definition():
    q, k, v = (np.asarray(a, np.float64) for a in draw(5, 7))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(8)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(attention(*draw(5, 7)), np.einsum("bhqk,bkhd->bqhd", weights, v), atol=1e-6)


@pytest.mark.parametrize("shape", [None, (1, 1, 1, 40), (2, 3, 2 * QUERY_BLOCK, 40)])
def test_chunked_equals_plain(shape):
    arrays = draw(2 * QUERY_BLOCK, 40)
    bias = None if shape is None else jax.random.normal(jax.random.key(1), shape)

    def loss(implementation, q, k, v):
        return jnp.sin(implementation(q, k, v, bias)).sum()

    np.testing.assert_allclose(chunked_attention(*arrays, bias), plain_attention(*arrays, bias), atol=1e-5)
    ours, plain = (jax.grad(loss, argnums=(1, 2, 3))(f, *arrays) for f in (chunked_attention, plain_attention))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, plain)


def test_long_sequences_never_hold_all_scores():
    tokens = 16 * QUERY_BLOCK
    arrays = [jax.ShapeDtypeStruct((1, tokens, 8, 40), jnp.float32)] * 3
    temporary = jax.jit(attention).lower(*arrays).compile().memory_analysis().temp_size_in_bytes
    assert temporary < 8 * tokens * tokens * 4 / 8


def test_softmax_is_float32_for_bfloat16():
    q, k, v = draw(6, 300, jnp.bfloat16)
    exact = attention(*(a.astype(jnp.float32) for a in (q, k, v)))
    got = attention(q, k, v)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), exact, atol=5e-3)

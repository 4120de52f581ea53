"""The implementations behind the attention dispatcher agree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.diffusion.attention import (
    ACCELERATOR_BLOCK_SCORES,
    attention,
    blocked_attention,
    implementations,
    plain_attention,
    plain_attention_everywhere,
)
from handjax.diffusion.splash import splash_attention

CPU = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])


def draw(queries, keys, dtype=jnp.float32):
    rngs = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(r, (2, n, 3, 8), dtype) for r, n in zip(rngs, (queries, keys, keys), strict=True)]


def test_against_the_definition():
    q, k, v = (np.asarray(a, np.float64) for a in draw(5, 7))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(8)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(attention(*draw(5, 7)), np.einsum("bhqk,bkhd->bqhd", weights, v), atol=1e-6)


# One block a head, several, and a prime number that no blocks divide.
@pytest.mark.parametrize("tokens", [50, 1200, 7001])
@pytest.mark.parametrize("bias_shape", [None, (1, 1, 1), (2, 3, None)], ids=["plain", "keys", "full"])
def test_blocked_equals_plain(tokens, bias_shape):
    arrays = draw(tokens, 600)
    bias = None
    if bias_shape is not None:
        bias = jax.random.normal(jax.random.key(1), (*bias_shape[:2], bias_shape[2] or tokens, 600))

    @functools.partial(jax.jit, static_argnums=0)
    def output_and_gradient(implementation, q, k, v):
        out, pull = jax.vjp(lambda *qkv: implementation(*qkv, bias), q, k, v)
        return out, pull(jnp.cos(out))

    ours, plain = (output_and_gradient(f, *arrays) for f in (blocked_attention, plain_attention))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, plain)


def test_blocks_are_few_where_nothing_divides_the_queries():
    """7001 is prime: with 16 keys a block, 14 blocks of 501 rows serve it, not 7001 of one."""
    arrays = [jax.ShapeDtypeStruct((1, tokens, 1, 8), jnp.float32) for tokens in (7001, 16, 16)]
    program = jax.make_jaxpr(functools.partial(blocked_attention, block_scores=2**13))(*arrays)
    assert "[14,501,8]" in str(program)


def test_cpus_never_hold_all_scores():
    tokens = 4096
    arrays = [jax.ShapeDtypeStruct((1, tokens, 8, 40), jnp.float32, sharding=CPU)] * 3

    def temporary(function):
        return jax.jit(function).lower(*arrays).compile().memory_analysis().temp_size_in_bytes

    all_scores = 8 * tokens * tokens * 4
    assert temporary(attention) < all_scores / 8
    gradient = jax.grad(lambda q, k, v: attention(q, k, v).sum(), argnums=(0, 1, 2))
    assert temporary(gradient) < all_scores / 8


def test_softmax_is_float32_for_bfloat16():
    q, k, v = draw(6, 300, jnp.bfloat16)
    exact = attention(*(a.astype(jnp.float32) for a in (q, k, v)))
    got = attention(q, k, v)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.astype(jnp.float32), exact, atol=5e-3)


@pytest.mark.parametrize(("queries", "keys"), [(256, 256), (128, 384)])
def test_splash_equals_plain(queries, keys):
    arrays = draw(queries, keys)

    @functools.partial(jax.jit, static_argnums=0)
    def output_and_gradient(implementation, q, k, v):
        out, pull = jax.vjp(implementation, q, k, v)
        return out, pull(jnp.cos(out))

    splash = functools.partial(splash_attention, interpret=True)
    ours, plain = (output_and_gradient(f, *arrays) for f in (splash, plain_attention))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, plain)


def lowered(platform, queries, keys, dtype, dim=40):
    q, k = (jax.ShapeDtypeStruct((2, tokens, 8, dim), dtype) for tokens in (queries, keys))
    return jax.export.export(jax.jit(attention), platforms=[platform])(q, k, k).mlir_module()


@pytest.mark.parametrize(
    ("queries", "keys", "splash"),
    [
        (4096, 4096, True),
        (9216, 9216, True),
        (4096, 77, False),
        (1024, 1024, True),
        (256, 256, False),
        (2304, 77, False),
    ],
)
def test_tpus_run_splash_where_lengths_fit(queries, keys, splash):
    assert ("tpu_custom_call" in lowered("tpu", queries, keys, jnp.bfloat16)) == splash
    assert "tpu_custom_call" not in lowered("cuda", queries, keys, jnp.bfloat16)


@pytest.mark.parametrize(
    ("dtype", "keys", "dim", "biased", "cudnn"),
    [
        (jnp.bfloat16, 4096, 40, False, True),
        (jnp.float16, 4096, 128, False, True),
        (jnp.bfloat16, 4096, 160, False, False),
        (jnp.bfloat16, 4096, 36, False, False),
        (jnp.float32, 4096, 40, False, False),
        (jnp.bfloat16, 4096, 40, True, False),
        (jnp.bfloat16, 154, 40, False, True),
        (jnp.bfloat16, 77, 40, False, False),
    ],
)
def test_gpus_run_cudnn_in_half_precision(dtype, keys, dim, biased, cudnn, monkeypatch):
    q, k = (jax.ShapeDtypeStruct((1, tokens, 8, dim), dtype) for tokens in (4096, keys))
    bias = jax.ShapeDtypeStruct((1, 1, 4096, keys), jnp.float32) if biased else None
    assert "cuda" not in implementations(q, k, bias)
    monkeypatch.setattr("handjax.diffusion.attention.has_cuda", lambda: True)
    assert ("cuda" in implementations(q, k, bias)) == cudnn


def test_accelerators_never_hold_more_scores_than_the_bound():
    few, many = (jax.ShapeDtypeStruct((1, tokens, 1, 512), jnp.float32) for tokens in (4096, 65536))
    assert implementations(few, few, None)["default"] is plain_attention
    assert implementations(many, many, None)["default"].keywords == {"block_scores": ACCELERATOR_BLOCK_SCORES}


def test_plainly_traced_attention_has_no_loop_and_all_its_operations():
    q, k = (jax.ShapeDtypeStruct((2, 2048, 4, 16), jnp.float32) for _ in range(2))

    def cost():
        lowered = jax.jit(lambda q, k: attention(q, k, k)).trace(q, k).lower(lowering_platforms=("cpu",))
        return "while" in lowered.as_text(), lowered.cost_analysis()["flops"]

    with plain_attention_everywhere():
        looped, flops = cost()
    assert not looped
    # two products over all pairs of tokens; the softmax adds some operations a pair
    products = 2 * 2 * 2 * 4 * 2048**2 * 16
    assert products < flops < 1.2 * products
    assert cost()[0]

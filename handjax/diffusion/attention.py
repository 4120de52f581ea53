"""Scaled dot-product attention: the one place where its implementation is chosen.

CPU    one head and one block of queries after the other
TPU    splash attention where lengths fit its blocks
GPU    cuDNN's flash attention for half precision
else   all scores at once, in blocks when they would fill the memory
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.backend import get_backend
from jaxtyping import Array, Float

from handjax.diffusion.mesh import batch_a_device
from handjax.diffusion.splash import fits_splash, splash_attention

# Scores that need no blocks anywhere.
FEW_SCORES = 2**16
# Scores of a block on CPUs: 8 MiB. Smaller blocks pay more for their start than they gain by staying in cache.
BLOCK_SCORES = 2**21
# Scores that an accelerator may hold at once: 1 GiB, and a quarter of it as a block.
MOST_SCORES = 2**28
ACCELERATOR_BLOCK_SCORES = 2**26
# Later GPUs than Ampere take up to 256; no long sequence of Stable Diffusion needs it.
CUDNN_MOST_DIM = 128

_plainly = contextvars.ContextVar("_plainly", default=False)


@contextlib.contextmanager
def plain_attention_everywhere() -> Iterator[None]:
    """Within it `attention`, and what else asks `is_plain`, is traced without loops and kernels, so that operations can
    be counted.

    The compiler's count knows nothing of kernels, and takes the body of a loop for one run of it.
    """
    before = _plainly.set(True)
    try:
        yield
    finally:
        _plainly.reset(before)


def is_plain() -> bool:
    """Whether `plain_attention_everywhere` is in force."""
    return _plainly.get()


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
    if is_plain() or batch * heads * queries * k.shape[1] <= FEW_SCORES:
        return plain_attention(q, k, v, bias)
    # Only the branch of the platform that the program is lowered for is compiled.
    return jax.lax.platform_dependent(q, k, v, bias, **implementations(q, k, bias))


def implementations(q: Any, k: Any, bias: Any) -> dict[str, Callable[..., Array]]:
    """What computes `attention` of many scores, by platform; "default" for those not named.

    Args:
        q: queries, or anything of their shape and dtype.
        k: keys, likewise.
        bias: None without.
    """
    batch, queries, heads, _ = q.shape
    batch = batch_a_device(batch)
    in_blocks = functools.partial(blocked_attention, block_scores=ACCELERATOR_BLOCK_SCORES)
    many = batch * heads * queries * k.shape[1] > MOST_SCORES
    chosen: dict[str, Callable[..., Any]] = {
        "cpu": blocked_attention,
        "default": in_blocks if many else plain_attention,
    }
    if bias is None and fits_splash(queries, k.shape[1]):
        chosen["tpu"] = lambda q, k, v, bias: splash_attention(q, k, v)
    if bias is None and fits_cudnn(q, k) and has_cuda():
        chosen["cuda"] = lambda q, k, v, bias: jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    return chosen


def fits_cudnn(q: Any, k: Any) -> bool:
    """Whether cuDNN's flash attention takes this dtype and head dimension on every GPU since Ampere.

    Its gradient needs even lengths; the 77 words of a prompt make few scores anyway.
    """
    queries, dim, keys = q.shape[1], q.shape[-1], k.shape[1]
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    return half and dim <= CUDNN_MOST_DIM and dim % 8 == 0 and queries % 2 == 0 and keys % 2 == 0


def has_cuda() -> bool:
    """Whether this machine has cuDNN: JAX looks for it when it traces the call, whatever it is then lowered for."""
    return "cuda" in get_backend().platform_version


def plain_attention(q, k, v, bias=None):
    """`attention` with all scores in memory."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(scores if bias is None else scores + bias)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(v.dtype), v)


def blocked_attention(q, k, v, bias=None, block_scores=BLOCK_SCORES):
    """`attention` one head and one block of queries at a time; scores are computed again for the gradient.

    The values get a column of ones, so that the product that sums them also sums the weights they are divided by.
    """
    batch, queries, heads, dim = q.shape
    keys = k.shape[1]
    bias = jnp.zeros((1, 1, 1, keys)) if bias is None else bias
    bias = jnp.broadcast_to(bias, (batch, heads, bias.shape[2], keys)).reshape(batch * heads, -1, keys)
    v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
    q, k, v = (a.swapaxes(1, 2).reshape(batch * heads, a.shape[1], -1) for a in (q * dim**-0.5, k, v))
    blocks = min(-(-queries * keys // block_scores), queries)
    rows = -(-queries // blocks)
    q = jnp.pad(q, ((0, 0), (0, blocks * rows - queries), (0, 0)))
    if bias.shape[1] > 1:
        bias = jnp.pad(bias, ((0, 0), (0, blocks * rows - queries), (0, 0)))

    @jax.checkpoint
    def block(q, k, v, bias):
        scores = jnp.dot(q, k.T, preferred_element_type=jnp.float32) + bias
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
        sums = jnp.dot(weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
        return (sums[:, :-1] / sums[:, -1:]).astype(v.dtype)

    def head(arrays):
        q, k, v, bias = arrays
        if blocks == 1:
            return block(q, k, v, bias)
        if len(bias) == 1:
            return jax.lax.map(lambda q: block(q, k, v, bias), q.reshape(-1, rows, dim))
        pairs = (q.reshape(-1, rows, dim), bias.reshape(-1, rows, keys))
        return jax.lax.map(lambda pair: block(pair[0], k, v, pair[1]), pairs)

    out = jax.lax.map(head, (q, k, v, bias))
    return out.reshape(batch, heads, blocks * rows, -1)[:, :, :queries].swapaxes(1, 2)

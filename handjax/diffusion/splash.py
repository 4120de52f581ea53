"""Splash attention, the TPU's: the scores never lie in memory."""

from collections.abc import Callable

import jax
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array, Float

from handjax.diffusion.mesh import batch_and_heads

# Lengths are cut into blocks of a multiple of a TPU's 128 lanes.
LANES = 128
MOST_BLOCK = 512
# Below it the scores are small and XLA's own attention is as good.
LEAST_LENGTH = 1024


def fits_splash(queries: int, keys: int) -> bool:
    """Whether splash attention takes sequences of these lengths and pays: not the 77 words of a prompt.

    On several devices it also needs to be told how they share the batch: by `jax.set_mesh`, or by running in pmap or
    shard_map. The compiler does not cut kernels by itself.
    """
    told = jax.device_count() == 1 or not jax.sharding.get_abstract_mesh().empty
    return told and min(queries, keys) >= LEAST_LENGTH and queries % LANES == 0 and keys % LANES == 0


def splash_attention(
    q: Float[Array, "batch queries heads dim"],
    k: Float[Array, "batch keys heads dim"],
    v: Float[Array, "batch keys heads dim"],
    interpret: bool = False,
) -> Float[Array, "batch queries heads dim"]:
    """Computes softmax(q·kᵀ/√dim)·v on TPUs, batch and heads cut over the mesh that `jax.set_mesh` has set.

    Args:
        q: queries, `fits_splash` of them.
        k: keys.
        v: values.
        interpret: runs on any platform, slowly.
    """

    def on_one_device(q: Array, k: Array, v: Array) -> Array:
        by_head = (a.swapaxes(1, 2) for a in (q * q.shape[-1] ** -0.5, k, v))
        return jax.vmap(_kernel(q.shape[2], q.shape[1], k.shape[1], interpret))(*by_head).swapaxes(1, 2)

    if not jax.sharding.get_abstract_mesh().auto_axes:
        return on_one_device(q, k, v)
    cut = batch_and_heads(len(q), q.shape[2])
    # Kernels do not say over which axes their results vary, hence no check of it.
    return jax.shard_map(on_one_device, in_specs=cut, out_specs=cut, check_vma=False)(q, k, v)


def _kernel(heads: int, queries: int, keys: int, interpret: bool) -> Callable[..., Array]:
    q_block, k_block = _block(queries), _block(keys)
    blocks = splash.BlockSizes(
        block_q=q_block,
        block_kv=k_block,
        block_kv_compute=k_block,
        block_q_dkv=q_block,
        block_kv_dkv=k_block,
        block_kv_dkv_compute=k_block,
        block_q_dq=q_block,
        block_kv_dq=k_block,
    )
    mask = splash.MultiHeadMask([splash.FullMask((queries, keys))] * heads)
    return splash.make_splash_mha_single_device(mask, block_sizes=blocks, interpret=interpret)


def _block(length: int) -> int:
    """The longest block that divides a length."""
    return max(n for n in range(LANES, MOST_BLOCK + 1, LANES) if length % n == 0)

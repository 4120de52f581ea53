"""Hierarchical structural fusion (SesaHand): a control branch's own self-attention refines what it gives to the UNet.

The map of a 64x64 layer has 16.8 million entries a head, so it is pooled a block of queries at a time and never whole.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def pooled_self_attention(
    q: Float[Array, "batch tokens heads dim"], k: Float[Array, "batch tokens heads dim"], side: int, pooled_side: int
) -> Float[Array, "batch cells cells"]:
    """The mean over heads of a layer's self-attention, pooled by maximum over blocks of queries and of keys.

    Args:
        q: queries of a square map, row by row.
        k: keys likewise.
        side: of the map, whose tokens are side².
        pooled_side: divides `side`; the result has pooled_side² rows and columns.

    Returns:
        Float32; row q and column k are the most that any query in cell q gives to any key in cell k.

    Source:
        SesaHand, M(ψ_r) of the second equation; DECISIONS D1-D3.
    """
    batch, tokens, heads, dim = q.shape
    if tokens != side**2 or side % pooled_side:
        raise ValueError(f"{tokens} tokens are no map of {side}x{side} cells that {pooled_side} divides")
    blocks = _by_block(q * dim**-0.5, side, pooled_side)  # cells, batch, queries in a cell, heads, dim
    keys = _by_block(k, side, pooled_side)

    def row(queries: Float[Array, "batch inner heads dim"]) -> Float[Array, "batch cells"]:
        scores = jnp.einsum("bihd,cbjhd->bhicj", queries, keys, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores.reshape(*scores.shape[:3], -1)).reshape(scores.shape)
        return weights.mean(axis=1).max(axis=(1, 3))

    return jax.lax.map(jax.checkpoint(row), blocks).swapaxes(0, 1)


def _by_block(tokens, side: int, pooled_side: int):
    batch, _, heads, dim = tokens.shape
    inner = side // pooled_side
    grid = tokens.reshape(batch, pooled_side, inner, pooled_side, inner, heads, dim)
    return grid.transpose(1, 3, 0, 2, 4, 5, 6).reshape(pooled_side**2, batch, inner**2, heads, dim)


def fuse_maps(maps: dict[int, list[Float[Array, "batch cells cells"]]]) -> Float[Array, "batch cells cells"]:
    """Joins pooled maps of all layers into one.

    Args:
        maps: resolution before pooling → the pooled map of each of its layers.

    Returns:
        Their mean over the layers of a resolution, summed over the resolutions, with rows that sum to 1.

    Source:
        SesaHand, second equation; DECISIONS D2.
    """
    total = jnp.stack([jnp.stack(layers).mean(axis=0) for layers in maps.values()]).sum(axis=0)
    return total / total.sum(axis=-1, keepdims=True)


def refine_features(
    features: Float[Array, "batch height width channels"], fused: Float[Array, "batch cells cells"]
) -> Float[Array, "batch height width channels"]:
    """What each cell gathers from all cells; a cell is a row of `fused`. Source: SesaHand, f'_c = f_c ⊗ ψ'; D2."""
    tokens = features.reshape(len(features), -1, features.shape[-1])
    gathered = jnp.einsum("bqk,bkc->bqc", fused, tokens, preferred_element_type=jnp.float32)
    return gathered.astype(features.dtype).reshape(features.shape)

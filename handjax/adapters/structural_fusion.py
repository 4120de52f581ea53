"""Hierarchical structural fusion (SesaHand): a control branch's own self-attention refines what it gives to the UNet.

The map of a 64x64 layer has 16.8 million entries a head, so rows of cells are pooled, fused and used a block at a time,
one head after the other; neither a layer's map nor the fused one is ever whole.
"""

import functools
import math
from collections import Counter
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from handjax.diffusion.attention import is_plain

FORMS = ("none", "mid", "coarsest", "per_level")
QueriesKeys = tuple[Float[Array, "batch _tokens _heads _dim"], Float[Array, "batch _tokens _heads _dim"]]
"""Queries and keys of one layer's self-attention over a map, row by row."""
BLOCK_SCORES = 2**18
"""Scores of a layer's head that CPUs work on at once, if a row of cells has no more: 1 MiB stays in cache."""
ACCELERATOR_BLOCK_SCORES = 2**26
"""The same of others: 256 MiB."""


def fuse_outputs(
    outputs: Sequence[Float[Array, "batch _h _w _c"]], layers: Sequence[QueriesKeys], form: str
) -> list[Float[Array, "batch _h _w _c"]]:
    """Refines what a control branch gives to the UNet, before its zero convolutions.

    Args:
        outputs: feature maps from the finest to the mid block's.
        layers: all self-attention of the branch.
        form: of `FORMS`. "mid" refines the mid block's output by maps of its size, as the paper is read; "coarsest" all
            outputs of that size; "per_level" every output by maps of its own size; "none" none.

    Source:
        SesaHand, second equation and f'_c = f_c ⊗ ψ'; DECISIONS D1.
    """
    refined, last = list(outputs), len(outputs) - 1
    sizes = [output.shape[1:3] for output in outputs]
    chosen = {
        "none": [],
        "mid": [last],
        "coarsest": [place for place, size in enumerate(sizes) if size == sizes[-1]],
        "per_level": list(range(len(outputs))),
    }[form]
    for size in sorted({sizes[place] for place in chosen}):
        places = [place for place in chosen if sizes[place] == size]
        widths = [outputs[place].shape[-1] for place in places]
        joined = refine_features(jnp.concatenate([outputs[place] for place in places], axis=-1), layers)
        parts = jnp.split(joined, [sum(widths[:n]) for n in range(1, len(widths))], axis=-1)
        for place, part in zip(places, parts, strict=True):
            refined[place] = part
    return refined


def refine_features(
    features: Float[Array, "batch height width channels"], layers: Sequence[QueriesKeys]
) -> Float[Array, "batch height width channels"]:
    """What each cell gathers from all cells by the fused self-attention ψ'.

    Of each layer's map, the mean over heads is brought to the cells of `features`: a finer one by its maximum over
    blocks of queries and of keys, a coarser one by giving each of a block's keys its share. ψ' is their mean over the
    layers of a resolution, summed over the resolutions, with rows that sum to 1.

    Args:
        features: of cells, each a row and a column of ψ'.
        layers: whose maps are some times as high and wide as `features`, or the other way round.

    Source:
        SesaHand, ψ' = Σ M(ψ_r) and f'_c = f_c ⊗ ψ'; DECISIONS D1-D3.
    """
    batch, height, width, channels = features.shape
    size, cells = (height, width), height * width
    alike = Counter(q.shape[1] for q, _ in layers)
    shares = [1 / alike[q.shape[1]] for q, _ in layers]
    queries, keys = [_by_cell(q, size) for q, _ in layers], [_in_blocks(k, size) for _, k in layers]
    tokens = features.reshape(batch, cells, channels)
    gather = functools.partial(_gather, shares=shares, size=size)
    if is_plain():
        gathered = jax.vmap(functools.partial(gather, together=cells))(queries, keys, tokens)
    else:
        scores_a_row = max(q.shape[2] * math.prod(k.shape[2:4]) for q, k in zip(queries, keys, strict=True))
        together = min(max(ACCELERATOR_BLOCK_SCORES // (batch * scores_a_row), 1), cells)
        in_cache = functools.partial(gather, together=min(max(BLOCK_SCORES // scores_a_row, 1), cells))
        # Only the branch of the platform that the program is lowered for is compiled.
        gathered = jax.lax.platform_dependent(
            queries,
            keys,
            tokens,
            cpu=lambda *arrays: jax.lax.map(lambda example: in_cache(*example), arrays),
            default=jax.vmap(functools.partial(gather, together=together)),
        )
    return gathered.astype(features.dtype).reshape(features.shape)


def _gather(
    queries: list[Float[Array, "cells _inner heads _dim"]],
    keys: list[Float[Array, "heads _blocks _within _dim"]],
    tokens: Float[Array, "cells channels"],
    *,
    shares: Sequence[float],
    size: tuple[int, int],
    together: int,
) -> Float[Array, "cells channels"]:
    """What every cell of an example gathers, so many rows of ψ' at a time; they are made again for the gradient."""

    @jax.checkpoint
    def row(queries: list[Float[Array, "_inner heads _dim"]]) -> Float[Array, " channels"]:
        parts = zip(queries, keys, shares, strict=True)
        fused = jnp.stack([share * _pooled_row(q, k, size) for q, k, share in parts]).sum(axis=0)
        return jnp.dot(fused / fused.sum(), tokens, preferred_element_type=jnp.float32)

    # of one row at a time no batch, which the compiler's products are slower with
    return jax.lax.map(row, queries, batch_size=together if together > 1 else None)


def _pooled_row(
    queries: Float[Array, "inner heads dim"],
    keys: Float[Array, "heads blocks within dim"],
    size: tuple[int, int],
) -> Float[Array, " cells"]:
    """The row of one cell in a layer's map, which is brought to cells of this height and width."""
    heads, blocks, within, dim = keys.shape

    @jax.checkpoint
    def add_head(mean, head):
        q, k = head
        scores = jnp.dot(k, q.T, preferred_element_type=jnp.float32)
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=0)))
        return mean + weights * (1 / (heads * weights.sum(axis=0))), None

    by_head = (queries * dim**-0.5).swapaxes(0, 1), keys.reshape(heads, blocks * within, dim)
    nothing = jnp.zeros((blocks * within, len(queries)), jnp.float32)
    mean, _ = jax.lax.scan(add_head, nothing, by_head, unroll=heads if is_plain() else 1)
    weights = mean.max(axis=1).reshape(blocks, within).max(axis=1)
    (height, width), outer = size, math.isqrt(math.prod(size) // blocks)
    grid = weights.reshape(height // outer, 1, width // outer, 1) / outer**2
    return jnp.broadcast_to(grid, (height // outer, outer, width // outer, outer)).ravel()


def _in_blocks(keys, size: tuple[int, int]):
    """Keys of a finer map by cell, heads first; those of a coarser one as they are, alone in their blocks."""
    if keys.shape[1] < math.prod(size):
        return keys.swapaxes(1, 2)[:, :, :, None]
    return _by_cell(keys, size).transpose(0, 3, 1, 2, 4)


def _by_cell(tokens, size: tuple[int, int]):
    """Tokens of each cell; of a coarser map, those of a block have the same token."""
    (batch, count, heads, dim), (height, width) = tokens.shape, size
    inner = max(math.isqrt(count // (height * width)), 1)
    outer = max(math.isqrt(height * width // count), 1)
    if count * outer**2 != height * width * inner**2 or height % outer or width % outer:
        raise ValueError(f"{count} tokens are no map some times as large as {height}x{width} cells, or as small")
    grid = tokens.reshape(batch, height * inner // outer, width * inner // outer, heads, dim)
    if outer > 1:
        grid = grid.repeat(outer, axis=1).repeat(outer, axis=2)
    cells = grid.reshape(batch, height, inner, width, inner, heads, dim)
    return cells.transpose(0, 1, 3, 2, 4, 5, 6).reshape(batch, height * width, inner**2, heads, dim)

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

from handjax.adapters.pooled_attention import Rows, pooled_rows, pooled_rows_gradient
from handjax.diffusion.attention import is_plain

FORMS = ("none", "mid", "coarsest", "per_level")
QueriesKeys = tuple[Float[Array, "batch _tokens _heads _dim"], Float[Array, "batch _tokens _heads _dim"]]
"""Queries and keys of one layer's self-attention over a map, row by row."""
BLOCK_SCORES = 2**20
"""Scores of a layer's head, or entries of rows, that CPUs work on at once if a row has no more: 4 MiB stay in cache."""
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
    shares = tuple(1 / alike[q.shape[1]] for q, _ in layers)
    queries, keys = [_by_cell(q, size) for q, _ in layers], [_in_blocks(k, size) for _, k in layers]
    tokens = features.reshape(batch, cells, channels)
    gather = functools.partial(_gather, shares=shares, size=size)
    if is_plain():
        gathered = jax.vmap(functools.partial(gather, together=cells))(queries, keys, tokens)
    else:
        scores_a_row = max(cells, *(q.shape[2] * math.prod(k.shape[2:4]) for q, k in zip(queries, keys, strict=True)))
        together = _divisor(cells, ACCELERATOR_BLOCK_SCORES // (batch * scores_a_row))
        in_cache = functools.partial(gather, together=_divisor(cells, BLOCK_SCORES // scores_a_row))
        # Only the branch of the platform that the program is lowered for is compiled.
        gathered = jax.lax.platform_dependent(
            queries,
            keys,
            tokens,
            cpu=lambda *arrays: jax.lax.map(lambda example: in_cache(*example), arrays),
            default=jax.vmap(functools.partial(gather, together=together)),
        )
    return gathered.astype(features.dtype).reshape(features.shape)


def _divisor(count: int, most: int) -> int:
    """The largest divisor of `count` that is not above `most`, or 1."""
    return max(n for n in range(1, count + 1) if count % n == 0 and n <= max(most, 1))


def _gather(
    queries: list[Float[Array, "cells _inner heads _dim"]],
    keys: list[Float[Array, "heads _blocks _within _dim"]],
    tokens: Float[Array, "cells channels"],
    *,
    shares: tuple[float, ...],
    size: tuple[int, int],
    together: int,
) -> Float[Array, "cells channels"]:
    """What every cell of an example gathers, so many rows of ψ' at a time."""
    scaled = [(q * q.shape[-1] ** -0.5).reshape(-1, together, *q.shape[1:]).transpose(0, 3, 1, 2, 4) for q in queries]
    return _gathered(scaled, keys, tokens, shares, size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _gathered(queries, keys, tokens, shares, size):
    return _forward(queries, keys, tokens, shares, size)[0]


def _forward(queries, keys, tokens, shares, size):
    """`_gathered` and what its gradient takes: no rows or scores, which are made again."""

    def rows(queries):
        entries, kept = zip(*map(pooled_rows, queries, keys), strict=True)
        fused = sum(share * _to_cells(each, size) for share, each in zip(shares, entries, strict=True))
        total = fused.sum(axis=-1, keepdims=True)
        return jnp.dot(fused / total, tokens, preferred_element_type=jnp.float32), (total, kept)

    gathered, kept = jax.lax.map(rows, queries)
    return gathered.reshape(len(tokens), -1), (queries, keys, tokens, gathered, *kept)


def _backward(shares, size, residuals, cotangent):
    queries, keys, tokens, gathered, totals, kept = residuals

    def rows(gradients, block):
        queries, gathered, total, kept, cotangent = block
        to_keys, to_tokens = gradients
        means = (cotangent * gathered).sum(axis=-1, keepdims=True)
        slopes = (jnp.dot(cotangent, tokens.T, preferred_element_type=jnp.float32) - means) / total
        fused, to_queries = 0, []
        for layer, (q, k, share) in enumerate(zip(queries, keys, shares, strict=True)):
            from_cells = _from_cells(share * slopes, size, k.shape[1])
            entries, to_q, to_k = pooled_rows_gradient(q, k, kept[layer], from_cells)
            fused += share * _to_cells(entries, size)
            to_queries.append(to_q)
            to_keys[layer] += to_k
        to_tokens += jnp.dot((fused / total).T, cotangent)
        return (to_keys, to_tokens), to_queries

    nothing = [jnp.zeros(k.shape, jnp.float32) for k in keys], jnp.zeros(tokens.shape, jnp.float32)
    blocks = queries, gathered, totals, kept, cotangent.reshape(gathered.shape)
    (to_keys, to_tokens), to_queries = jax.lax.scan(rows, nothing, blocks)
    gradients = to_queries, to_keys, to_tokens
    return jax.tree.map(lambda gradient, value: gradient.astype(value.dtype), gradients, (queries, keys, tokens))


# Otherwise rematerialisation would look inside `_forward` for what its policy keeps, and keep all scores.
_gathered.defvjp(_forward, _backward, optimize_remat=True)


def _to_cells(entries: Rows, size: tuple[int, int]) -> Float[Array, "rows cells"]:
    """Rows by cell: an entry of a coarser map is shared by its block of cells."""
    blocks, rows = entries.shape
    (height, width), outer = size, _outer(size, blocks)
    grid = entries.T.reshape(rows, height // outer, 1, width // outer, 1) / outer**2
    return jnp.broadcast_to(grid, (rows, height // outer, outer, width // outer, outer)).reshape(rows, -1)


def _from_cells(slopes: Float[Array, "rows cells"], size: tuple[int, int], blocks: int) -> Rows:
    """The transpose of `_to_cells`."""
    (height, width), outer = size, _outer(size, blocks)
    grid = slopes.reshape(-1, height // outer, outer, width // outer, outer)
    return grid.mean(axis=(2, 4)).reshape(-1, blocks).T


def _outer(size: tuple[int, int], blocks: int) -> int:
    """Cells in height, and in width, that each of a map's blocks of keys spans."""
    return math.isqrt(math.prod(size) // blocks)


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

"""Hierarchical structural fusion (SesaHand): a control branch's own self-attention refines what it gives to the UNet.

The map of a 64x64 layer has 16.8 million entries a head, so rows of cells are pooled, fused and used a block at a time;
neither a layer's map nor the fused one is ever whole.
"""

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
BLOCK_SCORES = 2**21
"""Scores of a layer that are worked on at once, if a row of cells has no more."""


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

    @jax.checkpoint
    def row(queries: list[Float[Array, "batch _inner _heads _dim"]]) -> Float[Array, "batch channels"]:
        parts = zip(queries, keys, shares, strict=True)
        fused = jnp.stack([share * _pooled_row(q, k, size) for q, k, share in parts]).sum(axis=0)
        fused /= fused.sum(axis=-1, keepdims=True)
        return jnp.einsum("bk,bkc->bc", fused, tokens, preferred_element_type=jnp.float32)

    scores_a_row = max(math.prod(q.shape[1:4]) * k.shape[1] for q, (_, k) in zip(queries, layers, strict=True))
    together = cells if is_plain() else max(1, BLOCK_SCORES // scores_a_row)
    gathered = jax.lax.map(row, queries, batch_size=min(together, cells))
    return gathered.swapaxes(0, 1).astype(features.dtype).reshape(features.shape)


def _pooled_row(
    queries: Float[Array, "batch inner heads dim"],
    keys: Float[Array, "batch blocks within heads dim"],
    size: tuple[int, int],
) -> Float[Array, "batch cells"]:
    """The row of one cell in a layer's map, which is brought to cells of this height and width."""
    scores = jnp.einsum(
        "bihd,bcjhd->bhicj", queries * queries.shape[-1] ** -0.5, keys, preferred_element_type=jnp.float32
    )
    weights = jax.nn.softmax(scores, axis=(-2, -1)).mean(axis=1).max(axis=(1, 3))
    (height, width), outer = size, math.isqrt(math.prod(size) // weights.shape[-1])
    grid = weights.reshape(-1, height // outer, 1, width // outer, 1) / outer**2
    wanted = (len(weights), height // outer, outer, width // outer, outer)
    return jnp.broadcast_to(grid, wanted).reshape(len(weights), height * width)


def _in_blocks(keys, size: tuple[int, int]):
    """Keys of a finer map by cell; those of a coarser one as they are, alone in their blocks."""
    return _by_cell(keys, size).swapaxes(0, 1) if keys.shape[1] >= math.prod(size) else keys[:, :, None]


def _by_cell(tokens, size: tuple[int, int]):
    """Tokens of each cell, cells first; of a coarser map, those of a block have the same token."""
    (batch, count, heads, dim), (height, width) = tokens.shape, size
    inner = max(math.isqrt(count // (height * width)), 1)
    outer = max(math.isqrt(height * width // count), 1)
    if count * outer**2 != height * width * inner**2 or height % outer or width % outer:
        raise ValueError(f"{count} tokens are no map some times as large as {height}x{width} cells, or as small")
    grid = tokens.reshape(batch, height * inner // outer, width * inner // outer, heads, dim)
    if outer > 1:
        grid = grid.repeat(outer, axis=1).repeat(outer, axis=2)
    cells = grid.reshape(batch, height, inner, width, inner, heads, dim)
    return cells.transpose(1, 3, 0, 2, 4, 5, 6).reshape(height * width, batch, inner**2, heads, dim)

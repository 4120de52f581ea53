"""Rows of a self-attention map that is pooled to cells, and their gradient, of some cells at a time.

A cell's row has an entry for every block of keys: the most that any query of the cell gives to any key of the block, by
the mean over heads. Only those maxima pass a gradient on. So with their places and the sums of each softmax kept, the
gradient makes the scores once more, not twice, and one head after the other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from handjax.diffusion.attention import is_plain

Queries = Float[Array, "heads rows inner dim"]
"""Scaled, of some cells, each a row."""
Keys = Float[Array, "heads blocks within dim"]
Rows = Float[Array, "blocks rows"]
"""Entries of some cells' rows."""


class Kept(NamedTuple):
    """What the gradient takes from the forward pass: logarithms of the softmaxes' sums, and for each entry of a finer
    map the place of its maximum within the block's keys and the cell's queries; None where there is only one place.
    """

    log_sums: Float[Array, "heads rows*inner"]
    places: Int[Array, "blocks rows"] | None


def pooled_rows(queries: Queries, keys: Keys) -> tuple[Rows, Kept]:
    """The rows of some cells, and what `pooled_rows_gradient` takes."""
    (heads, rows, inner, _), (_, blocks, within, _) = queries.shape, keys.shape

    def add_head(mean, head):
        q, k = head
        scores = _scores(q, k)
        most = scores.max(axis=0)
        weights = jnp.exp(scores - most)
        sums = weights.sum(axis=0)
        return mean + weights * (1 / (heads * sums)), most + jnp.log(sums)

    nothing = jnp.zeros((blocks * within, rows * inner), jnp.float32)
    mean, log_sums = jax.lax.scan(add_head, nothing, (queries, keys), unroll=_unroll(heads))
    mean = mean.reshape(blocks, within, rows, inner)
    if within * inner == 1:
        return mean.reshape(blocks, rows), Kept(log_sums, None)
    of_keys = mean.max(axis=3)
    key = of_keys.argmax(axis=1)
    query = mean[jnp.arange(blocks)[:, None], key, jnp.arange(rows)].argmax(axis=2)
    return of_keys.max(axis=1), Kept(log_sums, key * inner + query)


def pooled_rows_gradient(queries: Queries, keys: Keys, kept: Kept, slopes: Rows) -> tuple[Rows, Queries, Keys]:
    """The rows once more, and gradients of queries and keys.

    Args:
        queries: as those of `pooled_rows`.
        keys: likewise.
        kept: what that gave.
        slopes: the gradient of the rows.
    """
    (heads, rows, inner, dim), (_, blocks, within, _) = queries.shape, keys.shape
    slopes, places = slopes / heads, kept.places
    if places is None:
        spread = slopes
    else:
        columns = jnp.arange(rows) * inner + places % inner
        maxima = jnp.arange(blocks)[:, None] * within + places // inner, columns
        spread = jnp.zeros((blocks * within, rows * inner)).at[maxima].set(slopes)

    def of_head(entries, head):
        q, k, log_sums = head
        weights = jnp.exp(_scores(q, k) - log_sums)
        picked = weights if places is None else weights[maxima]
        products = picked * slopes
        means = products.sum(axis=0) if places is None else jnp.zeros(rows * inner).at[columns].add(products)
        to_scores = (weights * (spread - means)).astype(q.dtype)
        # transposed, as XLA's CPU backend is quicker so
        to_queries = jnp.dot(k.reshape(-1, dim).T, to_scores, preferred_element_type=jnp.float32)
        to_keys = jnp.dot(to_scores, q.reshape(-1, dim), preferred_element_type=jnp.float32)
        return entries + picked / heads, (to_queries, to_keys)

    of_heads = queries, keys, kept.log_sums
    entries, (to_queries, to_keys) = jax.lax.scan(of_head, jnp.zeros_like(slopes), of_heads, unroll=_unroll(heads))
    return entries, to_queries.swapaxes(1, 2).reshape(queries.shape), to_keys.reshape(keys.shape)


def _scores(q: Float[Array, "rows inner dim"], k: Float[Array, "blocks within dim"]) -> Float[Array, "keys queries"]:
    dim = q.shape[-1]
    return jnp.dot(k.reshape(-1, dim), q.reshape(-1, dim).T, preferred_element_type=jnp.float32)


def _unroll(heads: int) -> int:
    """Loops are not counted (`plain_attention_everywhere`)."""
    return heads if is_plain() else 1

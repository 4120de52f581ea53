"""Structural fusion against maps that are held whole, in NumPy and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.structural_fusion import fuse_maps, pooled_self_attention, refine_features

BATCH, HEADS, DIM = 2, 3, 4


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 2


def dense(q, k, side, pooled_side):
    """The whole map, then its maxima, cell by cell."""
    scores = np.einsum("bqhd,bkhd->bhqk", q.astype(np.float64), k) / np.sqrt(DIM)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mean = (weights / weights.sum(-1, keepdims=True)).mean(1)
    cell_of = [(t // side * pooled_side // side) * pooled_side + t % side * pooled_side // side for t in range(side**2)]
    result = np.zeros((len(q), pooled_side**2, pooled_side**2))
    for i, a in enumerate(cell_of):
        for j, b in enumerate(cell_of):
            result[:, a, b] = np.maximum(result[:, a, b], mean[:, i, j])
    return result


@pytest.mark.parametrize("side", [4, 8, 12])
def test_pooled_maps_are_maxima_of_the_whole_ones(side):
    q, k = draw(1, BATCH, side**2, HEADS, DIM), draw(2, BATCH, side**2, HEADS, DIM)
    got = jax.jit(pooled_self_attention, static_argnums=(2, 3))(q, k, side, 4)
    np.testing.assert_allclose(got, dense(q, k, side, 4), atol=1e-6)


def test_fused_features_are_the_dense_ones():
    layers = {4: 1, 8: 2}
    drawn = {
        side: [
            (draw(side + n, BATCH, side**2, HEADS, DIM), draw(side - n, BATCH, side**2, HEADS, DIM)) for n in range(m)
        ]
        for side, m in layers.items()
    }
    features = draw(7, BATCH, 4, 4, 6)

    @jax.jit
    def run(features, drawn):
        maps = {side: [pooled_self_attention(q, k, side, 4) for q, k in pairs] for side, pairs in drawn.items()}
        return refine_features(features, fuse_maps(maps))

    total = sum(np.mean([dense(q, k, side, 4) for q, k in pairs], axis=0) for side, pairs in drawn.items())
    weights = total / total.sum(-1, keepdims=True)
    expected = [
        [sum(w[q, k] * f.reshape(16, 6)[k] for k in range(16)) for q in range(16)]
        for w, f in zip(weights, features, strict=True)
    ]
    np.testing.assert_allclose(run(features, drawn), np.reshape(expected, (BATCH, 4, 4, 6)), atol=1e-5)


def test_no_map_of_all_queries_and_keys_is_ever_made():
    side = 32
    shape = jax.ShapeDtypeStruct((1, side**2, 2, 8), np.float32)
    program = jax.jit(pooled_self_attention, static_argnums=(2, 3)).lower(shape, shape, side, 8).compile()
    whole = 2 * side**4 * 4  # bytes of both heads' maps
    assert program.memory_analysis().temp_size_in_bytes < whole / 8


def test_a_map_that_does_not_fit_is_refused():
    q = jnp.asarray(draw(0, 1, 36, 1, 2))
    with pytest.raises(ValueError, match="36 tokens are no map of 6x6 cells that 4 divides"):
        pooled_self_attention(q, q, 6, 4)

"""Structural fusion against maps that are held whole, in NumPy and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters import structural_fusion
from handjax.adapters.structural_fusion import fuse_outputs, refine_features
from handjax.diffusion.attention import plain_attention_everywhere
from handjax.training.remat import recomputed
from tests.adapters.dense_fusion import dense_refined

BATCH, HEADS, DIM = 2, 3, 4


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 2


def layers_of(*sides):
    return [
        (draw(n, BATCH, side**2, HEADS, DIM), draw(n + 50, BATCH, side**2, HEADS, DIM)) for n, side in enumerate(sides)
    ]


def refined(features, layers):
    """Traced anew each time, by what is patched then."""
    return jax.jit(lambda *arrays: refine_features(*arrays))(features, layers)


@pytest.mark.parametrize("block", [1, 1500, 2**21], ids=["a row", "some rows", "whole"])
@pytest.mark.parametrize("sides", [(12,), (2,), (4, 8, 8), (2, 4, 4, 8)], ids=str)
def test_refined_features_are_the_dense_ones(sides, block, monkeypatch):
    monkeypatch.setattr(structural_fusion, "BLOCK_SCORES", block)
    layers, features = layers_of(*sides), draw(7, BATCH, 4, 4, 6)
    np.testing.assert_allclose(refined(features, layers), dense_refined(features, layers), atol=1e-5)


@pytest.mark.parametrize("block", [1, 1500, 2**21], ids=["a row", "some rows", "whole"])
def test_accelerators_work_on_all_examples_at_once(block, monkeypatch):
    """By what they lower, run here."""
    monkeypatch.setattr(structural_fusion, "ACCELERATOR_BLOCK_SCORES", block)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arrays, cpu, default: default(*arrays))
    layers, features = layers_of(2, 4, 4, 8), draw(7, BATCH, 4, 4, 6)
    np.testing.assert_allclose(refined(features, layers), dense_refined(features, layers), atol=1e-5)
    with plain_attention_everywhere():
        whole = refined(features, layers)
    np.testing.assert_allclose(whole, dense_refined(features, layers), atol=1e-5)


@pytest.mark.parametrize(
    ("form", "refined"), [("none", ()), ("mid", (3,)), ("coarsest", (2, 3)), ("per_level", (0, 1, 2, 3))]
)
def test_each_form_refines_its_outputs(form, refined):
    layers = layers_of(8, 4, 2)
    outputs = [draw(n, BATCH, side, side, n + 3) for n, side in enumerate((8, 4, 2, 2))]
    got = jax.jit(fuse_outputs, static_argnums=2)(outputs, layers, form)
    for place, (before, after) in enumerate(zip(outputs, got, strict=True)):
        expected = dense_refined(before, layers) if place in refined else before
        np.testing.assert_allclose(after, expected, atol=1e-5)


@pytest.mark.parametrize("block", [1, 1500, 2**21], ids=["a row", "some rows", "whole"])
def test_gradients_are_those_of_the_dense_form(block, monkeypatch):
    """By central differences of the dense form, in float64, along a random direction of each input."""
    monkeypatch.setattr(structural_fusion, "BLOCK_SCORES", block)
    layers, features, weight = layers_of(2, 4, 8), draw(7, BATCH, 4, 4, 2), draw(8, BATCH, 4, 4, 2)
    inputs = (features, layers)
    got = jax.jit(jax.grad(lambda inputs: (refine_features(*inputs) * weight).sum()))(inputs)
    leaves, tree = jax.tree.flatten(inputs)
    slopes = jax.tree.leaves(got)
    for place, leaf in enumerate(leaves):
        direction = draw(20 + place, *leaf.shape)

        def moved(step, place=place, direction=direction):
            changed = [x.astype(np.float64) for x in leaves]
            changed[place] += step * direction
            return (dense_refined(*tree.unflatten(changed)) * weight).sum()

        slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
        assert abs(slope) > 1e-2
        np.testing.assert_allclose((slopes[place] * direction).sum(), slope, rtol=2e-3)


def test_gradients_of_half_precision_are_near():
    """The 16 bits are of inputs and products; scores and softmaxes have 32."""
    weight = draw(8, BATCH, 4, 4, 2)
    gradients = jax.jit(jax.grad(lambda inputs: (refine_features(*inputs) * weight).sum()))
    inputs = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), (draw(7, BATCH, 4, 4, 2), layers_of(2, 4, 8)))
    half = gradients(inputs)
    whole = gradients(jax.tree.map(lambda x: x.astype(jnp.float32), inputs))
    for ours, exact in zip(jax.tree.leaves(half), jax.tree.leaves(whole), strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(ours.astype(np.float32), exact, atol=0.02 * np.abs(exact).max())


@pytest.mark.parametrize("lowered", ["accelerators", "plain"])
def test_gradients_are_the_same_everywhere(lowered, monkeypatch):
    layers, features, weight = layers_of(2, 4, 8), draw(7, BATCH, 4, 4, 2), draw(8, BATCH, 4, 4, 2)

    def gradients():
        return jax.jit(jax.grad(lambda inputs: (refine_features(*inputs) * weight).sum()))((features, layers))

    on_cpu = gradients()
    if lowered == "plain":
        with plain_attention_everywhere():
            others = gradients()
    else:
        monkeypatch.setattr(jax.lax, "platform_dependent", lambda *arrays, cpu, default: default(*arrays))
        monkeypatch.setattr(structural_fusion, "ACCELERATOR_BLOCK_SCORES", 1500)
        others = gradients()
    for ours, expected in zip(jax.tree.leaves(others), jax.tree.leaves(on_cpu), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("remat", ["none", "dots", "blocks"])
@pytest.mark.parametrize(("side", "cells"), [(32, 8), (32, 32), (8, 32)])
def test_no_map_of_all_queries_and_keys_is_ever_made(side, cells, remat, monkeypatch):
    monkeypatch.setattr(structural_fusion, "BLOCK_SCORES", 2**14)
    tokens = jax.ShapeDtypeStruct((1, side**2, 2, 8), np.float32)
    features = jax.ShapeDtypeStruct((1, cells, cells, 4), np.float32)

    def loss(features, q, k):
        return jnp.square(refine_features(features, [(q, k)])).sum()

    program = jax.jit(jax.grad(recomputed(loss, remat), (0, 1, 2))).lower(features, tokens, tokens).compile()
    maps, fused = 2 * side**4 * 4, cells**4 * 4  # bytes, of both heads
    assert program.memory_analysis().temp_size_in_bytes < max(maps, fused) / 4


def test_maps_may_be_wide():
    """A map of 2x4 tokens, as the first half of one of 4x4 whose other half nobody attends to."""
    q, k = layers_of(4)[0]
    features = draw(9, BATCH, 4, 4, 3)
    scores = np.einsum("bqhd,bkhd->bhqk", q[:, :8].astype(np.float64), k[:, :8]) / np.sqrt(DIM)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mean = (weights / weights.sum(-1, keepdims=True)).mean(1)
    expected = np.einsum("bqk,bkc->bqc", mean, features.reshape(BATCH, 16, 3)[:, :8]).reshape(BATCH, 2, 4, 3)
    refine = jax.jit(refine_features)
    got = refine(features[:, :2], [(q[:, :8], k[:, :8])])
    np.testing.assert_allclose(got, expected, atol=1e-5)
    coarser = refine(features[:, :2], [(q[:, :2], k[:, :2])])  # a map of 1x2
    np.testing.assert_allclose(coarser[:, 0, 0], coarser[:, 1, 1], atol=1e-6)


@pytest.mark.parametrize(("side", "tokens"), [(4, 36), (3, 4), (4, 15)])
def test_maps_that_do_not_fit_are_refused(side, tokens):
    q = jnp.asarray(draw(0, 1, tokens, 1, 2))
    with pytest.raises(ValueError, match=f"{tokens} tokens are no map some times as large as {side}x{side} cells"):
        refine_features(jnp.zeros((1, side, side, 2)), [(q, q)])

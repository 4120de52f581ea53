"""Deformable attention against sums written out point by point."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from handjax.recovery.deformable import DeformableAttention, sample_maps

HEADS, POINTS, SIZES = 2, 3, ((4, 3), (8, 6))


def _bilinear(values, x, y):
    """Value of a map [height, width, dim] at a place in [0, 1], from its four neighbours, zero outside."""
    height, width, dim = values.shape
    px, py = x * width - 0.5, y * height - 0.5
    total = np.zeros(dim)
    for row in (math.floor(py), math.floor(py) + 1):
        for column in (math.floor(px), math.floor(px) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += (1 - abs(px - column)) * (1 - abs(py - row)) * values[row, column]
    return total


def test_samples_are_bilinear_and_zero_outside():
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, *size, HEADS, 5)).astype(np.float32) for size in SIZES]
    places = rng.uniform(-0.3, 1.3, (2, 4, HEADS, 2, POINTS, 2)).astype(np.float32)
    ours = sample_maps([jnp.asarray(m) for m in maps], jnp.asarray(places))
    for index in np.ndindex(places.shape[:-1]):
        batch, _, head, level, _ = index
        expected = _bilinear(maps[level][batch, :, :, head].astype(np.float64), *places[index].astype(np.float64))
        np.testing.assert_allclose(ours[index], expected, atol=1e-5)


def test_the_module_equals_the_equation():
    rng = np.random.default_rng(1)
    module = DeformableAttention(features=8, heads=HEADS, levels=2, points=POINTS)
    maps = [jnp.asarray(rng.normal(size=(1, *size, 8)), jnp.float32) for size in SIZES]
    queries, references = (jnp.asarray(rng.uniform(size=(1, 3, n)), jnp.float32) for n in (8, 2))

    def run(module, queries, references, maps):
        return module(queries, references, module.values(maps))

    params = module.init(jax.random.key(0), queries, references, maps, method=run)
    params = jax.tree.map(lambda x: x + 0.3 * jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)
    ours = module.apply(params, queries, references, maps, method=run)
    weights = jax.tree.map(np.float64, params["params"])

    def dense(name, x):
        return x @ weights[name]["kernel"] + weights[name]["bias"]

    for q in range(3):
        query = np.float64(queries[0, q])
        offsets = dense("sampling_offsets", query).reshape(HEADS, 2, POINTS, 2)
        logits = dense("attention_weights", query).reshape(HEADS, 2 * POINTS)
        attention = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        heads = np.zeros((HEADS, 4))
        for head in range(HEADS):
            for level, (height, width) in enumerate(SIZES):
                values = dense("value_proj", np.float64(maps[level][0])).reshape(height, width, HEADS, 4)[:, :, head]
                for point in range(POINTS):
                    x, y = np.float64(references[0, q]) + offsets[head, level, point] / (width, height)
                    heads[head] += attention[head, level * POINTS + point] * _bilinear(values, x, y)
        np.testing.assert_allclose(ours[0, q], dense("output_proj", heads.ravel()), atol=1e-5)


def test_at_first_heads_look_into_their_directions():
    module = DeformableAttention(features=8, heads=4, levels=1, points=2)
    queries, references = jnp.ones((1, 1, 8)), jnp.full((1, 1, 2), 0.5)

    def run(module, queries, references):
        module.values([jnp.zeros((1, 4, 4, 8))])
        return module(queries, references, module.values([jnp.zeros((1, 4, 4, 8))]))

    params = module.init(jax.random.key(0), queries, references, method=run)
    places = module.apply(params, queries, references, [(10, 10)], method="places")
    steps = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])
    np.testing.assert_allclose(places[0, 0, :, 0, 0], 0.5 + steps / 10, atol=1e-6)
    np.testing.assert_allclose(places[0, 0, :, 0, 1], 0.5 + steps / 5, atol=1e-6)


def test_gradients_reach_the_places():
    maps = [jax.random.normal(jax.random.key(0), (1, 4, 3, 1, 2))]
    places = jnp.full((1, 1, 1, 1, 1, 2), 0.45)

    def total(places):
        return sample_maps(maps, places).sum()

    numeric = [(total(places + 1e-3 * step) - total(places - 1e-3 * step)) / 2e-3 for step in jnp.eye(2)]
    np.testing.assert_allclose(jax.grad(total)(places).ravel(), numeric, rtol=1e-2, atol=1e-3)

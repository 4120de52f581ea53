"""Each equation of the module against an independent float64 writing in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.adapters.sgm import (
    SGM,
    FeatureModulator,
    SGMConfig,
    StructureAttention,
    aggregate,
    divide_by_maximum,
    hint_energy,
    modulate,
    received_attention,
    relevance,
)
from handjax.errors import ConfigError

TINY = SGMConfig(stem_channels=(4, 6, 8), unet_channels=(16, 24, 32), layers_per_block=1, fusion_channels=20)
RNG = np.random.default_rng(0)
DEPTH = jnp.float32(RNG.uniform(size=(2, 32, 32, 1)))
SKELETON = jnp.float32(RNG.uniform(size=(2, 32, 32, 3)))


def random_like(tree, seed=1):
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(structure, [jnp.asarray(rng.normal(size=x.shape, scale=0.3), x.dtype) for x in leaves])


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_relevance_is_the_row_softmax_of_scaled_products():
    depth, skeleton = RNG.normal(size=(2, 2, 9, 5))
    expected = np.stack([softmax(depth[b] @ skeleton[b].T / np.sqrt(5)) for b in range(2)])
    result = relevance(jnp.float32(depth), jnp.float32(skeleton))
    np.testing.assert_allclose(result, expected, atol=1e-6)
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-6)


def test_relevance_is_float32_in_half_precision():
    tokens = jnp.ones((1, 4, 8), jnp.bfloat16)
    assert relevance(tokens, tokens).dtype == jnp.float32


def test_aggregate_sums_skeleton_tokens_by_relevance():
    weights, tokens = RNG.uniform(size=(2, 9, 9)), RNG.normal(size=(2, 9, 5))
    expected = np.zeros((2, 9, 5))
    for b, q, k in np.ndindex(2, 9, 9):
        expected[b, q] += weights[b, q, k] * tokens[b, k]
    np.testing.assert_allclose(aggregate(jnp.float32(weights), jnp.float32(tokens)), expected, atol=1e-5)


def test_received_attention_is_the_mean_over_queries():
    weights = softmax(RNG.normal(size=(2, 12, 12)))
    received = received_attention(jnp.float32(weights), 3, 4)
    np.testing.assert_allclose(received[1, 2, 3], weights[1, :, 11].mean(), rtol=1e-5)
    # averaging over keys would be the constant 1 / N
    assert received.std() > 1e-3


def test_structure_attention_equals_equations_1_to_5():
    depth, skeleton = RNG.normal(size=(2, 2, 3, 4, 6))
    module = StructureAttention()
    variables = random_like(module.init(jax.random.key(0), jnp.float32(depth), jnp.float32(skeleton)))
    features, weights = module.apply(variables, jnp.float32(depth), jnp.float32(skeleton))
    p = jax.tree.map(np.float64, variables["params"])
    depth_tokens = depth.reshape(2, 12, 6) @ p["phi_depth"]["kernel"][0, 0] + p["phi_depth"]["bias"]
    skeleton_tokens = skeleton.reshape(2, 12, 6) @ p["phi_skeleton"]["kernel"][0, 0] + p["phi_skeleton"]["bias"]
    expected_weights = softmax(depth_tokens @ skeleton_tokens.transpose(0, 2, 1) / np.sqrt(6))
    residual = depth + (expected_weights @ skeleton_tokens).reshape(depth.shape)
    centred = residual - residual.mean(-1, keepdims=True)
    normed = centred / np.sqrt(residual.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(weights, expected_weights, atol=1e-6)
    np.testing.assert_allclose(features, normed * p["norm"]["scale"] + p["norm"]["bias"], atol=1e-5)


def test_feature_modulator_equals_equations_6_to_9():
    features, skeleton = RNG.normal(size=(2, 2, 3, 4, 6))
    module = FeatureModulator()
    variables = random_like(module.init(jax.random.key(0), jnp.float32(features), jnp.float32(skeleton)))
    p = jax.tree.map(np.float64, variables["params"])
    context = skeleton.reshape(2, 12, 6).mean(1)
    gamma = 1 / (1 + np.exp(-(context @ p["gamma"]["kernel"] + p["gamma"]["bias"])))
    beta = context @ p["beta"]["kernel"] + p["beta"]["bias"]
    result = module.apply(variables, jnp.float32(features), jnp.float32(skeleton))
    np.testing.assert_allclose(result, gamma[:, None, None] * features + beta[:, None, None], atol=1e-5)


def test_modulate_works_on_channels():
    result = modulate(jnp.ones((1, 2, 2, 2)), jnp.array([[0.5, 1.0]]), jnp.array([[0.0, 3.0]]))
    np.testing.assert_array_equal(result, np.broadcast_to([0.5, 4.0], (1, 2, 2, 2)))


def test_divide_by_maximum_takes_no_gradient_through_the_maximum():
    attention = jnp.array([[[1.0, 4.0], [2.0, 0.0]], [[0.1, 0.2], [0.0, 0.0]]])
    np.testing.assert_allclose(divide_by_maximum(attention).max(axis=(1, 2)), 1)
    gradient = jax.grad(lambda a: divide_by_maximum(a)[0, 0, 1])(attention)
    np.testing.assert_allclose(gradient[0], [[0, 0.25], [0, 0]])
    assert np.isfinite(divide_by_maximum(jnp.zeros((1, 2, 2)))).all()


def test_hint_energy_is_the_mean_square_over_all_hints():
    depth, skeleton = RNG.normal(size=(2, 1, 2, 2, 3))
    expected = (np.square(depth).sum(-1) + np.square(skeleton).sum(-1)) / 6
    np.testing.assert_allclose(hint_energy(jnp.float32(depth), jnp.float32(skeleton)), expected, rtol=1e-5)


def test_every_output_is_exactly_zero_at_initialisation():
    module = SGM(dataclasses.replace(TINY, levels=(0, 1)))
    output, _ = jax.jit(module.init_with_output)(jax.random.key(0), DEPTH, SKELETON)
    assert output.mid_residual.shape == (2, 2, 2, 32) and not output.mid_residual.any()
    assert not any(residual.any() for residual in output.down_residuals)
    assert output.attention_map.shape == (2, 4, 4)
    np.testing.assert_allclose(output.attention_map.max(axis=(1, 2)), 1)


def test_the_zero_projection_learns_at_once():
    module = SGM(TINY)
    variables = jax.jit(module.init)(jax.random.key(0), DEPTH, SKELETON)
    gradient = jax.jit(jax.grad(lambda v: module.apply(v, DEPTH, SKELETON).mid_residual.sum()))(variables)["params"]
    assert jnp.abs(gradient["output_mid"]["kernel"]).max() > 0


def test_sizes_of_stable_diffusion():
    module = SGM(SGMConfig(levels=(0,)))

    def shapes(depth, skeleton):
        output, variables = module.init_with_output(jax.random.key(0), depth, skeleton)
        return output.mid_residual, output.attention_map, output.down_residuals, variables["params"]

    pictures = (jax.ShapeDtypeStruct((1, 512, 512, 1), "float32"), jax.ShapeDtypeStruct((1, 512, 512, 3), "float32"))
    mid, attention, skips, params = jax.eval_shape(shapes, *pictures)
    assert mid.shape == (1, 8, 8, 1280) and attention.shape == (1, 16, 16)
    sizes = [(r.shape[1], r.shape[3]) for r in skips]
    assert sizes == [*[(64, 320)] * 3, (32, 320), *[(32, 640)] * 2, (16, 640), *[(16, 1280)] * 2, *[(8, 1280)] * 3]
    assert params["attention"]["phi_depth"]["kernel"].shape == (1, 1, 640, 640)


@pytest.mark.parametrize(
    ("switches", "present", "absent"),
    [
        ({}, {"attention", "modulator"}, set()),
        ({"attention": False}, {"modulator"}, {"attention"}),
        ({"modulator": False}, {"attention"}, {"modulator"}),
        ({"attention": False, "modulator": False}, set(), {"attention", "modulator"}),
    ],
)
def test_ablation_switches_remove_the_part_they_name(switches, present, absent):
    module = SGM(dataclasses.replace(TINY, **switches))
    parameters = jax.eval_shape(module.init, jax.random.key(0), DEPTH, SKELETON)["params"]
    assert present <= set(parameters) and not absent & set(parameters)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("modulator", [True, False])
def test_both_conditions_reach_the_output_in_every_ablation(attention, modulator):
    module = SGM(dataclasses.replace(TINY, attention=attention, modulator=modulator))
    variables = random_like(jax.eval_shape(module.init, jax.random.key(0), DEPTH, SKELETON))
    output = module.apply(variables, DEPTH, SKELETON).mid_residual
    assert jnp.abs(output - module.apply(variables, 1 - DEPTH, SKELETON).mid_residual).max() > 1e-4
    assert jnp.abs(output - module.apply(variables, DEPTH, 1 - SKELETON).mid_residual).max() > 1e-4


def test_levels_reach_only_the_skip_connections_they_name():
    module = SGM(dataclasses.replace(TINY, levels=(1,)))
    variables = random_like(jax.eval_shape(module.init, jax.random.key(0), DEPTH, SKELETON))
    residuals = module.apply(variables, DEPTH, SKELETON).down_residuals
    # conv_in, then (block, downsampler) of level 0, (block, downsampler) of level 1, block of level 2
    assert [r.shape[1:] for r in residuals] == [(8, 8, 16)] * 2 + [(4, 4, 16), (4, 4, 24), (2, 2, 24), (2, 2, 32)]
    assert [bool(jnp.abs(r).max() > 0) for r in residuals] == [False, False, True, True, False, False]


def test_a_level_without_skip_connection_of_its_own_is_refused():
    with pytest.raises(ConfigError, match="0 to 1"):
        dataclasses.replace(TINY, levels=(2,))

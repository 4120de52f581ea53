import jax
import pytest

from handjax.adapters import structural_fusion
from handjax.adapters.structural_fusion import refine_features
from handjax.diffusion.attention import plain_attention_everywhere
from launch import bench_sesahand


def test_operations_of_the_fusion_are_all_counted(monkeypatch):
    """Of a 16x16 map for 8x8 cells, the products are q·k and ψ'·f; what else there is, is less."""
    monkeypatch.setattr(structural_fusion, "BLOCK_SCORES", 2**12)
    heads, dim, channels = 2, 32, 64

    def lower():
        tokens = jax.ShapeDtypeStruct((1, 16**2, heads, dim), "float32")
        features = jax.ShapeDtypeStruct((1, 8, 8, channels), "float32")
        run = jax.jit(lambda features, q, k: refine_features(features, [(q, k)]))
        return run.trace(features, tokens, tokens).lower(lowering_platforms=("tpu",)).cost_analysis()["flops"]

    products = 2 * heads * dim * 16**4 + 2 * channels * 8**4
    hidden = lower()
    with plain_attention_everywhere():
        assert products < lower() < 1.5 * products
    assert hidden < 0.5 * products


@pytest.mark.slow
def test_a_step_is_timed_beside_a_plain_controlnets_and_both_are_counted(monkeypatch):
    monkeypatch.setattr(bench_sesahand, "BATCH", 1)
    monkeypatch.setattr(bench_sesahand, "RECIPE", bench_sesahand.TINY)
    step, *counts = bench_sesahand.bench_sesahand(1)
    assert step["name"] == "step_tiny" and 0.5 < step["ratio"] < 2
    assert 0.01 < step["peer_peak_gib"] < 4 and 0.8 < step["memory_ratio"] < 1.5
    assert [count["name"] for count in counts] == ["operations_mid", "operations_coarsest", "operations_per_level"]
    ratios = [count["ratio"] for count in counts]
    assert 1 < ratios[0] < ratios[1] < ratios[2] < 1.3

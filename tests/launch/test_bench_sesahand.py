import jax
import pytest

from handjax.adapters import structural_fusion
from handjax.adapters.structural_fusion import refine_features
from handjax.diffusion.attention import plain_attention_everywhere
from launch import bench_sesahand


def test_operations_of_the_fusion_are_all_counted(monkeypatch):
    """Of a 16x16 map for 8x8 cells, the products are q·k and ψ'·f; what else there is, is less."""
    monkeypatch.setattr(structural_fusion, "ACCELERATOR_BLOCK_SCORES", 2**12)
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
    monkeypatch.setattr(bench_sesahand, "TINY_BATCH", 1)
    monkeypatch.setattr(bench_sesahand, "RECIPE", bench_sesahand.TINY)
    items = {item["name"]: item for item in bench_sesahand.bench_sesahand(1)}
    for size in ("tiny", "full"):
        assert 0.5 < items[f"step_{size}"]["ratio"] < 2
        assert 0.01 < items[f"memory_{size}"]["peer"] < 4 and 0.8 < items[f"memory_{size}"]["ratio"] < 1.5
    ratios = [items[f"operations_{form}"]["ratio"] for form in ("mid", "coarsest", "per_level")]
    assert 1 < ratios[0] < ratios[1] < ratios[2] < 1.3


@pytest.mark.slow
def test_what_does_not_fit_in_memory_is_not_run(monkeypatch, capsys):
    monkeypatch.setattr(bench_sesahand.os, "sysconf", lambda name: 1)
    (memory,) = bench_sesahand.bench_step("tiny", 1, bench_sesahand.TINY, "batch_size=1")
    assert memory["name"] == "memory_tiny" and "step_tiny is left out" in capsys.readouterr().err

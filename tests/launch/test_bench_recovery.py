"""The benchmark of mesh recovery on a network as small as can be."""

import jax
import numpy as np
import pytest

from handjax.recovery.network import RecoveryConfig, RecoveryNetwork, example_inputs
from handjax.recovery.vit import ViTConfig
from launch import bench_recovery
from tests.launch.test_evaluate_recovery import _batch
from tests.recovery.tiny_models import CODES, ENCODER, NETWORK, random_model

pytest.importorskip("torch")
SMALL = RecoveryConfig(tokens=32, codes=CODES, encoder=ViTConfig(**ENCODER), **NETWORK)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench_recovery, "FULL", SMALL)


@pytest.mark.slow
def test_the_peer_is_the_same_network(monkeypatch):
    network = RecoveryNetwork(SMALL)
    inputs = example_inputs(network)
    params = jax.jit(network.init)(jax.random.key(0), *inputs)["params"]
    seen = []
    module = bench_recovery.importlib.import_module("handjax.recovery.pytorch.mmhmr")
    forward = module.MMHMR.forward

    def watched(self, *given):
        seen.append(forward(self, *given)[0].numpy())

    monkeypatch.setattr(module.MMHMR, "forward", watched)
    torch = bench_recovery.load_torch()
    images, tokens, cue = (torch.from_numpy(np.array(each)) for each in inputs)
    bench_recovery.peer_forward(
        bench_recovery.make_peer(params), [images.permute(0, 3, 1, 2), tokens, cue], bench_recovery.CPU
    )()
    np.testing.assert_allclose(seen[0], network.apply({"params": params}, *inputs)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_decoding_and_both_of_pytorchs_ways_are_timed(monkeypatch):
    monkeypatch.setattr(bench_recovery, "COMPILER", "aot_eager")
    monkeypatch.setattr(bench_recovery, "PRODUCT", 64)
    five, eager, compiled = bench_recovery.bench_network(1)
    assert (five["name"], five["ratio_bound"], five["peer_name"]) == ("five_iterations", 1.05, "one iteration")
    assert (eager["peer_name"], compiled["peer_name"]) == ("PyTorch", "PyTorch with torch.compile")
    assert five["peer"] > 0 and five["batch"] == 2
    for item in (eager, compiled):
        assert item["per_second"] == pytest.approx(2 / item["ours"])
        assert item["mfu"] == pytest.approx(item["tflop"] / item["ours"] / item["peak_tflops"])
        assert item["peak_from"] == "product of 64x64 matrices" and item["tflop"] == eager["tflop"]
    # patches, of 2 pictures: 192 of 16x16x3 pixels to 12 channels; the whole network needs more
    assert eager["tflop"] > 2 * 2 * 192 * 768 * 12 / 1e12


@pytest.mark.slow
def test_a_peer_that_cannot_be_compiled_is_left_out(monkeypatch, capsys):
    def broken(graph, inputs):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(bench_recovery, "COMPILER", broken)
    monkeypatch.setattr(bench_recovery, "PRODUCT", 64)
    assert [item["peer_name"] for item in bench_recovery.bench_network(1)] == ["one iteration", "PyTorch"]
    assert "PyTorch with torch.compile is left out" in capsys.readouterr().err


@pytest.mark.slow
def test_tables_of_decoding_stand_beside_the_papers(monkeypatch):
    batch = _batch()
    monkeypatch.setattr("launch.evaluate_recovery.open_records", lambda path, split: range(5))
    monkeypatch.setattr("launch.evaluate_recovery.make_loader", lambda *_, **__: iter([batch]))
    monkeypatch.setattr(bench_recovery, "ITERATION_TABLE", {5: (5.7, 5.5)})
    monkeypatch.setattr(bench_recovery, "RANK_TABLE", {1: (5.7, 5.5), 3: (7.9, 8.0)})
    items = {item["name"]: item for item in bench_recovery.bench_decoding("records", random_model())}
    names = "iterations_5", "rank_1", "rank_3", "mean_codes"
    assert list(items) == [f"{name}/pa_mp{part}pe_mm" for name in names for part in "jv"]
    assert [item["paper"] for item in items.values()] == [5.7, 5.5, 5.7, 5.5, 7.9, 8.0, 5.7, 5.5]
    five, first, third, means = (items[f"{name}/pa_mpvpe_mm"]["ours"] for name in names)
    assert five == first and len({first, third, means}) == 3
    assert {item["runs"] for item in items.values()} == {5}

import json
import subprocess
import sys

import numpy as np
import pytest

from handjax.errors import ConfigError
from launch import bench, bench_sd, peers
from launch.bench import bench_first_image, bench_rasterize, describe
from launch.timing import summary


def test_ratio_is_ours_over_peer_of_neighbouring_runs():
    item = summary("x", "peer", [(1.0, 2.0), (2.0, 8.0), (9.0, 12.0)])
    assert (item["ours"], item["peer"], item["ratio"], item["runs"]) == (2.0, 8.0, 0.5, 3)


def test_rasterize_draws_the_same_hand_as_its_peer():
    pytest.importorskip("trimesh")
    (item,) = bench_rasterize(runs=1)
    assert item["mask_iou"] >= 0.995 and item["depth_error_mm"] <= 0.5
    assert 0 < item["ratio"] < 0.1
    np.testing.assert_allclose(item["ratio"], item["ours"] / item["peer"])


def test_parts_of_stable_diffusion_are_timed_and_weighed():
    pytest.importorskip("torch")
    items = list(bench_sd.bench_float32(("text_encoder", "vae_decoder"), "tiny", runs=3))
    expected = [("text_encoder", "transformers", 60), ("vae_decoder", "diffusers", 3)]
    assert [(item["name"], item["peer_name"], item["runs"]) for item in items] == expected
    assert all(item["ratio"] > 0 and item["peak_gib"] > 0.1 and item["peer_peak_gib"] > 0.1 for item in items)


def test_the_peer_is_weighed_without_jax():
    code = "import sys, launch.peer_memory; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_half_precision_is_timed_beside_eager_and_compiled(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    monkeypatch.setattr(bench_sd, "DDIM_STEPS", 2)
    items = list(bench_sd.bench_half_precision(peers.TINY["unet"], 2, 1, "cpu"))
    expected = [(task, peer) for task in ("unet", "ddim2") for peer in ("diffusers", "diffusers with torch.compile")]
    assert [(item["name"], item["peer_name"]) for item in items] == expected
    assert items[2]["tflop"] == pytest.approx(2 * items[0]["tflop"]) and items[0]["tflop"] > 1e-4
    assert all(item["batch"] == 2 and item["mfu"] is None for item in items)


def test_utilisation_is_the_share_of_the_peak(monkeypatch):
    class Device:
        device_kind = "NVIDIA H100 80GB HBM3"

    monkeypatch.setattr("jax.devices", lambda: [Device()])
    assert bench_sd.utilisation(989e11) == pytest.approx(0.1)


def test_figures_are_written_with_machine_and_versions(monkeypatch, tmp_path, capsys):
    item = summary("x", "peer", [(1.0, 2.0)]) | {"peak_gib": 1.5, "peer_peak_gib": 2.0}
    monkeypatch.setitem(bench.BENCHMARKS, "sd", (lambda runs: iter([item]), ("diffusers",)))
    monkeypatch.setattr(sys, "argv", ["launch.bench", "sd", "--out", str(tmp_path / "sd.json")])
    assert bench.main() == 0
    assert capsys.readouterr().out == "x: 1 s, peer 2 s, ratio 0.5; peak memory 1.50 and 2.00 GiB\n"
    document = json.loads((tmp_path / "sd.json").read_text())
    assert document["items"] == [item] and "diffusers" in document["versions"] and "machine" in document


def test_no_runs_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch.bench", "sd", "--runs", "0"])
    with pytest.raises(ConfigError, match="at least 1"):
        bench.main()


def test_the_first_image_is_timed_from_the_start_of_the_command():
    (item,) = bench_first_image(runs=1)
    assert 1 < item["ours"] < 60 and item["bound"] == 20 and item["runs"] == 1
    assert describe(item | {"ours": 6.25}) == "first_image: 6.25 s, at most 20 s"

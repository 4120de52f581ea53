import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from handjax.errors import BackendError, ConfigError, InputError
from handjax.hand.camera import default_camera
from handjax.hand.rasterize import depth_map
from launch import bench, bench_rasterize, bench_sd, peers
from launch.bench import bench_first_image, describe
from launch.bench_effnet import bench_effnet
from launch.timing import summary


def test_ratio_is_ours_over_peer_of_neighbouring_runs():
    item = summary("x", "peer", [(1.0, 2.0), (2.0, 8.0), (9.0, 12.0)])
    assert (item["ours"], item["peer"], item["ratio"], item["runs"]) == (2.0, 8.0, 0.5, 3)


@pytest.mark.slow
def test_rasterize_draws_the_same_hands_as_its_peer(monkeypatch):
    pytest.importorskip("trimesh")
    monkeypatch.setattr(bench_rasterize, "MESHES", 2)
    item = next(bench_rasterize.bench_rasterize(runs=1))
    assert (item["peer_name"], item["meshes"], item["runs"]) == ("trimesh", 2, 2)
    assert item["mask_iou"] >= 0.9999 and item["depth_error_99_9_percent_mm"] <= 0.01
    assert 0 < item["ratio"] < 0.1
    # at 512²: a depth map is 1 MiB, a raster with everything 9 MiB
    assert 1 < item["memory_mib"] < 5 and 9 < item["raster_memory_mib"] < 25


def test_hands_of_the_bench_are_closed_and_in_the_picture(monkeypatch):
    trimesh = pytest.importorskip("trimesh")
    monkeypatch.setattr(bench_rasterize, "MESHES", 2)
    hands, faces = bench_rasterize.make_hands()
    for hand in hands:
        mesh = trimesh.Trimesh(hand, faces, process=False)
        assert mesh.is_watertight and mesh.volume > 1e-4
        assert np.abs(hand[:, :2] / hand[:, 2:]).max() < 0.25
    assert np.abs(hands[0] - hands[1]).max() > 0.01


PYRENDER = """
import time
from types import SimpleNamespace
import numpy as np
__version__ = "0.1"
constants = SimpleNamespace(GLTF=SimpleNamespace(TRIANGLES=4))
RenderFlags = SimpleNamespace(DEPTH_ONLY=1)
class Scene:
    def add(self, thing, pose=None):
        self.vertices = getattr(self, "vertices", thing)
def Primitive(positions, indices, mode): return positions
def Mesh(primitives): return primitives[0]
def PerspectiveCamera(yfov, aspectRatio, znear): return yfov
Camera = float
class OffscreenRenderer:
    def __init__(self, height, width): self.shape = height, width
    def render(self, scene, flags):
        time.sleep(0.002)
        return np.full(self.shape, scene.vertices[:, 2].min())
"""


def test_pyrender_is_asked_for_each_mesh_in_its_own_process(monkeypatch, tmp_path):
    """A stand-in draws a plane at the nearest vertex, so that all figures are known."""
    (tmp_path / "OpenGL").mkdir()
    (tmp_path / "pyrender.py").write_text(PYRENDER)
    (tmp_path / "OpenGL" / "GL.py").write_text("GL_RENDERER = 1\ndef glGetString(name): return b'stand-in'")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(bench_rasterize, "MESHES", 2)
    hands, faces = bench_rasterize.make_hands()
    camera = default_camera(512, 512)
    item = bench_rasterize.beside_pyrender(sys.executable, hands, faces, camera, runs=2)
    depth = np.stack([depth_map(jnp.asarray(hand), jnp.asarray(faces), camera, 512, 512) for hand in hands])
    assert (item["peer_name"], item["peer_version"], item["runs"]) == ("pyrender", "0.1 on stand-in", 4)
    assert 0.002 <= item["peer_resident"] < 1 and item["peer"] >= 0.002
    np.testing.assert_allclose(item["mask_iou"], (depth > 0).mean(), rtol=1e-2)
    farthest = max(1000 * (drawn.max() - hand[:, 2].min()) for drawn, hand in zip(depth, hands, strict=True))
    np.testing.assert_allclose(item["depth_error_mm"], farthest, rtol=1e-2)


def test_a_python_without_pyrender_is_one_line(capfd):
    hands, faces = bench_rasterize.make_hands()
    with pytest.raises(BackendError, match="cannot draw with pyrender"):
        bench_rasterize.beside_pyrender(sys.executable, hands, faces, default_camera(512, 512), runs=1)
    assert "No module named" in capfd.readouterr().err


@pytest.mark.slow
def test_parts_of_stable_diffusion_are_timed_and_weighed():
    pytest.importorskip("torch")
    items = list(bench_sd.bench_float32(("text_encoder", "vae_decoder"), "tiny", runs=3))
    expected = [("text_encoder", "transformers", 60), ("vae_decoder", "diffusers", 3)]
    assert [(item["name"], item["peer_name"], item["runs"]) for item in items] == expected
    assert all(item["ratio"] > 0 and item["peak_gib"] > 0.1 and item["peer_peak_gib"] > 0.1 for item in items)


def test_the_peer_is_weighed_without_jax():
    code = "import sys, launch.peer_memory; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_half_precision_is_timed_beside_eager_and_compiled(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    monkeypatch.setattr(bench_sd, "DDIM_STEPS", 2)
    items = list(bench_sd.bench_half_precision(peers.TINY["unet"], 2, 1, "cpu"))
    expected = [(task, peer) for task in ("unet", "ddim2") for peer in ("diffusers", "diffusers with torch.compile")]
    assert [(item["name"], item["peer_name"]) for item in items] == expected
    assert items[2]["tflop"] == pytest.approx(2 * items[0]["tflop"]) and items[0]["tflop"] > 1e-4
    assert all(item["batch"] == 2 and item["mfu"] is None for item in items)


@pytest.mark.slow
def test_the_network_of_distances_is_timed():
    pytest.importorskip("torch")
    (item,) = bench_effnet(runs=1)
    assert item["peer_name"] == "efficientnet-lite-pytorch" and item["ratio"] > 0
    assert item["per_second"] == pytest.approx(32 / item["ours"])


def test_utilisation_is_the_share_of_the_peak(monkeypatch):
    class Device:
        device_kind = "NVIDIA H100 80GB HBM3"

    monkeypatch.setattr("jax.devices", lambda: [Device()])
    assert bench_sd.utilisation(989e11) == pytest.approx(0.1)


def test_figures_are_written_with_machine_and_versions(monkeypatch, tmp_path, capsys):
    item = summary("x", "peer", [(1.0, 2.0)]) | {"peak_gib": 1.5, "peer_peak_gib": 2.0}
    monkeypatch.setattr("launch.bench_sd.bench_sd", lambda runs: iter([item]))
    monkeypatch.setattr(sys, "argv", ["launch.bench", "sd", "--out", str(tmp_path / "sd.json")])
    assert bench.main() == 0
    assert capsys.readouterr().out == "x: 1 s, peer 2 s, ratio 0.5; peak memory 1.50 and 2.00 GiB\n"
    document = json.loads((tmp_path / "sd.json").read_text())
    assert document["items"] == [item] and "diffusers" in document["versions"] and "machine" in document


def test_no_runs_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch.bench", "sd", "--runs", "0"])
    with pytest.raises(ConfigError, match="at least 1"):
        bench.main()


@pytest.mark.slow
def test_the_first_image_is_timed_from_the_start_of_the_command():
    (item,) = bench_first_image(runs=1)
    assert 1 < item["ours"] < 60 and item["bound"] == 20 and item["runs"] == 1
    assert describe(item | {"ours": 6.25}) == "first_image: 6.25 s, at most 20 s"


@pytest.mark.parametrize("option", ["--photos", "--malformed"])
def test_a_folder_that_is_missing_is_told_before_the_work(monkeypatch, option):
    monkeypatch.setattr(sys, "argv", ["launch.bench", "anatomy", option, "absent"])
    with pytest.raises(InputError, match=f"{option} absent: no such folder"):
        bench.main()


def test_a_peer_python_is_for_rasterize_alone(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch.bench", "first_image", "--peer-python", "python"])
    with pytest.raises(ConfigError, match="rasterize"):
        bench.main()

"""FID and KID beside the peers: a stand-in answers for them, whose figures are known."""

import sys

import numpy as np
import pytest

from handjax.errors import BackendError
from handjax.metrics.features import FeatureExtractor
from handjax.metrics.inception import load_inception
from handjax.weights.safetensors import write_tensors
from launch import bench, bench_metrics

STAND_IN = """
import json, pathlib, sys
import numpy as np
from PIL import Image
from scipy import linalg

def kernel(p, q):
    return (p @ q.T / 3 + 1) ** 3

assert "Conv2d_1a_3x3.conv.weight" in np.load(sys.argv[1])
print(json.dumps({"torch-fidelity": "0.1", "clean-fid": "0.2"}), flush=True)
for line in sys.stdin:
    assert line.strip() in ("torch-fidelity", "clean-fid")
    x, y = (
        np.stack([np.asarray(Image.open(path), float).mean((0, 1)) for path in sorted(pathlib.Path(folder).iterdir())])
        for folder in sys.argv[2:]
    )
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    fid = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)
    n = len(x)
    within = sum((kernel(z, z).sum() - np.trace(kernel(z, z))) / (n * (n - 1)) for z in (x, y))
    kid = within - 2 * kernel(x, y).mean()
    print(json.dumps({"seconds": 1e6, "features_seconds": 1e5, "fid": TIMES * fid, "kid": kid}), flush=True)
"""


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Small pictures whose features are their mean colours; gives what makes the stand-in's FID so many times ours."""

    def mean_colours(images):
        return np.float32(images).reshape(len(images), -1, 3).mean(axis=1)

    extractor = FeatureExtractor("Mean", lambda image: image, mean_colours)
    monkeypatch.setattr(bench_metrics, "inception", lambda weights, resize: extractor)
    state = {"Conv2d_1a_3x3.conv.weight": np.ones((32, 3, 3, 3), np.float32)}
    monkeypatch.setattr(bench_metrics, "random_state", lambda: state)
    monkeypatch.setattr(bench_metrics, "PICTURES", 12)
    monkeypatch.setattr(bench_metrics, "SIDE", 32)
    monkeypatch.setattr(bench_metrics, "PEER", tmp_path / "peer.py")
    return lambda times: (tmp_path / "peer.py").write_text(STAND_IN.replace("TIMES", str(times)))


def test_all_are_timed_in_turn_and_their_figures_compared(stand_in):
    stand_in(1)
    items = list(bench_metrics.bench_metrics(runs=2))
    assert [(item["peer_name"], item["peer_version"], item["name"]) for item in items] == [
        (*peer, name)
        for peer in (("torch-fidelity", "0.1"), ("clean-fid", "0.2"))
        for name in ("metrics", "metrics_features")
    ]
    for whole, features in zip(items[::2], items[1::2], strict=True):
        assert whole["fid_difference"] < 1e-4 and whole["kid_difference"] < 1e-4
        assert (whole["runs"], whole["pictures"], whole["peer"], features["peer"]) == (2, 24, 1e6, 1e5)
        assert 0 < features["ours"] < whole["ours"] and 0 < whole["ratio"] < 1e-3
        assert whole["per_second"] == pytest.approx(24 / whole["ours"])
        assert whole["ratio_bound"] == features["ratio_bound"] == pytest.approx(1 / 1.5)
    assert "at most 0.666667" in bench.describe(items[0])


def test_the_speeds_of_other_figures_are_not_compared(stand_in):
    stand_in(1.002)
    with pytest.raises(BackendError, match="torch-fidelity finds FID"):
        list(bench_metrics.bench_metrics(runs=1))


def test_a_python_without_the_peers_is_one_line(tmp_path, stand_in):
    (tmp_path / "peer.py").write_text("import no_such_package")
    with pytest.raises(BackendError, match="torch-fidelity cannot be run .* --peer-python"):
        list(bench_metrics.bench_metrics(runs=1))
    with pytest.raises(BackendError, match="absent is not a program"):
        list(bench_metrics.bench_metrics(1, tmp_path / "absent"))


def test_the_weights_are_of_fids_network(tmp_path):
    state = bench_metrics.random_state()
    assert len(state) == 5 * 94 + 2  # as the published state dict has
    write_tensors(tmp_path / "weights.safetensors", state)
    _, classes = load_inception(tmp_path / "weights.safetensors")
    assert classes.shape == (2048, 1008)


@pytest.mark.slow
def test_the_peers_find_the_same_figures(monkeypatch):
    """A minute: they decompose matrices of 2048 features however few the pictures."""
    pytest.importorskip("torch_fidelity")
    monkeypatch.setattr(bench_metrics, "PICTURES", 6)
    items = list(bench_metrics.bench_metrics(runs=1))
    assert items[0]["peer_name"] == "torch-fidelity" and items[0]["fid_difference"] < 1e-3


def test_the_option_names_the_peers_python(monkeypatch, stand_in, capsys):
    stand_in(1)
    monkeypatch.setattr(sys, "argv", ["launch.bench", "metrics", "--runs", "1", "--peer-python", sys.executable])
    assert bench.main() == 0
    assert capsys.readouterr().out.startswith("metrics: ")

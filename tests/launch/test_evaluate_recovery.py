"""The suite on a random tiny model, whose own hands, moved by a known distance, are the truth."""

import json
import sys

import numpy as np
import pytest

from handjax.errors import ConfigError, InputError
from handjax.hand.model import load_open_hand
from handjax.inference.evaluate_recovery import recover_batches
from handjax.recovery.files import save_recovery
from launch import evaluate, evaluate_recovery
from tests.recovery.tiny_models import random_model

HANDS = 5


def _batch():
    rng = np.random.default_rng(0)
    ones = np.ones((HANDS, 21), np.float32)
    return {
        "image": rng.uniform(-1, 1, (HANDS, 256, 256, 3)).astype(np.float32),
        "pose": rng.normal(0, 0.4, (HANDS, 16, 3)).astype(np.float32),
        "betas": np.zeros((HANDS, 10), np.float32),
        "mesh_known": np.ones(HANDS, bool),
        "keypoints": rng.uniform(64, 192, (HANDS, 21, 2)).astype(np.float32),
        "keypoints_confidence": ones,
        "keypoints_weight": ones,
        "keypoints_3d": rng.normal(0, 0.05, (HANDS, 21, 3)).astype(np.float32),
        "keypoints_3d_known": ones > 0,
        "box_side": np.full(HANDS, 128, np.float32),
    }


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_recovery(random_model(), folder)
    return folder


def call(monkeypatch, capsys, batches, *words):
    monkeypatch.setattr(evaluate_recovery, "open_records", lambda path, split: range(HANDS) if batches else None)
    monkeypatch.setattr(evaluate_recovery, "make_loader", lambda config, spec, *_, **__: iter(batches))
    monkeypatch.setattr(sys, "argv", ["launch.evaluate", "--suite", "recovery", *map(str, words), "--json"])
    status = evaluate.main()
    return status, json.loads(capsys.readouterr().out)


def test_figures_of_both_ways_of_reading(model, monkeypatch, capsys, tmp_path):
    batch = _batch()
    own = recover_batches(random_model(), load_open_hand(), [batch], HANDS, with_cue=False)
    batch["keypoints"] = own.places + np.float32([0, 0.07 * 128])
    batch["keypoints_3d"] = 2 * own.keypoints
    status, document = call(
        monkeypatch, capsys, [batch], "--data", tmp_path, "--model", model, "--limit", 4, "--out", tmp_path
    )
    figures = {item["name"]: item for item in document["items"]}
    assert status == 0 and {item["hands"] for item in figures.values()} == {4}
    assert figures["alone/pck_0.05"]["value"] == 0 and figures["alone/pck_0.1"]["value"] == 1
    assert figures["alone/pa_mpjpe_world_mm"]["value"] == pytest.approx(0, abs=1e-3)
    assert figures["with_keypoints/token_right"] != figures["alone/token_right"]
    assert 10 < figures["alone/pa_mpvpe_mm"]["value"] < 100
    by_iteration = figures["alone/confidence"]["by_iteration"]
    assert by_iteration["hidden"] == [16, 15, 12, 9, 4] and all(0 < c <= 1 for c in by_iteration["confidence"])
    with np.load(tmp_path / "scores.npz") as scores:
        assert scores["alone/pck_0.1"].shape == (4, 21) and "with_keypoints/auc_V" in scores
        mean = scores["alone/pa_mpvpe_mm"].mean()
    assert mean == pytest.approx(figures["alone/pa_mpvpe_mm"]["value"])
    assert {"decoding.png", "reliability.png"} < {path.name for path in tmp_path.iterdir()}
    assert json.loads((tmp_path / "figures.json").read_text())["figures"] == document["items"]


def test_records_without_held_out_ones_are_refused(model, monkeypatch, capsys, tmp_path):
    with pytest.raises(InputError, match="no held-out records"):
        call(monkeypatch, capsys, [], "--data", tmp_path, "--model", model)


def test_weights_of_another_hand_model_are_refused(monkeypatch, capsys, tmp_path):
    of_mano = random_model()._replace(tokenizer=random_model().tokenizer._replace(hand="mano"))
    save_recovery(of_mano, tmp_path)
    with pytest.raises(ConfigError, match="knows mano, not open_hand; as hand model give its MANO_RIGHT.pkl"):
        call(monkeypatch, capsys, [_batch()], "--data", tmp_path, "--model", tmp_path)


@pytest.mark.parametrize("suite", ["recovery", "text_to_mesh", "downstream"])
def test_decoding_takes_an_iteration(suite, monkeypatch, capsys, tmp_path):
    words = ["launch.evaluate", "--suite", suite, "--data", str(tmp_path), "--iterations", "0"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stopped:
        evaluate.main()
    assert (
        stopped.value.code == 2 and "argument --iterations: invalid int above 0 value: '0'" in capsys.readouterr().err
    )

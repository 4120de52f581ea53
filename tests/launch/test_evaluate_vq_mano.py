"""The suite of the tokenizer, on a random one, beside FreiHAND's alignment done hand by hand in float64."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from data_pipelines.poses import make_loader
from handjax.errors import ConfigError, InputError
from handjax.hand.model import load_open_hand, mirror_pose
from handjax.hand.rotations import axis_angle_to_matrix
from handjax.metrics.alignment import procrustes_align
from handjax.record import HandRecord
from handjax.recovery.posing import pose_hands
from handjax.recovery.tokenizer import save_tokenizer
from launch import evaluate, evaluate_vq_mano
from tests.recovery.tiny_models import CODES, random_tokenizer

POSES = 12


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    save_tokenizer(random_tokenizer(), tmp_path)
    monkeypatch.setattr(evaluate_vq_mano, "BATCH", 8)

    def run(*words):
        argv = ["launch.evaluate", "--suite", "vq_mano", "--limit", POSES, "--json", "--model", tmp_path, *words]
        monkeypatch.setattr(sys, "argv", list(map(str, argv)))
        assert evaluate.main() == 0
        return {item["name"]: item for item in json.loads(capsys.readouterr().out)["items"]}

    return run


def _poses():
    batches = iter(make_loader(ConfigDict({"hand_model": ""}), {}, 8, seed=0, split="eval"))
    first, second = next(batches), next(batches)
    return [np.concatenate([first[name], second[name]])[:POSES] for name in ("pose", "betas")]


@pytest.mark.slow
def test_figures_are_those_of_held_out_poses(run, tmp_path):
    pose, betas = map(jnp.asarray, _poses())
    tokenizer = random_tokenizer()

    def apply(method, value):
        return tokenizer.network.apply({"params": tokenizer.params}, value, method=method)

    rotations = axis_angle_to_matrix(pose)
    latents, codebook = np.float64(apply("encode", rotations)), np.float64(tokenizer.codebook)
    tokens = np.linalg.norm(latents[:, :, None] - codebook, axis=-1).argmin(-1)
    pairs = [pose_hands(load_open_hand(), r, betas) for r in (apply("decode", tokenizer.codebook[tokens]), rotations)]
    save_tokenizer(random_tokenizer(32), tmp_path / "other")
    both, sizes = run(tmp_path / "other", "--out", tmp_path / "out"), ["16 tokens of 12×4", "32 tokens of 12×4"]
    figures = {name.removeprefix(f"{sizes[0]}/"): item for name, item in both.items()}
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["settings"]["models"] == sizes
    for name, part in (("pa_mpjpe_mm", "keypoints"), ("pa_mpvpe_mm", "vertices")):
        made, truth = (np.float64(getattr(posed, part)) for posed in pairs)
        expected = 1000 * np.linalg.norm(procrustes_align(made, truth) - truth, axis=-1).mean()
        assert figures[name]["value"] == pytest.approx(expected, rel=1e-3) and figures[name]["poses"] == POSES
        assert figures[name]["value"] != both[f"{sizes[1]}/{name}"]["value"] > 0
    shares = np.bincount(tokens.ravel(), minlength=CODES) / tokens.size
    assert figures["usage"]["value"] == pytest.approx((shares > 0).mean())
    used = shares[shares > 0]
    assert figures["perplexity"]["value"] == pytest.approx(np.exp(-(used * np.log(used)).sum()), rel=1e-5)


def test_poses_of_records_are_those_of_right_hands(monkeypatch, run):
    pose, betas = np.full((16, 3), 0.2, np.float32), np.zeros(10, np.float32)
    left = np.asarray(mirror_pose(jnp.asarray(pose)))
    hands = [("right", pose), ("left", left)] * 6
    records = [HandRecord("a", b"", side=side, hand_model="open_hand", pose=p, betas=betas) for side, p in hands]
    monkeypatch.setattr(evaluate_vq_mano, "open_records", lambda path, split: records if split == "eval" else None)
    low, high = run("--data", "records")["pa_mpvpe_mm"]["interval_95"]
    assert high - low < 1e-3  # all alike
    monkeypatch.setattr(evaluate_vq_mano, "open_records", lambda path, split: [HandRecord("b", b"")])
    with pytest.raises(InputError, match="no record has a pose of open_hand"):
        run("--data", "records")


def test_tokenizers_of_the_same_sizes_are_not_mixed_up(run, tmp_path):
    with pytest.raises(ConfigError, match="another tokenizer has 16 tokens of 12×4 too"):
        run(tmp_path)


def test_the_errors_of_a_run_are_drawn_by_its_steps(run, tmp_path):
    folder, out = tmp_path / "run", tmp_path / "out"
    with pytest.raises(ConfigError, match="give the --workdir of a launch.train run"):
        run("--runs", folder, "--out", out)
    folder.mkdir()
    config = {"network": {"tokens": 32}, "quantizer": {"codes": 12, "dim": 4}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="nothing of held-out poses"):
        run("--runs", folder, "--out", out)
    lines = [{"step": 0, "eval/pa_mpjpe_mm": 30.0}, {"step": 5, "loss": 1.0}, {"step": 10, "eval/pa_mpjpe_mm": 3.0}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ConfigError, match="name it by --out"):
        run("--runs", folder)
    run("--runs", folder, "--out", out)
    curves = json.loads((out / "figures.json").read_text())["curves"]
    assert curves == {"32 tokens of 12×4": {"step": [0, 10], "pa_mpjpe_mm": [30.0, 3.0]}}
    assert (out / "curve.png").stat().st_size > 1000

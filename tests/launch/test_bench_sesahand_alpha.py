"""The sweep of α: figures from verdicts that are made up, and pictures of a ControlNet with random weights."""

import dataclasses
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from handjax.adapters.controlnet import ControlNet, ControlNetConfig, copy_encoder, initial_controlnet
from handjax.adapters.files import save_controlnet
from handjax.diffusion.model import load_stable_diffusion
from handjax.errors import ConfigError, WeightsError
from handjax.perception import DetectedHand
from launch import bench, bench_sesahand_alpha
from launch.assets import alpha_picture
from launch.bench import describe
from launch.bench_sesahand_alpha import ALPHAS, Judged, captions_item, changes, figures_of, keypoint_errors
from launch.judge import Verdicts
from launch.paper_tables import painting

GOOD, BAD, MISSED = Verdicts("plausible", "plausible", 0.9), Verdicts("implausible", None, 0.6), Verdicts(None, None)
BEFORE = Judged([BAD, MISSED, BAD, GOOD], [8.0, 20.0, 6.0, 4.0])
AFTER = Judged([GOOD, GOOD, BAD, MISSED], [5.0, 9.0, 7.0, 12.0])
SIDE = 96


def test_changes_are_between_pictures_of_the_same_noise():
    items = {item["name"]: item for item in (*figures_of(0.0, BEFORE), *figures_of(2.0, AFTER))}
    items |= {item["name"]: item for item in changes(2.0, BEFORE, AFTER)}
    ours = {name: item["ours"] for name, item in items.items()}
    assert ours["alpha=0, hands found"] == 3 / 4 and ours["alpha=2, change of hands found"] == 0
    assert ours["alpha=0, confidence, misses 0"] == pytest.approx((0.6 + 0.6 + 0.9) / 4)
    assert ours["alpha=2, change of confidence"] == pytest.approx((0.3 + 0.9 + 0 - 0.9) / 4)
    assert ours["alpha=0, mpjpe_2d_px_self"] == 38 / 4
    assert ours["alpha=2, change of mpjpe_2d_px_self"] == pytest.approx((-3 - 11 + 1 + 8) / 4)
    assert ours["alpha=0, implausible (whole)"] == 2 / 3 and ours["alpha=2, implausible (whole)"] == 1 / 3
    reduction = items["alpha=2, reduction of implausible hands (whole)"]
    assert (reduction["ours"], reduction["pairs"], reduction["mended"]) == (0.5, 2, 1)  # judged both times
    for name, item in items.items():
        low, high = item["interval_95"] or (0, 0)
        assert describe(item) and (item["ours"] is None or low <= item["ours"] <= high), name
    low, high = items["alpha=2, change of mpjpe_2d_px_self"]["interval_95"]
    moved = np.random.default_rng(5).choice([-3, -11, 1, 8], (20_000, 4)).mean(axis=1)
    np.testing.assert_allclose((low, high), np.quantile(moved, (0.025, 0.975)), atol=0.6)


def test_both_pictures_are_read_in_the_box_of_the_conditions_hand():
    rng, told = np.random.default_rng(0), []
    keypoints = rng.uniform(20, 80, (3, 21, 2)).astype(np.float32)
    batch = {"image": np.zeros((3, SIDE, SIDE, 3), np.float32), "keypoints": keypoints}
    images = [np.full((SIDE, SIDE, 3), level, np.uint8) for level in (130, 128, 131)]

    def read(image, boxes):
        told.append(boxes[0])
        off = np.float32([3 * (int(image[0, 0, 0]) - 128), 4 * (int(image[0, 0, 0]) - 128), 0])
        return [DetectedHand.from_landmarks("left", 0.9, np.zeros((21, 3), np.float32) + off, np.zeros((21, 3)))]

    errors = keypoint_errors(SimpleNamespace(read=read), [batch], images)
    np.testing.assert_allclose(errors, [10, 0, 15])  # the photograph, of zeros, is grey: 128
    boxes = [[*hand.min(axis=0), *hand.max(axis=0)] for hand in keypoints for _ in range(2)]
    np.testing.assert_array_equal(told, boxes)


def test_captions_that_alpha_does_not_reach_are_counted():
    words = np.zeros((4, 77), np.float32)
    words[1, 3] = words[2, 5] = words[2, 6] = 1
    item = captions_item([{"hand_tokens": words[:3]}, {"hand_tokens": words[3:]}], 2.0)
    assert (item["part"], item["of"], item["trained_with"]) == (2, 4, 2.0)


def test_the_figures_are_drawn(tmp_path):
    items = [*figures_of(0.0, BEFORE), *figures_of(2.0, AFTER), *changes(2.0, BEFORE, AFTER)]
    alpha_picture.draw({item["name"]: item for item in items}, tmp_path / "alpha.png")
    assert (tmp_path / "alpha.png").stat().st_size > 10_000


@pytest.mark.parametrize("words", [("--data", "records"), ("--controlnet", "exported")])
def test_records_and_a_network_have_to_be_named(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["launch.bench", "sesahand_alpha", *words])
    with pytest.raises(ConfigError, match="name --data and --controlnet"):
        bench.main()


def test_a_network_is_for_this_benchmark_alone(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["launch.bench", "sesahand", "--controlnet", "exported"])
    with pytest.raises(ConfigError, match="--controlnet is for sesahand_alpha"):
        bench.main()


@pytest.mark.slow
def test_pictures_differ_by_alpha_alone(tmp_path, monkeypatch):
    """Those of captions without a word on hands are the same at every α; the others differ more, the larger it is."""
    monkeypatch.setattr(painting, "SAMPLING", dataclasses.replace(painting.SAMPLING, steps=2))
    model = load_stable_diffusion("tiny_inpainting")
    config = ControlNetConfig(dataclasses.replace(model.unet.config, in_channels=4), (8, 8, 8), hand_alpha=2.0)
    network = ControlNet(config)
    params = copy_encoder(model.unet_params, initial_controlnet(network, jax.random.key(0)))
    save_controlnet(network, params, tmp_path / "exported")
    captions = ["a photo of a left hand", "a red tree"]
    words = np.zeros((2, model.tokenizer.length), np.float32)
    words[0, 1 + len(model.tokenizer.bare("a photo of a left"))] = 1
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32),
        "mask": np.ones((2, SIDE, SIDE, 1), np.float32),
        "mesh": rng.uniform(size=(2, SIDE, SIDE, 1)).astype(np.float32),
        "keypoints": rng.uniform(30, 60, (2, 21, 2)).astype(np.float32),
        "input_ids": model.tokenizer(captions),
        "hand_tokens": words,
    }
    made = {}

    def judge_all(judge, images):
        made[len(made)] = np.stack(images)
        return [GOOD] * len(images)

    monkeypatch.setattr(bench_sesahand_alpha, "held_out_examples", lambda *_: iter([batch]))
    monkeypatch.setattr(bench_sesahand_alpha, "make_judge", lambda: None)
    monkeypatch.setattr(bench_sesahand_alpha, "judge_all", judge_all)
    rows = list(bench_sesahand_alpha.bench_sesahand_alpha(1, tmp_path, tmp_path / "exported", 2))
    assert rows[0]["trained_with"] == 2.0 and (rows[0]["part"], rows[0]["of"]) == (1, 2)
    assert len(rows) == 1 + 6 * len(ALPHAS) + 5 * (len(ALPHAS) - 1) and len(made) == len(ALPHAS)
    with_words, without = (np.stack([made[number][row] for number in made]).astype(int) for row in (0, 1))
    np.testing.assert_allclose(without, without[:1].repeat(len(ALPHAS), 0), atol=1)
    apart = [np.abs(pictures - with_words[0]).mean() for pictures in with_words]
    assert apart[0] == 0 and apart[1] > 0.05 and (np.diff(apart) > 0).all()
    with pytest.raises(WeightsError):
        next(bench_sesahand_alpha.bench_sesahand_alpha(1, tmp_path, tmp_path / "absent", 2))

"""Pictures and clips to meshes by the command, as a user types it; detector and tracker are told what they find."""

import base64
import dataclasses
import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from handjax.errors import ConfigError, WeightsError
from handjax.hand.camera import PinholeCamera, project
from handjax.hand.mesh_files import read_mesh
from handjax.images import read_image, write_image
from handjax.inference.scene import confidence_colors
from handjax.perception import DetectedHand
from handjax.recovery.files import save_recovery
from launch import reconstruct
from tests.recovery.tiny_models import CODES, random_model

PLACES = np.random.default_rng(0).uniform(20, 60, (21, 3)).astype(np.float32)
SHAPE = (80, 90, 3)


def hand(side, places=PLACES):
    return DetectedHand.from_landmarks(side, 0.97, places, np.zeros((21, 3), np.float32))


def _other_side(found):
    return dataclasses.replace(found, side="left" if found.side == "right" else "right", score=0.9)


class Told:
    """Finds its hands in bright pictures, the last of them in dim ones; as a tracker, moved by a pixel a frame.

    Of the second frame it holds each hand for the other one, not quite as surely.
    """

    def __init__(self, hands):
        self.hands = hands

    def detect(self, image):
        return self.hands if image.mean() > 100 else self.hands[-1:] if image.any() else []

    def track(self, frames):
        for number, frame in enumerate(frames):
            moved = [hand(each.side, each.keypoints + np.float32(number)) for each in self.detect(frame)]
            found = [_other_side(each) for each in moved] if number == 1 else moved
            yield frame, {3 + place: each for place, each in enumerate(found)}


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_recovery(model, folder)
    return folder


load_once = functools.cache(reconstruct.load_reconstructor)


def call(monkeypatch, *words, hands=()):
    monkeypatch.setattr(reconstruct, "load_reconstructor", load_once)
    for name in ("HandDetector", "HandTracker"):
        monkeypatch.setattr(getattr(reconstruct, name), "load", lambda *_, **__: Told(hands))
    monkeypatch.setattr(sys, "argv", ["launch.reconstruct", *map(str, words)])
    return reconstruct.main()


def write_pictures(folder, *values):
    for number, value in enumerate(values):
        write_image(folder / f"{number}.png", np.full(SHAPE, value, np.uint8))
    return folder


def test_pictures_become_meshes_and_one_failure_leaves_the_others(weights, monkeypatch, tmp_path, capsys):
    pictures, out = write_pictures(tmp_path / "pictures", 200, 50, 0), tmp_path / "out"
    found = [hand("left"), hand("left", PLACES / 20), hand("right")]
    words = ["--model", weights, "--out", out, "--format", "ply", "--side", "left", "--json"]
    status = call(monkeypatch, pictures, *words, hands=found)
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert status == 2 and document["command"] == "reconstruct"
    small, right, none = (error["error"] for error in document["errors"])
    assert "0.png: a hand in a square of " in small and "is too small" in small and "2.png: no hand found" in none
    assert "is a right one by 97%; leave --side away" in right and captured.err.count("\n") == 3
    (item,) = document["items"]
    (only,) = item["hands"]
    mesh = read_mesh(out / "0.png.0.ply")
    assert only["mesh"] == str(out / "0.png.0.ply") and only["side"] == "left" and "scene" not in item
    assert mesh.vertices[:, 2].mean() == pytest.approx(np.mean(only["world"], axis=0)[2], rel=0.05)
    assert (np.shape(only["pose"]), np.shape(only["betas"]), np.shape(only["keypoints"])) == ((16, 3), (10,), (21, 2))
    world, camera = np.array(only["world"]), only["camera"]
    pixels = world[:, :2] / world[:, 2:] * camera["focal"] + camera["center"]
    np.testing.assert_allclose(pixels, only["keypoints"], atol=0.05)
    assert camera["focal"] == [180, 180]
    assert 0 < only["confidence"] <= 1 and only["log_likelihood"] < 0
    assert only["log_likelihood"] == pytest.approx(np.log(only["token_confidence"]).sum(), rel=1e-2)
    drawn = read_image(item["overlay"])
    assert drawn.shape == SHAPE and (drawn != 200).any() and [*out.glob("1*"), *out.glob("2*")] == []


def test_two_hands_with_hypotheses_reasons_and_a_page(weights, monkeypatch, tmp_path, capsys):
    pictures, out, page = write_pictures(tmp_path / "pictures", 200), tmp_path / "out", tmp_path / "hands.html"
    found = [hand("left"), hand("right", PLACES + np.float32(8))]
    words = ["--hypotheses", "2", "--explain", tmp_path / "why", "--viewer", page, "--format", "glb", "--focal", "300"]
    assert call(monkeypatch, pictures, "--model", weights, "--out", out, "--json", *words, hands=found) == 0
    (item,) = json.loads(capsys.readouterr().out)["items"]
    left, right = item["hands"]
    assert left["betas"] == right["betas"] and left["camera"]["focal"] == [300, 300]
    assert [len(each["hypotheses"]) for each in item["hands"]] == [2, 2]
    first, second = left["hypotheses"]
    assert first["log_likelihood"] >= second["log_likelihood"] and first["betas"] == left["betas"]
    alone = [read_mesh(Path(each["mesh"])).vertices for each in item["hands"]]
    both = read_mesh(Path(item["scene"]))
    np.testing.assert_allclose(both.vertices, np.concatenate(alone), atol=1e-6)
    colors = confidence_colors(np.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(colors, [[0.70, 0.09, 0.17], [0.835, 0.53, 0.57], [0.13, 0.40, 0.67]], atol=1e-6)
    assert both.colors.std(0).max() > 0
    for number in (0, 1):
        assert read_image(tmp_path / "why" / f"0.png.{number}.decoding.png").std() > 0
        ranks = read_image(tmp_path / "why" / f"0.png.{number}.ranks.png")
        assert ranks.shape == (256, 4 * 256, 3)  # of 12 codes there are ranks 1, 7 and 10
        points = read_image(tmp_path / "why" / f"0.png.{number}.points.png")
        assert points.shape == (256, 6 * 256, 3) and (points[:, 256:].max(axis=-1) > 150).any()
    check_page(page, item, alone)


def check_page(page, item, alone):
    """The page needs nothing else, and its geometry is that of the meshes."""
    text = page.read_text()
    assert "://" not in text and " src=" not in text
    data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
    (scene,) = data["scenes"]
    assert [each["label"] for each in scene["hands"] if each["shown"]] == ["0 left", "1 right"]
    assert sum(not each["shown"] for each in scene["hands"]) == 4
    for each, vertices, told in zip(scene["hands"], alone, item["hands"], strict=False):
        points = np.frombuffer(base64.b64decode(each["vertices"]), "<f4").reshape(-1, 3)
        faces = np.frombuffer(base64.b64decode(data["faces"][each["side"]]), "<u2").reshape(-1, 3)
        sure = np.frombuffer(base64.b64decode(each["confidence"]), np.uint8) / 255
        np.testing.assert_allclose(points, vertices, atol=1e-6)
        np.testing.assert_array_equal(faces, read_mesh(Path(told["mesh"])).faces)
        assert len(sure) == len(points) and sure.min() > min(told["joint_confidence"]) - 0.01
        camera = PinholeCamera(np.array(scene["focal"]), np.array(scene["center"]))
        seen = np.asarray(project(camera, points))
        assert np.abs(seen.mean(0) - np.mean(told["keypoints"], axis=0)).max() < 10
    assert (scene["width"], scene["height"]) == (90, 80)
    if shutil.which("node"):
        script = text.rpartition("<script>")[2].partition("</script>")[0]
        subprocess.run(["node", "--check", "-"], input=script, text=True, check=True)


def test_a_clip_becomes_smooth_meshes_and_bad_ones_are_named(weights, monkeypatch, tmp_path, capsys):
    wave, dark = write_pictures(tmp_path / "wave", 200, 190, 180), write_pictures(tmp_path / "dark", 0, 0)
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.gif").write_text("no frames")
    sources = [tmp_path / "empty", tmp_path / "words.gif", dark, wave]
    words = ["--model", weights, "--out", tmp_path / "out", "--video", "--json", "--viewer", tmp_path / "page.html"]
    found = [hand("right"), hand("left", PLACES / 20)]
    assert call(monkeypatch, *sources, *words, hands=found) == 2
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    errors = [error["error"] for error in document["errors"]]
    for error, said in zip(errors, ("holds no pictures", "not a picture", "no hand found", "3 times"), strict=True):
        assert said in error and "\n" not in error
    assert [item["frame"] for item in document["items"]] == [0, 1, 2]
    hands = [each for item in document["items"] for each in item["hands"]]
    assert [each["track"] for each in hands] == [3, 3, 3] and len({tuple(each["betas"]) for each in hands}) == 1
    assert [each["side"] for each in hands] == ["right"] * 3
    steps = np.diff([each["keypoints"][0] for each in hands], axis=0)
    assert (steps > 0).all() and (steps < 1.05).all()  # one pixel a frame, smoothed
    assert len(read_mesh(tmp_path / "out" / "wave" / "000002.3.obj").vertices) > 700
    assert read_image(document["items"][1]["overlay"]).shape == SHAPE
    data = (tmp_path / "page.html").read_text().partition('id="data">')[2].partition("</script>")[0]
    assert len(json.loads(data)["scenes"]) == 3
    with pytest.raises(ConfigError, match="--video follows hands by itself"):
        call(monkeypatch, wave, *words, "--hypotheses", "2")
    with pytest.raises(ConfigError, match="what is made of .*wave would get in its place; choose another folder"):
        call(monkeypatch, wave, *words, "--out", tmp_path)


def test_a_mesh_that_is_not_of_the_hand_that_was_found_is_named(weights, monkeypatch, tmp_path, capsys):
    """Of a random network, which puts the keypoints of all hands into the middle of the crop."""
    pictures = write_pictures(tmp_path / "pictures", 200)
    words = ["--model", weights, "--out", tmp_path / "out"]
    assert call(monkeypatch, pictures, *words, hands=[hand("right")]) == 0
    assert re.search(r"0\.png\.0\.obj  misread: [2-9]\d% of the box off its keypoints\n", capsys.readouterr().out)
    call(monkeypatch, pictures, *words, "--json", hands=[hand("right")])
    (told,) = json.loads(capsys.readouterr().out)["items"][0]["hands"]
    off = np.linalg.norm(np.array(told["keypoints"]) - PLACES[:, :2], axis=1).mean()
    box = np.ptp(PLACES[:, :2], axis=0).max()
    assert told["keypoint_error"] == pytest.approx(off / box, abs=0.03)
    assert reconstruct.describe(told | {"keypoint_error": 0.14}).endswith(".obj")


@pytest.mark.parametrize("words", [("--focal", "0"), ("--focal", "inf"), ("--hypotheses", "-1"), ("--side", "both")])
def test_settings_out_of_range_are_refused(monkeypatch, tmp_path, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        call(monkeypatch, tmp_path, "--out", tmp_path, *words)
    assert stopped.value.code == 2 and f"argument {words[0]}: invalid" in capsys.readouterr().err


def test_a_folder_without_weights_is_refused(monkeypatch, tmp_path):
    with pytest.raises(WeightsError, match="no config.json; give the folder of an exported run of mmhmr.py"):
        call(monkeypatch, tmp_path, "--model", tmp_path, "--out", tmp_path)


def test_weights_that_cannot_be_read_with_are_refused(model, weights, tmp_path):
    save_recovery(model._replace(tokenizer=model.tokenizer._replace(hand="mano")), tmp_path / "mano")
    with pytest.raises(
        ConfigError, match=r"knows mano, not open_hand; as hand model give its MANO_RIGHT.pkl, from http"
    ):
        reconstruct.load_reconstructor(tmp_path / "mano")
    with pytest.raises(WeightsError, match="MANO_RIGHT.pkl"):
        reconstruct.load_reconstructor(tmp_path / "mano", str(tmp_path / "MANO_RIGHT.pkl"))
    shutil.copytree(weights, tmp_path / "mixed")
    other = model.tokenizer._replace(codebook=jax.random.normal(jax.random.key(9), (CODES, 4)))
    save_recovery(model._replace(tokenizer=other), tmp_path / "other")
    shutil.copytree(tmp_path / "other" / "tokenizer", tmp_path / "mixed" / "tokenizer", dirs_exist_ok=True)
    with pytest.raises(WeightsError, match="not the tokenizer that mmhmr.safetensors was trained with"):
        reconstruct.load_reconstructor(tmp_path / "mixed")
    save_recovery(model._replace(params=jax.tree.map(lambda value: value * np.nan, model.params)), tmp_path / "spoilt")
    with pytest.raises(WeightsError, match="mmhmr.safetensors: .* are NaN or infinite"):
        reconstruct.load_reconstructor(tmp_path / "spoilt")


def test_without_a_model_the_packages_own_is_read(weights, monkeypatch, tmp_path):
    monkeypatch.setattr(reconstruct, "ASSET", weights)
    pictures = write_pictures(tmp_path / "pictures", 200)
    assert call(monkeypatch, pictures, "--out", tmp_path / "out", hands=[hand("right")]) == 0
    assert len(read_mesh(tmp_path / "out" / "0.png.0.obj").vertices) > 700

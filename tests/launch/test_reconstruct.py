"""Pictures to meshes by the command, as a user types it; the detector is told what it finds."""

import json
import sys

import numpy as np
import pytest

from handjax.errors import WeightsError
from handjax.hand.mesh_files import read_mesh
from handjax.images import read_image, write_image
from handjax.perception import DetectedHand
from handjax.recovery.files import save_recovery
from launch import reconstruct
from tests.recovery.tiny_models import random_model


class ToldDetector:
    """Finds two hands, the second too small to be read, in pictures that are not black."""

    def detect(self, image):
        if not image.any():
            return []
        places = np.random.default_rng(0).uniform(20, 60, (21, 3)).astype(np.float32)
        world = np.zeros((21, 3), np.float32)
        return [DetectedHand.from_landmarks("left", 1.0, points, world) for points in (places, places / 20)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_recovery(random_model(), folder)
    return folder


def call(monkeypatch, *words):
    monkeypatch.setattr(reconstruct.HandDetector, "load", lambda *_, **__: ToldDetector())
    monkeypatch.setattr(sys, "argv", ["launch.reconstruct", *map(str, words)])
    return reconstruct.main()


def test_pictures_become_meshes_and_one_failure_leaves_the_others(weights, monkeypatch, tmp_path, capsys):
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    write_image(pictures / "a.png", np.full((80, 90, 3), 200, np.uint8))
    write_image(pictures / "b.png", np.zeros((80, 90, 3), np.uint8))
    status = call(monkeypatch, pictures, "--model", weights, "--out", out, "--format", "ply", "--json")
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert status == 2 and document["command"] == "reconstruct"
    assert [error["input"].rpartition("/")[2] for error in document["errors"]] == ["a.png", "b.png"]
    assert "too small" in document["errors"][0]["error"] and "no hand found" in document["errors"][1]["error"]
    (item,) = document["items"]
    (hand,) = item["hands"]
    mesh = read_mesh(out / "a.png.0.ply")
    assert hand["mesh"] == str(out / "a.png.0.ply") and hand["side"] == "left"
    assert mesh.vertices[:, 2].mean() == pytest.approx(hand["camera"]["translation"][2], rel=0.05)
    assert (np.shape(hand["pose"]), np.shape(hand["betas"]), np.shape(hand["keypoints"])) == ((16, 3), (10,), (21, 2))
    world, camera = np.array(hand["world"]), hand["camera"]
    pixels = world[:, :2] / world[:, 2:] * camera["focal"] + camera["center"]
    np.testing.assert_allclose(pixels, hand["keypoints"], atol=0.05)
    assert 0 < hand["confidence"] <= 1 and hand["log_likelihood"] < 0
    drawn = read_image(item["overlay"])
    assert drawn.shape == (80, 90, 3) and (drawn != 200).any() and not (out / "b.png.png").exists()


def test_a_folder_without_weights_is_refused(monkeypatch, tmp_path):
    with pytest.raises(WeightsError, match="no config.json"):
        call(monkeypatch, tmp_path, "--model", tmp_path, "--out", tmp_path)


def test_without_a_model_the_packages_own_is_read(weights, monkeypatch, tmp_path):
    monkeypatch.setattr(reconstruct, "ASSET", weights)
    write_image(tmp_path / "a.png", np.full((80, 90, 3), 200, np.uint8))
    call(monkeypatch, tmp_path / "a.png", "--out", tmp_path / "out")
    assert len(read_mesh(tmp_path / "out" / "a.png.0.obj").vertices) > 700

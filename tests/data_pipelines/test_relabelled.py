"""Records with what a network reads; the network is told what it reads."""

import dataclasses
import io
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from data_pipelines import relabelled
from data_pipelines.features import open_records
from data_pipelines.prepared import PreparedRecords
from data_pipelines.relabelled import RelabelledJob
from handjax.errors import InputError, WeightsError
from handjax.hand.camera import default_camera
from handjax.inference.reconstruct import HandReconstructor
from handjax.inference.scene import ReconstructedHand
from handjax.recovery.files import save_recovery
from launch import precompute
from tests.data_pipelines.conftest import SIDE, make_record
from tests.recovery.tiny_models import random_model

POSE, BETAS = np.full((16, 3), 0.25, np.float32), np.full(10, 0.5, np.float32)
DEPTH = 0.7
TRIANGLE = [7, 10, 15]  # a large one among the keypoints of record 3


class ToldReconstructor(HandReconstructor):
    """Reads hands of fixed pose and shape that are seen at the keypoints, moved by a share of the picture."""

    def __init__(self, *_, moved=0.0):
        self._moved = moved

    def read(self, image, hand, with_cue=True, camera=None):
        camera = default_camera(*image.shape[:2])
        places = hand.keypoints[:, :2] + self._moved * len(image)
        points = np.column_stack([DEPTH * (places - camera.center) / camera.focal, np.full(21, DEPTH)])
        points = points.astype(np.float32)
        faces = np.array([TRIANGLE, TRIANGLE[::-1]], np.int32)
        ones, none = np.ones(16, np.float32), np.zeros(3, np.float32)
        sure = {"confidence": ones, "token_confidence": ones, "vertex_confidence": np.ones(21), "log_likelihood": -1.0}
        return ReconstructedHand(
            hand.side, POSE, BETAS, none, points, faces, points, places, **sure, keypoint_error=0.0
        )


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    save_recovery(random_model(), folder)
    return folder


def test_the_mesh_is_that_of_the_network_and_all_else_stays():
    record = make_record(3)
    made = relabelled.relabelled(record, ToldReconstructor(), "open_hand")
    np.testing.assert_array_equal(made.pose, POSE)
    np.testing.assert_array_equal(made.betas, BETAS)
    assert made.hand_model == "open_hand" and made.side == "left"
    for name in ("id", "image", "caption", "keypoints_2d", "keypoints_3d", "skeleton", "edit", "fingers"):
        assert getattr(made, name) is getattr(record, name), name
    focal, center = made.camera[:2], made.camera[2:]
    assert center.tolist() == [SIDE / 2, SIDE / 2] and (focal > SIDE).all()
    # the triangle of three keypoints is what is seen, in a picture of 128 pixels
    mask = np.asarray(Image.open(io.BytesIO(made.mask))) > 0
    corners = record.keypoints_2d[TRIANGLE, :2] * 128 / SIDE
    (x0, y0), (x1, y1), (x2, y2) = corners
    area = abs((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)) / 2
    assert mask.shape == (128, 128) and mask.sum() == pytest.approx(area, rel=0.03) and area > 1000
    np.testing.assert_allclose(np.argwhere(mask).mean(axis=0)[::-1] + 0.5, corners.mean(axis=0), atol=0.5)


def test_meshes_elsewhere_and_hands_without_keypoints_are_refused():
    with pytest.raises(InputError, match="hand-3: the mesh is off by 28% of the hand's box"):
        relabelled.relabelled(make_record(3), ToldReconstructor(moved=0.1), "open_hand")
    for missing in ({"side": None}, {"keypoints_2d": None}):
        with pytest.raises(InputError, match="has no side or not all keypoints"):
            relabelled.relabelled(dataclasses.replace(make_record(3), **missing), ToldReconstructor(), "open_hand")


def test_the_command_writes_records_of_the_same_splits(prepared, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(relabelled, "HandReconstructor", ToldReconstructor)
    words = [f"relabelled:{prepared}", "--recovery", weights, "--output", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["precompute", *map(str, words), "--workers", "1", "--json"])
    assert precompute.main() == 2  # record 0 is a picture only
    manifest = json.loads(capsys.readouterr().out)["items"][0]
    assert manifest["records"] == {"train": 22, "eval": 3} and manifest["failures"]["counts"] == {"not read": 1}
    records = [record for split in ("train", "eval") for record in open_records(tmp_path / "out", split)]
    before = {record.id: record for split in ("train", "eval") for record in open_records(prepared, split)}
    for record in records:
        np.testing.assert_array_equal(record.pose, POSE)
        assert record.image == before[record.id].image and record.caption == before[record.id].caption


def test_other_weights_and_other_records_are_read_anew(prepared, weights, tmp_path):
    shutil.copytree(weights, tmp_path / "copy")
    records = PreparedRecords(prepared)
    job = RelabelledJob(records, tmp_path / "copy")
    settings = job.settings()
    assert settings == RelabelledJob(records, weights).settings()
    (tmp_path / "copy" / "config.json").write_text("{}")
    assert job.settings() != settings and job.states(["train:0"]) == RelabelledJob(records, tmp_path).states(["a"])
    with pytest.raises(WeightsError, match="no such folder; give --recovery"):
        RelabelledJob(records, tmp_path / "nowhere")

"""RHD in the layout that its authors' reader takes: github.com/lmb-freiburg/hand3d, create_binary_db.py (paths, keys,
shapes), data/BinaryDbReader.py (left hand first, part numbers), README of RHD_v1-1.zip (keypoints from tip to palm).
"""

import json

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import decode_image, write_image
from tests.data_pipelines.datasets.truth import (
    check_mesh,
    check_record,
    check_space,
    matrix,
    picture_of,
    pixels_of,
    prepare,
    true_hand,
)
from tests.hand.mano_files import write_python2

SIZE = (320, 320)
K = matrix(290.0, (160.0, 160.0))
# README: 0 wrist, 1-4 thumb [tip to palm], 5-8 index, ..., 17-20 pinky
OPENPOSE_OF_RHD = [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17]
HIDDEN = 7
"""OpenPose's number of a keypoint that something hides."""


def write_rhd(folder):
    """Picture 0 of training shows both hands, picture 1 the right one; evaluation shows the left one."""
    left = true_hand(1, "left", K, SIZE, (110, 150))
    right = true_hand(2, "right", K, SIZE, (220, 190), depth=0.6)
    away = true_hand(3, "left", K, SIZE, (-300, 160))
    pictures = {("training", 0): (left, right), ("training", 1): (away, right), ("evaluation", 0): (left, away)}
    for part in ("training", "evaluation"):
        entries = {}
        for (its_part, number), pair in pictures.items():
            if its_part == part:
                entries[number] = _write_picture(folder / part, number, *pair)
        write_python2(folder / part / f"anno_{part}.pickle", entries)
    return left, right


def _write_picture(folder, number, left, right):
    parts = np.ones(SIZE, np.uint8)
    parts[:40] = 0
    parts[left.mask] = np.where(np.arange(left.mask.sum()) % 2, 2, 17)
    parts[right.mask] = np.where(np.arange(right.mask.sum()) % 2, 18, 33)
    write_image(folder / "color" / f"{number:05d}.png", picture_of((left, right), SIZE))
    write_image(folder / "mask" / f"{number:05d}.png", parts)
    write_image(folder / "depth" / f"{number:05d}.png", np.zeros((*SIZE, 3), np.uint8))
    points = np.concatenate([hand.points[OPENPOSE_OF_RHD] for hand in (left, right)])
    pixels = pixels_of(points, K)
    seen = ((pixels >= 0) & (pixels < 320)).all(axis=1) * 1.0
    seen[OPENPOSE_OF_RHD.index(HIDDEN)] = 0.0
    uv_vis = np.column_stack([pixels, seen])
    return {"xyz": points.astype(np.float32), "uv_vis": uv_vis.astype(np.float32), "K": K.astype(np.float32)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rhd")
    left, right = write_rhd(folder / "RHD_published_v2")
    with pytest.MonkeyPatch.context() as patch:
        records = prepare(patch, f"rhd:{folder / 'RHD_published_v2'}", folder / "out")
    return records, left, right, json.loads((folder / "out" / "manifest.json").read_text())


def test_every_hand_that_is_seen_becomes_a_record_in_its_split(made):
    records, _, _, manifest = made
    assert set(records["train"]) == {"training/00000#0", "training/00000#1", "training/00001#1"}
    assert set(records["eval"]) == {"evaluation/00000#0"}
    assert manifest["pictures"] == 3
    assert manifest["failures"] == {"counts": {"too few keypoints are seen": 2}, "items": []}


def test_keypoints_come_in_our_order_metres_and_pixels(made):
    records, left, right, _ = made
    both = picture_of((left, right), SIZE)
    for record, hand, picture in (
        (records["train"]["training/00000#0"], left, both),
        (records["train"]["training/00000#1"], right, both),
        (records["train"]["training/00001#1"], right, picture_of((right,), SIZE)),
        (records["eval"]["evaluation/00000#0"], left, picture_of((left,), SIZE)),
    ):
        corner = check_record(record, hand, picture)
        check_space(record, hand)
        check_mesh(record, hand, corner)
        assert record.hand_model == "open_hand" and record.pose.shape == (16, 3)
        assert record.source == f"rhd:{record.id.split('#')[0]}" and "research" in record.licence
        assert record.caption.startswith("a rendered photo of") and f"{hand.side} hand" in record.caption


def test_a_hidden_keypoint_keeps_its_place_and_loses_its_confidence(made):
    left = made[0]["train"]["training/00000#0"]
    assert left.keypoints_2d[HIDDEN, 2] == 0 and left.keypoints_2d[:, 2].sum() == 20
    assert (made[0]["train"]["training/00000#1"].keypoints_2d[:, 2] == 1).all()


def test_the_mask_holds_the_parts_of_its_own_hand(made):
    records, left, right, _ = made
    both = picture_of((left, right), SIZE)
    for number, hand, hider in ((0, left, right), (1, right, None)):
        record = records["train"][f"training/00000#{number}"]
        x, y = check_record(record, hand, both).astype(int)
        mask = decode_image(record.mask, "mask")[..., 0] > 0
        seen = hand.mask & ~hider.mask if hider else hand.mask
        rows, columns = (np.clip(np.arange(len(mask)) + first, 0, 319) for first in (y, x))
        np.testing.assert_array_equal(mask, seen[rows[:, None], columns])


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "training" / "anno_training.pickle").unlink(), "anno_training.pickle: missing"),
        (lambda folder: (folder / "training" / "anno_training.pickle").write_bytes(b""), "the file is empty"),
        (lambda folder: (folder / "training" / "anno_training.pickle").write_bytes(b"\x80\x02}"), "no pickle"),
        (lambda folder: (folder / "training" / "mask" / "00001.png").unlink(), "mask/00001.png: missing"),
        (lambda folder: (folder / "evaluation" / "color" / "00000.png").unlink(), "color/00000.png: missing"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, damage, text):
    write_rhd(tmp_path / "rhd")
    damage(tmp_path / "rhd")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"rhd:{tmp_path / 'rhd'}", tmp_path / "out")
    assert "RenderedHandposeDataset" in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()

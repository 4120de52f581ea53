"""MPII+NZSL in the layout that github.com/MengHao666/Minimal-Hand-pytorch, datasets/hand_labels.py, reads:
folders manual_train and manual_test, beside each .jpg a .json with `hand_pts` and `is_left`.
"""

import json

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import write_image
from tests.data_pipelines.datasets.truth import check_mesh, check_record, matrix, picture_of, prepare, true_hand

SIZE = (240, 320)
K = matrix(400.0, (160.0, 120.0))
UNKNOWN = 20


def write_pair(folder, name, hand, unknown=()):
    triples = np.column_stack([hand.pixels, np.ones(21)])
    triples[list(unknown)] = 0.0
    entry = {
        "hand_pts": triples.tolist(),
        "hand_box_center": hand.pixels.mean(axis=0).tolist(),
        "is_left": float(hand.side == "left"),
        "mpii_image": "015374503.jpg",
        "mpii_annorect_idx": 1.0,
    }
    write_image(folder / f"{name}.jpg", picture_of((hand,), SIZE))
    (folder / f"{name}.json").write_text(json.dumps(entry))


def write_labels(folder):
    left = true_hand(17, "left", K, SIZE, (150, 120), depth=0.7)
    right = true_hand(18, "right", K, SIZE, (180, 110), depth=0.7)
    for part in ("manual_train", "manual_test"):
        (folder / part).mkdir(parents=True)
    write_pair(folder / "manual_train", "015374503_01_l", left)
    write_pair(folder / "manual_train", "Example_0012_r", right)
    write_pair(folder / "manual_test", "072923551_01_r", right, unknown=[UNKNOWN])
    return left, right


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mpii_nzsl")
    left, right = write_labels(folder / "hand_labels")
    with pytest.MonkeyPatch.context() as patch:
        return prepare(patch, f"mpii_nzsl:{folder / 'hand_labels'}", folder / "out"), left, right


def test_every_pair_becomes_a_record(made):
    records, left, right = made
    hands = {"manual_train/015374503_01_l#0": left, "manual_train/Example_0012_r#0": right}
    assert set(records["train"]) == set(hands) and set(records["eval"]) == {"manual_test/072923551_01_r#0"}
    for name, hand in hands.items():
        record = records["train"][name]
        check_mesh(record, hand, check_record(record, hand, picture_of((hand,), SIZE)))
        assert (record.keypoints_2d[:, 2] == 1).all() and record.keypoints_3d is None


def test_a_keypoint_without_annotation_has_no_place(made):
    records, _, right = made
    keypoints = records["eval"]["manual_test/072923551_01_r#0"].keypoints_2d
    corner = np.round((right.pixels - keypoints[:, :2])[0])
    known = np.arange(21) != UNKNOWN
    np.testing.assert_allclose(keypoints[known, :2] + corner, right.pixels[known], atol=5e-3)
    assert keypoints[UNKNOWN, 2] == 0 and (keypoints[known, 2] == 1).all()


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "manual_test/072923551_01_r.json").unlink(), "072923551_01_r.json: missing"),
        (lambda folder: (folder / "manual_train/015374503_01_l.jpg").unlink(), "015374503_01_l.jpg: missing"),
        (lambda folder: (folder / "manual_test").rename(folder / "else"), "manual_test: missing"),
        (lambda folder: (folder / "manual_test/072923551_01_r.json").write_text('{"is_left": 1}'), "no 21 hand_pts"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, damage, text):
    write_labels(tmp_path / "labels")
    damage(tmp_path / "labels")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"mpii_nzsl:{tmp_path / 'labels'}", tmp_path / "out")
    assert "http://domedb.perception.cs.cmu.edu/handdb.html" in str(caught.value) and "\n" not in str(caught.value)

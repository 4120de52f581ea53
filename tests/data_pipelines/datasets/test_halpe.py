"""Halpe in the layout of github.com/Fang-Haoshu/Halpe-FullBody, README (136 keypoints: left hand 94-114, right hand
115-135) and vis.py (lists of the file), in the folders of github.com/MVIG-SJTU/AlphaPose, docs/INSTALL.md.
"""

import json

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import write_image
from tests.data_pipelines.datasets.truth import check_mesh, check_record, matrix, picture_of, prepare, true_hand

SIZE = (240, 320)
K = matrix(400.0, (160.0, 120.0))
UNKNOWN = 16


def person(image, left=None, right=None, score=1.0):
    """136 keypoints; body and face are of no interest here."""
    triples = np.full((136, 3), 7.0)
    triples[94:] = 0.0
    for hand, first in ((left, 94), (right, 115)):
        if hand is not None:
            triples[first : first + 21] = np.column_stack([hand.pixels - 0.5, np.full(21, score)])
    return {
        "image_id": image,
        "id": image,
        "category_id": 1,
        "bbox": [0, 0, 9, 9],
        "keypoints": triples.ravel().tolist(),
    }


def write_halpe(folder):
    left = true_hand(15, "left", K, SIZE, (90, 120), depth=0.8)
    right = true_hand(16, "right", K, SIZE, (225, 120), depth=0.8)
    low = person(3, left=left)
    low["keypoints"][3 * (94 + UNKNOWN) + 2] = 0.3
    parts = {
        "train": (
            "train2015",
            {1: "HICO_train2015_00000001.jpg", 2: "HICO_train2015_00000002.jpg"},
            [person(1, left, right, score=2.0), {"image_id": 1, "id": 5, "bbox": [0, 0, 1, 1]}, person(2)],
        ),
        "val": ("val2017", {3: "000000000139.jpg"}, [low]),
    }
    (folder / "annotations").mkdir(parents=True)
    for part, (place, names, annotations) in parts.items():
        images = [{"id": n, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for n, name in names.items()]
        content = {"info": {}, "categories": [], "images": images, "annotations": annotations}
        (folder / "annotations" / f"halpe_{part}_v1.json").write_text(json.dumps(content))
        for number, name in names.items():
            shown = {1: (left, right), 2: (), 3: (left,)}[number]
            write_image(folder / "images" / place / name, picture_of(shown, SIZE))
    return left, right


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("halpe")
    left, right = write_halpe(folder / "halpe")
    with pytest.MonkeyPatch.context() as patch:
        return prepare(patch, f"halpe:{folder / 'halpe'}", folder / "out"), left, right


def test_both_hands_of_a_person_become_records(made):
    records, left, right = made
    names = [f"train2015/HICO_train2015_00000001#{n}" for n in (0, 1)]
    assert set(records["train"]) == set(names) and set(records["eval"]) == {"val2017/000000000139#0"}
    both = picture_of((left, right), SIZE)
    for name, hand in zip(names, (left, right), strict=True):
        record = records["train"][name]
        check_mesh(record, hand, check_record(record, hand, both))
        assert (record.keypoints_2d[:, 2] == 1).all() and record.keypoints_3d is None


def test_a_keypoint_of_low_score_has_no_place(made):
    records, left, _ = made
    keypoints = records["eval"]["val2017/000000000139#0"].keypoints_2d
    corner = np.round((left.pixels - keypoints[:, :2])[0])
    known = np.arange(21) != UNKNOWN
    np.testing.assert_allclose(keypoints[known, :2] + corner, left.pixels[known], atol=5e-3)
    assert keypoints[UNKNOWN, 2] == 0 and (keypoints[known, 2] == 1).all()
    assert np.abs(keypoints[UNKNOWN, :2] + corner - left.pixels[UNKNOWN]).max() > 1e-3


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "annotations/halpe_train_v1.json").unlink(), "halpe_train_v1.json: missing"),
        (lambda folder: (folder / "images/val2017/000000000139.jpg").unlink(), "val2017/000000000139.jpg: missing"),
        (
            lambda folder: (folder / "annotations/halpe_val_v1.json").write_text(
                json.dumps({"images": [{"id": 1}], "annotations": [{"image_id": 1, "keypoints": [0] * 51}]})
            ),
            "a person of 17 keypoints, not 136",
        ),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, damage, text):
    write_halpe(tmp_path / "halpe")
    damage(tmp_path / "halpe")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"halpe:{tmp_path / 'halpe'}", tmp_path / "out")
    assert "https://github.com/Fang-Haoshu/Halpe-FullBody" in str(caught.value) and "\n" not in str(caught.value)

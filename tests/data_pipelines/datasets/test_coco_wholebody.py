"""COCO-WholeBody in the layout of github.com/jin-s13/COCO-WholeBody: data_format.md (fields, 0-indexed keypoints, zeros
where a hand is not valid), evaluation/example_gt.json (lists of the file), and the folders of COCO 2017. Captions as
cocodataset.org/#format-data (caption generation) gives them.
"""

import json

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import write_image
from tests.data_pipelines.datasets.truth import check_mesh, check_record, matrix, picture_of, prepare, true_hand

SIZE = (240, 320)
K = matrix(400.0, (160.0, 120.0))
UNKNOWN, DOUBTFUL = 4, 12
ZEROS = [0.0] * 63


def hand_list(hand, kept=range(21)):
    """x, y, v; the first pixel's centre is 0."""
    triples = np.column_stack([hand.pixels - 0.5, np.ones(21)])
    triples[DOUBTFUL, 2] = 0.4
    triples[[k for k in range(21) if k not in kept]] = 0.0
    return triples.ravel().tolist()


def person(number, image, left=ZEROS, right=ZEROS):
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [0.0, 0.0, 1.0, 1.0],
        "keypoints": [0] * 51,
        "num_keypoints": 0,
        "lefthand_kpts": left,
        "righthand_kpts": right,
        "lefthand_valid": left is not ZEROS,
        "righthand_valid": right is not ZEROS,
        "lefthand_box": [0.0] * 4,
        "righthand_box": [0.0] * 4,
    }


def write_coco(folder):
    """Photo 785 shows the left hand of one and the right hand of another person, photo 9 a face; val shows the left."""
    left = true_hand(13, "left", K, SIZE, (90, 120), depth=0.8)
    right = true_hand(14, "right", K, SIZE, (225, 120), depth=0.8)
    people = [person(2, 785, right=hand_list(right)), person(1, 785, left=hand_list(left)), person(3, 9)]
    parts = {
        "train": ([785, 9], people, {785: (left, right), 9: ()}),
        "val": ([139], [person(4, 139, left=hand_list(left, kept=set(range(21)) - {UNKNOWN}))], {139: (left,)}),
    }
    (folder / "annotations").mkdir(parents=True)
    for part, (numbers, annotations, shown) in parts.items():
        images = [{"id": n, "file_name": f"{n:012d}.jpg", "height": SIZE[0], "width": SIZE[1]} for n in numbers]
        whole = {"info": {}, "licenses": [], "categories": [], "images": images, "annotations": annotations}
        (folder / "annotations" / f"coco_wholebody_{part}_v1.0.json").write_text(json.dumps(whole))
        captions = [
            {"image_id": n, "id": 10 * n - k, "caption": f"Caption {k}\n of {n}. "} for n in numbers for k in (0, 1)
        ]
        said = {"info": {}, "images": images, "licenses": [], "annotations": captions}
        (folder / "annotations" / f"captions_{part}2017.json").write_text(json.dumps(said))
        for number, hands in shown.items():
            write_image(folder / f"{part}2017" / f"{number:012d}.jpg", picture_of(hands, SIZE))
    return left, right


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    return folder, *write_coco(folder)


@pytest.fixture(scope="module")
def made(coco):
    folder, left, right = coco
    with pytest.MonkeyPatch.context() as patch:
        return prepare(patch, f"coco_wholebody:{folder}", folder / "out"), left, right


def test_every_valid_hand_becomes_a_record(made):
    records, left, right = made
    assert set(records["train"]) == {"train2017/000000000785#0", "train2017/000000000785#1"}
    assert set(records["eval"]) == {"val2017/000000000139#0"}
    both = picture_of((left, right), SIZE)
    for number, hand in ((0, right), (1, left)):
        record = records["train"][f"train2017/000000000785#{number}"]
        check_mesh(record, hand, check_record(record, hand, both))
        assert record.keypoints_3d is None and f"{hand.side} hand" in record.caption


def test_v_is_confidence_and_0_means_that_the_place_is_unknown(made):
    records, left, _ = made
    whole = records["train"]["train2017/000000000785#1"].keypoints_2d
    assert whole[DOUBTFUL, 2] == np.float32(0.4) and whole[:, 2].sum() == pytest.approx(20.4)
    part = records["eval"]["val2017/000000000139#0"].keypoints_2d
    corner = np.round((left.pixels - part[:, :2])[0])
    known = np.arange(21) != UNKNOWN
    np.testing.assert_allclose(part[known, :2] + corner, left.pixels[known], atol=5e-3)
    assert part[UNKNOWN, 2] == 0 and np.abs(part[UNKNOWN, :2] + corner - left.pixels[UNKNOWN]).max() < 30


def test_captions_of_the_photo_join_its_hands(coco, made, tmp_path, monkeypatch):
    folder, left, right = coco
    records = prepare(monkeypatch, f"coco_captions:{folder}", tmp_path / "out")
    captions = {record.caption for record in records["train"].values()}
    assert captions == {"Caption 1 of 785."}  # the least id of the two
    assert {record.caption for record in records["eval"].values()} == {"Caption 1 of 139."}
    for name, record in made[0]["train"].items():
        assert records["train"][name].source == f"coco_captions:{name.split('#')[0]}"
        np.testing.assert_array_equal(records["train"][name].keypoints_2d, record.keypoints_2d)


@pytest.mark.parametrize(
    "name, damage, text",
    [
        (
            "coco_wholebody",
            lambda f: (f / "annotations/coco_wholebody_val_v1.0.json").unlink(),
            "val_v1.0.json: missing",
        ),
        (
            "coco_wholebody",
            lambda f: (f / "annotations/coco_wholebody_train_v1.0.json").write_text('{"a": 1}'),
            "images",
        ),
        (
            "coco_wholebody",
            lambda f: (f / "train2017/000000000785.jpg").unlink(),
            "train2017/000000000785.jpg: missing",
        ),
        (
            "coco_captions",
            lambda f: (f / "annotations/captions_train2017.json").unlink(),
            "captions_train2017.json: missing",
        ),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, name, damage, text):
    write_coco(tmp_path / "coco")
    damage(tmp_path / "coco")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"{name}:{tmp_path / 'coco'}", tmp_path / "out")
    assert "https://cocodataset.org" in str(caught.value) and "\n" not in str(caught.value)

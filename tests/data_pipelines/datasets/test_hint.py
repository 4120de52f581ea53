"""HInt in the layout of github.com/ddshan/hint: README (folders, pairs of files), visualize_HInt/draw_hand.py (keys),
coco_wholebody_hand.py (order: wrist, then thumb to little finger from the palm outwards), prep_HInt/prep_ego4d.py
(sides in file names).
"""

import json

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import write_image
from tests.data_pipelines.datasets.truth import check_mesh, check_record, matrix, picture_of, prepare, true_hand

SIZE = (240, 320)
K = matrix(400.0, (160.0, 120.0))
PARTS = {"train": "TRAIN", "val": "VAL", "eval": "TEST"}
HIDDEN, OUTSIDE = 8, 20
LEFT, RIGHT = "ND_hF55RUAGEfA_frame000601_l", "EK_0064_P03_10_frame_0000000249_r"


def write_pair(folder, name, hand, existence):
    """One hand's picture and annotation; what is outside of the picture stands at its corner."""
    keypoints = np.where(np.array(existence)[:, None] > 0, hand.pixels, 0.0)
    low, high = hand.pixels.min(axis=0), hand.pixels.max(axis=0)
    entry = {
        "bbox": [[*low.tolist(), *high.tolist()]],
        "keypoints": keypoints.tolist(),
        "occlusion": [int(k == HIDDEN) for k in range(21)],
        "existence": existence,
    }
    write_image(folder / f"{name}.jpg", picture_of((hand,), SIZE))
    (folder / f"{name}.json").write_text(json.dumps([entry]))


def write_hint(folder):
    left = true_hand(11, "left", K, SIZE, (120, 120), depth=0.7)
    right = true_hand(12, "right", K, SIZE, (180, 110), depth=0.7)
    for part in ("TRAIN", "VAL", "TEST"):
        for source in ("ego4d_img", "epick_img", "newdays_img", *(["ego4d_seq"] if part != "TRAIN" else [])):
            (folder / f"{part}_{source}").mkdir(parents=True)
        write_pair(folder / f"{part}_newdays_img", LEFT, left, [1] * 21)
        write_pair(folder / f"{part}_epick_img", RIGHT, right, [int(k != OUTSIDE) for k in range(21)])
        (folder / f"{part}_ego4d_img" / "a_b_694_pre_frame_r.json").write_text("[]")  # its picture is not given away
    write_pair(folder / "VAL_ego4d_seq", "a_b_694_pre_frame_r", right, [1] * 21)
    return left, right


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hint")
    left, right = write_hint(folder / "HInt")
    with pytest.MonkeyPatch.context() as patch:
        return prepare(patch, f"hint:{folder / 'HInt'}", folder / "out"), left, right


def test_every_pair_becomes_a_record_and_ego4d_where_its_frames_are(made):
    records, _, _ = made
    names = {split: {f"{part}_newdays_img/{LEFT}#0", f"{part}_epick_img/{RIGHT}#0"} for split, part in PARTS.items()}
    names["val"].add("VAL_ego4d_seq/a_b_694_pre_frame_r#0")
    assert {split: set(found) for split, found in records.items()} == names


def test_keypoints_are_pixels_in_our_order_and_the_name_tells_the_side(made):
    records, left, right = made
    for split, part in PARTS.items():
        record = records[split][f"{part}_newdays_img/{LEFT}#0"]
        check_mesh(record, left, check_record(record, left, picture_of((left,), SIZE)))
        assert record.keypoints_3d is None and record.camera is not None and f"{left.side} hand" in record.caption
    record = records["val"]["VAL_ego4d_seq/a_b_694_pre_frame_r#0"]
    check_mesh(record, right, check_record(record, right, picture_of((right,), SIZE)))


def test_hidden_keypoints_keep_their_place_and_those_outside_have_none(made):
    records, left, right = made
    hidden = records["train"][f"TRAIN_newdays_img/{LEFT}#0"].keypoints_2d
    assert hidden[HIDDEN, 2] == 0 and hidden[:, 2].sum() == 20
    record = records["train"][f"TRAIN_epick_img/{RIGHT}#0"]
    assert record.keypoints_2d[OUTSIDE, 2] == 0 and record.keypoints_2d[:, 2].sum() == 19
    corner = np.round((right.pixels - record.keypoints_2d[:, :2])[0])
    there = np.arange(21) != OUTSIDE
    np.testing.assert_allclose(record.keypoints_2d[there, :2] + corner, right.pixels[there], atol=5e-3)
    # the mesh says where it would be; the corner of the picture, where the file has it, is 100 pixels off
    assert np.abs(record.keypoints_2d[OUTSIDE, :2] + corner - right.pixels[OUTSIDE]).max() < 30


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "TRAIN_newdays_img" / f"{LEFT}.json").unlink(), f"{LEFT}.json: missing"),
        (lambda folder: (folder / "TEST_epick_img" / f"{RIGHT}.jpg").unlink(), f"{RIGHT}.jpg: missing"),
        (lambda folder: (folder / "VAL_epick_img").rename(folder / "else"), "VAL_epick_img: missing"),
        (lambda folder: (folder / "VAL_epick_img" / f"{RIGHT}.json").write_text("[]"), "0 hands, not one"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, damage, text):
    write_hint(tmp_path / "hint")
    damage(tmp_path / "hint")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"hint:{tmp_path / 'hint'}", tmp_path / "out")
    assert "https://github.com/ddshan/hint" in str(caught.value) and "\n" not in str(caught.value)

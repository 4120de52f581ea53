"""MTC in the layout of github.com/CMU-Perceptual-Computing-Lab/MonocularTotalCapture: POF/data/DomeReader.py (keys of
both pickles, names of pictures), POF/utils/keypoint_conversion.py (a4_to_main turns each finger round, to tip first);
centimetres and lenses as in github.com/CMU-Perceptual-Computing-Lab/panoptic-toolbox.
"""

import dataclasses
import pickle

import cv2
import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import write_image
from tests.data_pipelines.datasets.truth import check_record, matrix, picture_of, prepare, true_hand
from tests.hand.test_mano import rotation

SIZE = (270, 480)
K = matrix(375.0, (237.5, 136.5))
"""Of pixels whose first is centred at (0.5, 0.5)."""
LENS = np.array([-0.25, 0.15, 0.001, -0.0008, 0.05])
R = rotation(np.array([0.2, -1.9, 0.6]))
T = np.array([[3.0], [90.0], [260.0]])
SEQUENCE, FRAME = "171026_pose1", "00003950"
HIDDEN = 11
VIEWS = (0, 7, 12, 20)
"""The last has no picture; in the one before it the hands overlap."""


def seen_through_lens(hand):
    """With the pixels at which OpenCV sees it."""
    plain = K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    pixels, _ = cv2.projectPoints(hand.points, np.zeros(3), np.zeros(3), plain, LENS)
    return dataclasses.replace(hand, pixels=pixels[:, 0] + 0.5)


def annotated(hand, views):
    world = (hand.points * 100 - T[:, 0]) @ R
    occluded = [number == HIDDEN for number in range(21)]
    one = {"occluded": occluded, "insideImg": [True] * 21}
    return {"landmarks": world.ravel().tolist(), "2D": {view: one | {"overlap": view == VIEWS[2]} for view in views}}


def write_mtc(folder, left, right):
    """A training frame of both hands, of which view 7 sees the right one only, and one of the left hand for testing."""
    frames = [{"seqName": SEQUENCE, "frame_str": FRAME, "id": 0, "body": {"landmarks": [0.0] * 57}} for _ in range(2)]
    frames[0] |= {"left_hand": annotated(left, (0, *VIEWS[2:])), "right_hand": annotated(right, VIEWS)}
    frames[1] |= {"left_hand": annotated(left, (0,)), "frame_str": "00009999"}
    folder.mkdir(parents=True, exist_ok=True)
    split = {"training_data": frames[:1], "testing_data": frames[1:]}
    (folder / "annotation.pkl").write_bytes(pickle.dumps(split, 2))
    plain = K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    lens = {"K": plain, "R": R, "t": T, "distCoef": LENS}
    (folder / "camera_data.pkl").write_bytes(pickle.dumps({SEQUENCE: dict.fromkeys(VIEWS, lens)}, 2))
    for view in VIEWS[:3]:
        write_image(folder / f"hdImgs/{SEQUENCE}/{FRAME}/00_{view:02d}_{FRAME}.jpg", picture_of([left, right], SIZE))
    write_image(folder / f"hdImgs/{SEQUENCE}/00009999/00_00_00009999.jpg", picture_of([left], SIZE))


@pytest.fixture(scope="module")
def hands():
    left = true_hand(6, "left", K, SIZE, (80, 215), depth=0.9)
    return seen_through_lens(left), seen_through_lens(true_hand(7, "right", K, SIZE, (390, 60), depth=0.8))


def test_hands_come_through_the_lens_into_pixels_and_metres(tmp_path, monkeypatch, hands):
    left, right = hands
    write_mtc(tmp_path / "data", left, right)
    records = prepare(monkeypatch, f"mtc:{tmp_path / 'data'}", tmp_path / "out")
    name = f"{SEQUENCE}/{FRAME}"
    shown = {f"{name}/00#0": left, f"{name}/00#1": right, f"{name}/07#0": right}
    assert set(records["train"]) == set(shown) and set(records["eval"]) == {f"{SEQUENCE}/00009999/00#0"}
    for key, hand in shown.items():
        record = records["train"][key]
        check_record(record, hand, picture_of([left, right], SIZE))
        np.testing.assert_allclose(record.keypoints_3d[:, :3], hand.points, atol=1e-6)
        np.testing.assert_array_equal(record.keypoints_2d[:, 2], np.arange(21) != HIDDEN)
        assert record.hand_model == "open_hand"
    check_record(records["eval"][f"{SEQUENCE}/00009999/00#0"], left, picture_of([left], SIZE))


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "annotation.pkl").unlink(), "annotation.pkl: cannot be read"),
        (lambda folder: (folder / "camera_data.pkl").write_bytes(pickle.dumps({}, 2)), "camera_data.pkl: K is not"),
        (lambda folder: (folder / "hdImgs" / SEQUENCE / FRAME).rename(folder / "x"), f"{FRAME}: no pictures in it"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, hands, damage, text):
    write_mtc(tmp_path / "data", *hands)
    damage(tmp_path / "data")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"mtc:{tmp_path / 'data'}", tmp_path / "out")
    assert "http://domedb.perception.cs.cmu.edu/mtc.html" in str(caught.value) and "\n" not in str(caught.value)

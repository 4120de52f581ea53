"""Re:InterHand in the layout of github.com/facebookresearch/InterWild: data/ReInterHand/ReInterHand.py (files, names of
keypoints, world to camera, test captures), tool/ReInterHand/render (MANO: metres, mean pose, the left hand's shape).
"""

import json

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import write_image
from tests.data_pipelines.datasets.mano_truth import check_mano, mano_truth, mean_pose, mended, moved, write_mano
from tests.data_pipelines.datasets.truth import check_record, check_space, matrix, picture_of, prepare, true_hand
from tests.hand.test_mano import rotation

SIZE = (512, 334)
K = matrix(1200.0, (166.5, 256.0))
R = rotation(np.array([0.4, 2.6, -0.3]))
T = np.array([25.0, -40.0, 1100.0])
TRAIN = "m--20210701--1058--0000000--pilot--relightablehandsy--participant0--two-hands"
TEST = "m--20230317--1130--QZX685--pilot--ProjectGoliath--Hands--two-hands"
# ReInterHand.py, joints_name: Wrist, Thumb_0..4, Index_1..4, Middle_1..4, Ring_1..4, Pinky_0..4, Forearm_Stub
OPENPOSE_OF_REINTERHAND = {0: 0} | {2 + k: 1 + k for k in range(16)} | {19 + k: 17 + k for k in range(4)}


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_capture(capture, hands, fits=None):
    """One camera's picture of frame 7 with both hands, given by side in camera space, metres."""
    camera = {"focal": K[[0, 1], [0, 1]], "princpt": K[:2, 2], "R": R, "t": T}
    cameras = {"400266": {name: value.tolist() for name, value in camera.items()}}
    write_json(capture / "Mugsy_cameras" / "cam_params.json", cameras | {"400999": cameras["400266"]})
    images = capture / "Mugsy_cameras" / "envmap_per_frame" / "images"
    write_image(images / "400266" / "000007.png", picture_of(hands.values(), SIZE))
    for side, hand in hands.items():
        world = (hand.points * 1000 - T) @ R
        keypoints = np.full((24, 3), 5000.0)
        for theirs, ours in OPENPOSE_OF_REINTERHAND.items():
            keypoints[theirs] = world[ours]
        write_json(capture / "orig_fits" / side / "Keypoints" / "keypoint-000007.json", keypoints.tolist())
        fit = (fits or {}).get(side) or (np.zeros(48), np.zeros(10), np.zeros(3))
        content = {name: value.tolist() for name, value in zip(("pose", "shape", "trans"), fit, strict=True)}
        write_json(capture / "mano_fits" / "params" / f"7_{side}.json", content)


@pytest.fixture(scope="module")
def hands():
    return {
        "right": true_hand(1, "right", K, SIZE, (210, 280), depth=1.1),
        "left": true_hand(2, "left", K, SIZE, (130, 240), depth=1.0),
    }


def test_hands_come_from_the_world_into_the_camera(tmp_path, monkeypatch, hands):
    for capture in (TRAIN, TEST):
        write_capture(tmp_path / "data" / capture, hands)
    records = prepare(monkeypatch, f"reinterhand:{tmp_path / 'data'}", tmp_path / "out")
    for split, capture in (("train", TRAIN), ("eval", TEST)):
        assert set(records[split]) == {f"{capture}/400266/000007#{number}" for number in range(2)}
        for number, side in enumerate(("right", "left")):
            record = records[split][f"{capture}/400266/000007#{number}"]
            check_record(record, hands[side], picture_of(hands.values(), SIZE))
            check_space(record, hands[side])


def test_mano_fits_come_from_the_world_into_the_camera(tmp_path, monkeypatch):
    files = write_mano(tmp_path)
    truths, fits = {}, {}
    for number, side in enumerate(("right", "left")):
        arrays = files[side] if side == "right" else mended(files[side])
        place = (-T / 1000 + np.array([0.05 - 0.1 * number, 0.02, 1.0])) @ R
        before = mano_truth(number, side, arrays, "smplx", K, SIZE, place)
        fits[side] = ((before.pose - mean_pose(arrays)).ravel(), before.betas, before.place)
        truths[side] = moved(before, R, T / 1000, K)
    write_capture(tmp_path / "data" / TRAIN, {side: truth.hand for side, truth in truths.items()}, fits)
    source = f"reinterhand:{tmp_path / 'data'}"
    records = prepare(monkeypatch, source, tmp_path / "out", "--splits", "train", "--mano", tmp_path)["train"]
    for number, side in enumerate(("right", "left")):
        check_mano(records[f"{TRAIN}/400266/000007#{number}"], truths[side], tmp_path, "smplx")


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda capture: (capture / "Mugsy_cameras/cam_params.json").unlink(), "cam_params.json: missing"),
        (lambda capture: (capture / "Mugsy_cameras/cam_params.json").write_text("{}"), "focal is not an array"),
        (lambda capture: (capture / "orig_fits/left/Keypoints/keypoint-000007.json").unlink(), "000007.json: missing"),
        (lambda capture: (capture / "Mugsy_cameras/envmap_per_frame").rename(capture / "x"), "images: no pictures"),
        (lambda capture: capture.rename(capture.with_name(TEST)), "no capture of the part train"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, hands, damage, text):
    write_capture(tmp_path / "data" / TRAIN, hands)
    damage(tmp_path / "data" / TRAIN)
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"reinterhand:{tmp_path / 'data'}", tmp_path / "out", "--splits", "train")
    assert "https://mks0601.github.io/ReInterHand/" in str(caught.value) and "\n" not in str(caught.value)

"""HO-3D and H2O-3D in the layout of github.com/shreyashampali/ho3d: utils/vis_utils.py (files, OpenGL's axes),
vis_HO3D.py and vis_H2O3D.py (keys and shapes of pickles), pred.py (lists), joint_order.png, setup_mano.py (fingertips),
README and eval.py (the evaluation's keypoints); jointValid* as in github.com/shreyashampali/kypt_transformer.
"""

import json
import pickle

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.images import write_image
from tests.data_pipelines.datasets.mano_truth import check_mano, mano_truth, mended, moved, write_mano
from tests.data_pipelines.datasets.truth import check_record, check_space, matrix, picture_of, prepare, true_hand

SIZE = (480, 640)
K = matrix(615.0, (312.5, 241.5))
"""Of pixels whose first is centred at (0.5, 0.5)."""
# joint_order.png: 0 wrist, 1-3 index, 4-6 middle, 7-9 little, 10-12 ring, 13-15 thumb, 16-20 tips from the thumb
OPENPOSE_OF_HO3D = [0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20]
FLAT = np.zeros((16, 3)), np.zeros(10), np.zeros(3)
FLIP = np.array([1.0, -1.0, -1.0])


def opengl(points):
    return (np.asarray(points) * FLIP).astype(np.float32)


def write_frame(folder, name, picture, meta, suffix):
    sequence, frame = name.split("/")
    write_image(folder / sequence / "rgb" / f"{frame}{suffix}", picture)
    (folder / sequence / "meta").mkdir(parents=True, exist_ok=True)
    camera = (K - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])).astype(np.float32)
    thing = {"objName": "003_cracker_box", "objLabel": 2, "objRot": np.zeros((3, 1)), "objTrans": np.zeros(3)}
    (folder / sequence / "meta" / f"{frame}.pkl").write_bytes(pickle.dumps({"camMat": camera, **thing, **meta}, 2))


def training_meta(hand, pose, betas, place):
    joints = opengl(hand.points[OPENPOSE_OF_HO3D])
    return {"handJoints3D": joints, "handPose": pose.ravel(), "handBeta": betas, "handTrans": place}


def write_ho3d(folder, hand, suffix=".png", mano=FLAT):
    """One picture in training and one in evaluation of the same hand."""
    picture = picture_of([hand], SIZE)
    write_frame(folder / "train", "ABF10/0000", picture, training_meta(hand, *mano), suffix)
    root = {"handJoints3D": opengl(hand.points[0]), "handBoundingBox": [10.0, 20.0, 200.0, 300.0]}
    write_frame(folder / "evaluation", "SM1/0012", picture, root, suffix)
    (folder / "train.txt").write_text("ABF10/0000\n")
    (folder / "evaluation.txt").write_text("SM1/0012\n")
    keypoints = opengl(hand.points[OPENPOSE_OF_HO3D]).astype(float)
    (folder / "evaluation_xyz.json").write_text(json.dumps([keypoints.tolist()]))


@pytest.fixture(scope="module")
def hand():
    return true_hand(3, "right", K, SIZE, (300, 220), depth=0.6)


@pytest.fixture(scope="module", params=[("v2", ".png"), ("v3", ".jpg")])
def made(request, tmp_path_factory, hand):
    version, suffix = request.param
    folder = tmp_path_factory.mktemp(version)
    write_ho3d(folder / "data", hand, suffix)
    with pytest.MonkeyPatch.context() as patch:
        return prepare(patch, f"ho3d_{version}:{folder / 'data'}", folder / "out"), version


def test_hands_come_from_opengl_into_our_axes_order_and_pixels(made, hand):
    records, version = made
    assert set(records["train"]) == {"train/ABF10/0000#0"} and set(records["eval"]) == {"evaluation/SM1/0012#0"}
    for (record,) in (records["train"].values(), records["eval"].values()):
        check_record(record, hand, picture_of([hand], SIZE))
        check_space(record, hand)
        assert record.source.startswith(f"ho3d_{version}:")


def in_opengl(seed, side, arrays):
    """Parameters in OpenGL's axes, and the hand that the camera sees."""
    before = mano_truth(seed, side, arrays, "ho3d", K, SIZE, (-0.1, 0.05, -0.7))
    return moved(before, np.diag(FLIP), np.zeros(3), K)


def test_mano_parameters_are_relative_to_the_flat_hand_in_opengl(tmp_path, monkeypatch):
    truth = in_opengl(5, "right", write_mano(tmp_path)["right"])
    write_ho3d(tmp_path / "data", truth.hand, mano=(truth.pose, truth.betas, truth.place))
    source = f"ho3d_v2:{tmp_path / 'data'}"
    records = prepare(monkeypatch, source, tmp_path / "out", "--mano", tmp_path)
    check_mano(records["train"]["train/ABF10/0000#0"], truth, tmp_path, "ho3d")
    assert records["eval"]["evaluation/SM1/0012#0"].hand_model == "open_hand"


def move_wrist(folder):
    """The evaluation's keypoints in other axes than the pickle's wrist."""
    path = folder / "evaluation_xyz.json"
    path.write_text(json.dumps((np.array(json.loads(path.read_text())) * FLIP).tolist()))


def test_evaluation_keypoints_that_are_not_those_of_the_picture_are_not_used(tmp_path, monkeypatch, hand, capsys):
    write_ho3d(tmp_path / "data", hand)
    move_wrist(tmp_path / "data")
    with pytest.raises(InputError, match="none of 1 pictures gave a hand .*unreadable"):
        prepare(monkeypatch, f"ho3d_v2:{tmp_path / 'data'}", tmp_path / "out", "--splits", "eval")


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "train.txt").unlink(), "train.txt: missing"),
        (lambda folder: (folder / "evaluation_xyz.json").unlink(), "evaluation_xyz.json: missing"),
        (lambda folder: (folder / "evaluation_xyz.json").write_text("[]"), "0 entries, evaluation.txt has 1"),
        (lambda folder: (folder / "train/ABF10/meta/0000.pkl").unlink(), "0000.pkl: missing"),
        (lambda folder: (folder / "evaluation/SM1/rgb/0012.png").unlink(), "0012.png: missing"),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, hand, damage, text):
    write_ho3d(tmp_path / "data", hand)
    damage(tmp_path / "data")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"ho3d_v2:{tmp_path / 'data'}", tmp_path / "out")
    assert "github.com/shreyashampali/ho3d" in str(caught.value) and "\n" not in str(caught.value)


def write_h2o3d(folder, hands, frames):
    """Frames of both hands; `frames` maps names to the sides whose joints are valid."""
    beta = hands["right"].betas
    for name, valid in frames.items():
        meta = {"handBeta": beta}
        for side, word in (("right", "Right"), ("left", "Left")):
            truth = hands[side]
            meta[f"{side}HandJoints3D"] = opengl(truth.hand.points[OPENPOSE_OF_HO3D])
            meta[f"{side}HandPose"], meta[f"{side}HandTrans"] = truth.pose.ravel(), truth.place
            meta[f"jointValid{word}"] = np.ones(21, bool)
            meta[f"jointValid{word}"][4:8] = side in valid
            meta[f"poseValid{word}"] = np.ones(48, bool)
        write_frame(folder / "train", name, picture_of([], SIZE), meta, ".jpg")
    (folder / "train.txt").write_text("".join(f"{name}\n" for name in frames))


def test_both_hands_of_h2o3d_that_are_annotated_in_full_become_records(tmp_path, monkeypatch):
    files = write_mano(tmp_path)
    hands = {"right": in_opengl(6, "right", files["right"]), "left": in_opengl(6, "left", mended(files["left"]))}
    write_h2o3d(tmp_path / "data", hands, {"BB1/0003": ("right", "left"), "BB1/0004": ("left",)})
    records = prepare(monkeypatch, f"h2o3d:{tmp_path / 'data'}", tmp_path / "out", "--mano", tmp_path)["train"]
    sides = {"train/BB1/0003#0": "right", "train/BB1/0003#1": "left", "train/BB1/0004#0": "left"}
    assert set(records) == set(sides)
    for name, side in sides.items():
        check_mano(records[name], hands[side], tmp_path, "ho3d")
        check_record(records[name], hands[side].hand, picture_of([], SIZE))


def test_h2o3d_says_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="train.txt: missing; unpack H2O-3D v1"):
        prepare(monkeypatch, f"h2o3d:{tmp_path}", tmp_path / "out")

"""InterHand2.6M v1.0 in the layout of github.com/facebookresearch/InterHand2.6M: data/InterHand2.6M/dataset.py (files,
world to camera), DATASET.md (fields), tool/MANO_world_to_camera/convert.py (MANO in the world, mean pose, metres).
"""

import json

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.hand.mano import load_mano
from handjax.hand.model import pose_hand
from handjax.hand.topology import MANO_TIP_VERTICES, MANO_TO_OPENPOSE
from handjax.images import write_image
from tests.data_pipelines.datasets.truth import (
    TrueHand,
    check_mesh,
    check_record,
    check_space,
    matrix,
    picture_of,
    pixels_of,
    prepare,
    true_hand,
)
from tests.hand.mano_files import mano_arrays, mirrored, write_python2
from tests.hand.test_mano import published, rotation

SIZE = (512, 334)
K = matrix(1200.0, (167.0, 256.0))
CAMROT = rotation(np.array([0.3, -1.1, 0.5]))
CAMPOS = np.array([-300.0, 420.0, 1050.0])
# skeleton.txt: thumb4 ... thumb1, index4 ... pinky1, wrist; right, then left
OPENPOSE_OF_INTERHAND = [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 0]
UNKNOWN, HIDDEN = 8, 12
"""OpenPose's numbers of a keypoint of the right hand that nobody annotated, and of one outside of the picture."""
BOTH, SINGLE = "Capture0/0390_dh_touch/cam400262/image5447.jpg", "Capture0/0000_neutral/cam400262/image17.jpg"


def to_world(points):
    """Metres of the camera to the world's millimetres."""
    return points * 1000 @ CAMROT + CAMPOS


def write_interhand(folder, left, right, fits=None, part="train"):
    """A frame with both hands and one with the right hand only."""
    joints, images, annotations = {}, [], []
    for number, (name, hands) in enumerate(((BOTH, (right, left)), (SINGLE, (right, None)))):
        frame = int(name.split("image")[1].removesuffix(".jpg"))
        shown = [hand for hand in hands if hand is not None]
        write_image(folder / "images" / part / name, picture_of(shown, SIZE))
        world, known = np.ones((2, 21, 3)), np.zeros((2, 21))
        for place, hand in enumerate(hands):
            if hand is not None:
                world[place], known[place] = to_world(hand.points)[OPENPOSE_OF_INTERHAND], 1
        known[0, OPENPOSE_OF_INTERHAND.index(UNKNOWN)] = 0
        world[0, OPENPOSE_OF_INTERHAND.index(UNKNOWN)] = 1
        seen = known.copy()
        seen[0, OPENPOSE_OF_INTERHAND.index(HIDDEN)] = 0
        kind = "interacting" if len(shown) == 2 else "right"
        joints[str(frame)] = {
            "world_coord": world.reshape(42, 3).tolist(),
            "joint_valid": known.reshape(42, 1).tolist(),
            "hand_type": kind,
            "hand_type_valid": True,
        }
        image = {"id": 50 + number, "file_name": name, "width": SIZE[1], "height": SIZE[0], "capture": 0, "subject": 3}
        images.append(image | {"seq_name": name.split("/")[1], "camera": "400262", "frame_idx": frame})
        annotation = {"id": number, "image_id": 50 + number, "bbox": [0, 0, 9, 9], "hand_type": kind}
        annotations.append(annotation | {"joint_valid": seen.ravel().tolist(), "hand_type_valid": 1})
    cameras = {"campos": CAMPOS, "camrot": CAMROT, "focal": K[[0, 1], [0, 1]], "princpt": K[:2, 2]}
    files = {
        "data": {"images": images, "annotations": annotations},
        "camera": {"0": {name: {"400262": value.tolist()} for name, value in cameras.items()}},
        "joint_3d": {"0": joints},
        "MANO_NeuralAnnot": {"0": {frame: fits or {"left": None, "right": None} for frame in joints}},
    }
    for name, content in files.items():
        path = folder / "annotations" / part / f"InterHand2.6M_{part}_{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def rendered():
    left = true_hand(8, "left", K, SIZE, (110, 260), depth=1.0)
    return left, true_hand(9, "right", K, SIZE, (230, 240), depth=1.1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interhand")
    left, right = rendered()
    write_interhand(folder / "InterHand2.6M", left, right)
    with pytest.MonkeyPatch.context() as patch:
        source = f"interhand:{folder / 'InterHand2.6M'}"
        return prepare(patch, source, folder / "out", "--splits", "train")["train"], left, right


def test_hands_come_from_the_world_into_the_camera(made):
    records, left, right = made
    both = picture_of((right, left), SIZE)
    assert set(records) == {f"train/{BOTH}#0", f"train/{BOTH}#1", f"train/{SINGLE}#0"}
    record = records[f"train/{BOTH}#1"]
    check_mesh(record, left, check_record(record, left, both))
    check_space(record, left)
    assert (record.keypoints_2d[:, 2] == 1).all() and (record.keypoints_3d[:, 3] == 1).all()


def test_an_unknown_joint_is_taken_from_the_mesh_and_a_hidden_one_keeps_its_place(made):
    records, left, right = made
    known = np.arange(21) != UNKNOWN
    for name in (BOTH, SINGLE):
        record = records[f"train/{name}#0"]
        assert record.side == "right"
        confidence = np.where(known & (np.arange(21) != HIDDEN), 1, 0)
        np.testing.assert_array_equal(record.keypoints_2d[:, 2], confidence)
        np.testing.assert_array_equal(record.keypoints_3d[:, 3], known)
        np.testing.assert_allclose(record.keypoints_3d[known, :3], right.points[known], atol=1e-6)
        projected = record.camera[:2] * right.points[:, :2] / right.points[:, 2:] + record.camera[2:]
        np.testing.assert_allclose(record.keypoints_2d[known, :2], projected[known], atol=0.01)
        # an index tip guessed from the other 20 keypoints: within a fingertip
        assert np.linalg.norm(record.keypoints_2d[UNKNOWN, :2] - projected[UNKNOWN]) < 15
        assert np.linalg.norm(record.keypoints_3d[UNKNOWN, :3] - right.points[UNKNOWN]) < 0.02


def test_mano_fits_come_from_the_world_into_the_camera(tmp_path, monkeypatch):
    arrays = {"right": mano_arrays(), "left": mirrored(mano_arrays(), fix_shape=True)}
    rng = np.random.default_rng(4)
    hands, fits, meshes, poses = {}, {}, {}, {}
    for side, content in arrays.items():
        write_python2(tmp_path / f"MANO_{side.upper()}.pkl", content)
        relative, betas = 0.3 * rng.standard_normal((16, 3)), rng.standard_normal(10)
        poses[side] = relative + np.concatenate([np.zeros(3), content["hands_mean"]]).reshape(16, 3)
        middle = to_world(np.array([[0.02 if side == "right" else -0.05, 0.01, 1.0]]))[0] / 1000
        vertices, joints = published(content, poses[side], betas, middle)
        fits[side] = {"pose": relative.ravel().tolist(), "shape": betas.tolist(), "trans": middle.tolist()}
        in_camera = [(points - CAMPOS / 1000) @ CAMROT.T for points in (vertices, joints)]
        meshes[side] = in_camera[0]
        tips = in_camera[0][list(MANO_TIP_VERTICES["smplx"])]
        points = np.concatenate([in_camera[1], tips])[MANO_TO_OPENPOSE]
        hands[side] = TrueHand(side, points, pixels_of(points, K), np.zeros(SIZE, bool), np.zeros(SIZE))
    write_interhand(tmp_path / "data", hands["left"], hands["right"], fits)
    records = prepare(
        monkeypatch, f"interhand:{tmp_path / 'data'}", tmp_path / "out", "--splits", "train", "--mano", tmp_path
    )["train"]
    for number, side in enumerate(("right", "left")):
        record = records[f"train/{BOTH}#{number}"]
        assert record.hand_model == "mano" and record.side == side
        model = load_mano(tmp_path / f"MANO_{side.upper()}.pkl")
        posed = pose_hand(model, record.pose, record.betas, record.translation)
        np.testing.assert_allclose(posed.vertices, meshes[side], atol=5e-6)
        np.testing.assert_allclose(record.pose[1:], poses[side][1:], atol=1e-6)


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "images/train" / SINGLE).unlink(), "image17.jpg: missing"),
        (
            lambda folder: (folder / "annotations/train/InterHand2.6M_train_camera.json").unlink(),
            "camera.json: missing",
        ),
        (
            lambda folder: (folder / "annotations/train/InterHand2.6M_train_joint_3d.json").write_text('{"0": {}}'),
            "joint_3d.json: nothing on Capture0/0390_dh_touch/cam400262/image5447.jpg",
        ),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, damage, text):
    write_interhand(tmp_path / "data", *rendered())
    damage(tmp_path / "data")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"interhand:{tmp_path / 'data'}", tmp_path / "out", "--splits", "train")
    assert "https://mks0601.github.io/InterHand2.6M/" in str(caught.value) and "\n" not in str(caught.value)

"""HaMeR's training archives in the layout that its reader takes: github.com/geopavlakos/hamer, hamer/datasets/
image_dataset.py (load_tars_as_webdataset: `jpg` and `data.pyd`, a list; names of the entries; fliplr_params negates y
and z of a left hand's axis-angles, utils.py), hamer/configs/datasets_tar.yaml (folders of numbered archives).
"""

import io
import json
import os
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from data_pipelines.datasets.annotation import ManoHand
from data_pipelines.datasets.mano import posed_hand
from handjax.conditions.crops import hand_box
from handjax.errors import InputError
from handjax.hand.mano import load_mano
from handjax.hand.topology import MANO_TIP_VERTICES, MANO_TO_OPENPOSE
from tests.data_pipelines.datasets.truth import (
    TrueHand,
    check_mesh,
    check_record,
    matrix,
    picture_of,
    pixels_of,
    prepare,
    true_hand,
)
from tests.hand.mano_files import mano_arrays, mirrored, write_python2
from tests.hand.test_mano import published

SIZE = (240, 320)
K = matrix(400.0, (160.0, 120.0))
UNKNOWN = 20


def labels_of(hand, pose=None, betas=None, unknown=()):
    """A hand as HaMeR writes it: the first pixel's centre is 0, the origin of space is anywhere."""
    seen = np.ones(21)
    seen[list(unknown)] = 0.0
    return {
        "keypoints_2d": np.column_stack([hand.pixels - 0.5, seen]).astype(np.float32) * seen[:, None],
        "keypoints_3d": np.column_stack([hand.points - [0.3, -0.2, 0.1], seen]).astype(np.float32),
        "center": hand.pixels.mean(axis=0),
        "scale": np.array([1.0, 1.0]),
        "hand_pose": np.zeros(48, np.float32) if pose is None else pose.ravel().astype(np.float32),
        "betas": np.zeros(10, np.float32) if betas is None else betas.astype(np.float32),
        "has_hand_pose": np.array(float(pose is not None)),
        "has_betas": np.array(float(pose is not None)),
        "right": np.array(float(hand.side == "right")),
        "personid": 0,
        "extra_info": {"fitting_loss": np.array({}), "name": "a"},
    }


def as_json(labels):
    plain = {key: np.asarray(value).tolist() for key, value in labels.items() if key != "extra_info"}
    return json.dumps([plain]).encode()


def jpeg_bytes(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_tars(folder):
    """Two hands in one picture of one archive; the left one again, with JSON, in another set."""
    left = true_hand(19, "left", K, SIZE, (90, 120), depth=0.8)
    right = true_hand(20, "right", K, SIZE, (225, 120), depth=0.8)
    both = pickle.dumps([labels_of(right), labels_of(left, unknown=[UNKNOWN])])
    picture = jpeg_bytes(picture_of((left, right), SIZE))
    write_tar(folder / "cocow-train" / "000000.tar", {"train2017/01.jpg": picture, "train2017/01.data.pyd": both})
    alone = jpeg_bytes(picture_of((left,), SIZE))
    write_tar(folder / "rhd-train" / "000001.tar", {"02.data.json": as_json(labels_of(left)), "02.jpg": alone})
    return left, right


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hamer")
    left, right = write_tars(folder / "dataset_tars")
    with pytest.MonkeyPatch.context() as patch:
        return prepare(patch, f"hamer_tars:{folder / 'dataset_tars'}", folder / "out"), left, right


def test_every_hand_of_every_archive_becomes_a_record(made):
    records, left, right = made
    names = [f"cocow-train/000000/train2017/01#{n}" for n in (0, 1)] + ["rhd-train/000001/02#0"]
    assert set(records) == {"train"} and set(records["train"]) == set(names)
    for name, hand, hands in ((names[0], right, (left, right)), (names[2], left, (left,))):
        record = records["train"][name]
        check_mesh(record, hand, check_record(record, hand, picture_of(hands, SIZE)))
        np.testing.assert_allclose(record.keypoints_3d[:, :3], hand.points - [0.3, -0.2, 0.1], atol=1e-6)
        assert record.hand_model == "open_hand" and record.source == f"hamer_tars:{name.split('#')[0]}"


def test_a_keypoint_without_confidence_has_no_place(made):
    records, left, _ = made
    record = records["train"]["cocow-train/000000/train2017/01#1"]
    corner = np.round((left.pixels - record.keypoints_2d[:, :2])[0])
    known = np.arange(21) != UNKNOWN
    np.testing.assert_allclose(record.keypoints_2d[known, :2] + corner, left.pixels[known], atol=5e-3)
    assert record.side == "left"
    for keypoints in (record.keypoints_2d, record.keypoints_3d):
        assert keypoints[UNKNOWN, -1] == 0 and (keypoints[known, -1] == 1).all()


def centred(points):
    """Moves a hand so that a camera of its crop's middle, of twice its crop's side as focal length, is `K`."""
    for _ in range(200):
        pixels = pixels_of(points, K)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        middle, side = (low + high) / 2, (high - low).max()
        shift = np.append((K[:2, 2] - middle) * points[:, 2].mean() / K[0, 0], points[:, 2].mean() * (side / 99.8 - 1))
        points = points + shift
    assert hand_box(pixels, 2.0).tolist() == [60, 20, 260, 220]
    return points


def mirrored_posedirs(posedirs):
    """Correctives of the mirror image: each moves with an entry of a matrix R, which becomes M R M."""
    mirror = np.array([-1.0, 1.0, 1.0])
    return posedirs * mirror[:, None] * np.tile(np.outer(mirror, mirror).ravel(), 15)


@pytest.fixture(scope="module")
def posed(tmp_path_factory):
    """The same pose of a synthetic MANO's right hand and of its mirror image, the left one."""
    folder = tmp_path_factory.mktemp("hamer_mano")
    arrays = mano_arrays()
    left = mirrored(arrays, fix_shape=True) | {"posedirs": mirrored_posedirs(arrays["posedirs"])}
    for name, content in (("RIGHT", arrays), ("LEFT", left)):
        write_python2(folder / f"MANO_{name}.pkl", content)
    rng = np.random.default_rng(5)
    pose, betas = 0.3 * rng.standard_normal((16, 3)), rng.standard_normal(10)
    vertices, joints = published(arrays, pose, betas, np.array([0.0, 0.0, 0.8]))
    points = np.concatenate([joints, vertices[list(MANO_TIP_VERTICES["smplx"])]])[MANO_TO_OPENPOSE]
    truth = {}
    for side, mirror in (("right", 1.0), ("left", -1.0)):
        image = points * [mirror, 1, 1]
        placed = centred(image)
        hand = TrueHand(side, placed, pixels_of(placed, K), np.zeros(SIZE, bool), np.zeros(SIZE))
        truth[side] = (
            hand,
            pose * [1, mirror, mirror],
            vertices * [mirror, 1, 1] + (placed - image)[0],
        )
    files = {}
    for side, (hand, own_pose, _) in truth.items():
        files[f"{side}.jpg"] = jpeg_bytes(picture_of((), SIZE))
        files[f"{side}.data.pyd"] = pickle.dumps([labels_of(hand, own_pose, betas)])
    write_tar(folder / "tars" / "freihand-train" / "000000.tar", files)
    with pytest.MonkeyPatch.context() as patch:
        records = prepare(patch, f"hamer_tars:{folder / 'tars'}", folder / "out", "--mano", folder)
    return records["train"], truth, betas, folder


@pytest.mark.parametrize("side", ["right", "left"])
def test_manos_hand_stands_where_the_crops_camera_sees_its_keypoints(posed, side):
    records, truth, betas, folder = posed
    hand, pose, vertices = truth[side]
    record = records[f"freihand-train/000000/{side}#0"]
    assert record.hand_model == "mano" and record.side == side
    np.testing.assert_allclose(record.pose, pose, atol=1e-6)
    np.testing.assert_allclose(record.betas, betas, atol=1e-6)
    np.testing.assert_allclose(record.camera, [400, 400, 100, 100], atol=1e-3)
    model = load_mano(folder / f"MANO_{side.upper()}.pkl", side)
    again = posed_hand(model, ManoHand(record.pose, record.betas, record.translation))
    np.testing.assert_allclose(again.vertices, vertices, atol=5e-6)
    np.testing.assert_allclose(record.keypoints_3d[:, :3], hand.points, atol=5e-6)
    projected = pixels_of(again.keypoints.astype(np.float64), matrix(400.0, (100.0, 100.0)))
    assert np.abs(projected - record.keypoints_2d[:, :2]).max() < 0.01


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_a_pickle_that_names_code_is_counted_and_does_not_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_tars(tmp_path / "tars")
    files = {"03.jpg": jpeg_bytes(picture_of((), SIZE)), "03.data.pyd": pickle.dumps([Harmful()])}
    write_tar(tmp_path / "tars" / "bad" / "000000.tar", files)
    records = prepare(monkeypatch, f"hamer_tars:{tmp_path / 'tars'}", tmp_path / "out")
    assert len(records["train"]) == 3 and "1 unreadable" in capsys.readouterr().out
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: [path.unlink() for path in folder.rglob("*.tar")], r"\*\*/\*.tar: missing"),
        (
            lambda folder: (folder / "cut.tar").write_bytes((folder / "rhd-train/000001.tar").read_bytes()[:2000]),
            "cut.tar: no whole tar archive",
        ),
        (lambda folder: write_tar(folder / "x.tar", {"05.jpg": b"1"}), "x.tar: 05 has no .data.pyd or data.json"),
        (lambda folder: write_tar(folder / "x.tar", {"05.data.json": b"[]"}), "x.tar: 05 has no .jpg"),
    ],
)
def test_a_broken_archive_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, damage, text):
    write_tars(tmp_path / "tars")
    damage(tmp_path / "tars")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"hamer_tars:{tmp_path / 'tars'}", tmp_path / "out")
    assert "https://github.com/geopavlakos/hamer" in str(caught.value) and "\n" not in str(caught.value)

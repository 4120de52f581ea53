"""Records written as InterHand2.6M and read again by the builder of the real data set, which knows nothing of this."""

import dataclasses
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.datasets.interhand import InterHand
from data_pipelines.interhand_files import write_interhand
from data_pipelines.rendered import rendered_records
from handjax.errors import ConfigError, InputError
from handjax.hand.mano import absolute_pose
from handjax.hand.model import pose_hand
from handjax.images import decode_image, read_image
from launch import export
from tests.data_pipelines.pairs import painted_pairs

SIZE = 64


@pytest.fixture(scope="module")
def records():
    return list(rendered_records(range(4), seed=5, size=SIZE))


def read_back(folder, part):
    """The builder's samples and hands, without what it makes of them."""
    builder = object.__new__(InterHand)
    builder._mano = {}
    samples = list(builder.samples(folder, part))
    return [(sample, list(builder.hands(sample, (SIZE, SIZE)))) for sample in samples]


def test_the_real_data_sets_reader_finds_the_same_hands(records, tmp_path):
    assert write_interhand(records, tmp_path, "train") == (4, 4, {})
    read = read_back(tmp_path, "train")
    assert len(read) == 4 and {record.side for record in records} == {"left", "right"}
    for record, (sample, (hand,)) in zip(records, read, strict=True):
        assert read_image(sample.picture).shape == (SIZE, SIZE, 3) and sample.picture.read_bytes() == record.image
        assert hand.side == record.side
        np.testing.assert_allclose(hand.keypoints_3d[:, :3], record.keypoints_3d[:, :3], atol=1e-6)
        np.testing.assert_allclose(hand.keypoints_2d[:, :2], record.keypoints_2d[:, :2], atol=1e-2)
        np.testing.assert_allclose(hand.camera, record.camera, rtol=1e-6)


def test_boxes_hold_the_hands(records, tmp_path):
    write_interhand(records, tmp_path, "val")
    path = tmp_path / "annotations/val/InterHand2.6M_val_data.json"
    annotations = json.loads(path.read_text())["annotations"]
    listed = (tmp_path / "aid_human_annot_val.txt").read_text().splitlines()  # those that InterWild looks for
    assert [int(line) for line in listed] == [annotation["id"] for annotation in annotations] == [0, 1, 2, 3]
    for record, annotation in zip(records, annotations, strict=True):
        x, y, width, height = annotation["bbox"]
        low, high = record.keypoints_2d[:, :2].min(axis=0), record.keypoints_2d[:, :2].max(axis=0)
        np.testing.assert_allclose([x, y, x + width, y + height], [*low, *high], atol=1e-3)


def test_parameters_are_manos_and_relative_to_its_mean_pose(records, manos, tmp_path):
    write_interhand(records[:2], tmp_path, "test", manos)
    path = tmp_path / "annotations/test/InterHand2.6M_test_MANO_NeuralAnnot.json"
    fits = json.loads(path.read_text())["0"]
    for number, record in enumerate(records[:2]):
        other = {"left": "right", "right": "left"}[record.side]
        fit, model = fits[str(number)][record.side], manos[record.side]
        assert fits[str(number)][other] is None and [len(fit[name]) for name in ("pose", "shape", "trans")] == [
            48,
            10,
            3,
        ]
        pose = absolute_pose(model, jnp.float32(fit["pose"]).reshape(16, 3))
        posed = pose_hand(model, pose, np.float32(fit["shape"]), np.float32(fit["trans"])).keypoints
        # the test's MANO is no hand, so that its fingers cannot lie on the open hand's; its wrist does
        np.testing.assert_allclose(posed[0], record.keypoints_3d[0, :3], atol=1e-4)
    own = dataclasses.replace(records[0], hand_model="mano")
    write_interhand([own], tmp_path, "test", manos)
    fit = json.loads(path.read_text())["0"]["0"][own.side]
    again = absolute_pose(manos[own.side], jnp.float32(fit["pose"]).reshape(16, 3))
    np.testing.assert_allclose(again, own.pose, atol=1e-6)
    assert np.abs(np.float32(fit["pose"]).reshape(16, 3)[1:] - own.pose[1:]).max() > 1e-3  # the mean pose is not flat


def test_two_hands_of_a_picture_are_one_annotation(records, manos, tmp_path):
    """As DIR needs them: interacting, with a fit of both. Hands alone stay beside them as they are."""
    pairs = painted_pairs(2, 96)
    (right, left), (second, third) = (hands for *_, hands in pairs)
    mixed = [right, records[0], second, left, third]  # in any order
    assert write_interhand(mixed, tmp_path, "train", manos) == (5, 3, {})
    folder = tmp_path / "annotations/train"
    data, joints, fits = (
        json.loads((folder / f"InterHand2.6M_train_{name}.json").read_text())
        for name in ("data", "joint_3d", "MANO_NeuralAnnot")
    )
    assert [each["hand_type"] for each in data["annotations"]] == ["interacting", records[0].side, "interacting"]
    assert [joints["0"][str(n)]["hand_type"] for n in range(3)] == ["interacting", records[0].side, "interacting"]
    assert [np.sum(each["joint_valid"]) for each in data["annotations"]] == [42, 21, 42]
    assert all(fit is not None for number in "02" for fit in fits["0"][number].values())
    assert [each["width"] for each in data["images"]] != [96, 64, 96]  # the union of two squares, not one of them
    read = read_back(tmp_path, "train")
    for number, hands in ((0, (right, left)), (2, (second, third))):
        sample, found = read[number]
        picture = read_image(sample.picture)
        assert picture.shape == (data["images"][number]["height"], data["images"][number]["width"], 3)
        assert [hand.side for hand in found] == ["right", "left"]
        np.testing.assert_array_equal(found[0].camera, found[1].camera)
        places = np.concatenate([hand.keypoints_2d[:, :2] for hand in found])
        x, y, width, height = data["annotations"][number]["bbox"]
        np.testing.assert_allclose([x, y, x + width, y + height], [*places.min(axis=0), *places.max(axis=0)], atol=0.1)
        for record, hand in zip(hands, found, strict=True):
            np.testing.assert_allclose(hand.keypoints_3d[:, :3], record.keypoints_3d[:, :3], atol=1e-6)
            shift = hand.keypoints_2d[:, :2] - record.keypoints_2d[:, :2]
            np.testing.assert_allclose(shift, np.round(shift[:1]) + np.zeros((21, 1)), atol=1e-2)
            x, y = np.round(shift[0]).astype(int)
            own = decode_image(record.image, record.id).astype(int)
            window = picture[y : y + len(own), x : x + len(own)].astype(int)
            assert np.abs(window - own).mean() < 3
            fit, model = fits["0"][str(number)][record.side], manos[record.side]
            pose = absolute_pose(model, jnp.float32(fit["pose"]).reshape(16, 3))
            posed = pose_hand(model, pose, np.float32(fit["shape"]), np.float32(fit["trans"])).keypoints
            np.testing.assert_allclose(posed[0], record.keypoints_3d[0, :3], atol=1e-4)


def test_pictures_of_more_hands_are_left_out_and_counted(records, tmp_path):
    (*_, (right, left)) = painted_pairs(1, 96)[0]
    third = dataclasses.replace(left, id=left.id.replace("#1", "#2"))
    counts = {"more than two hands in the picture": 3}
    assert write_interhand([right, left, third, records[0]], tmp_path, "train") == (1, 1, counts)
    with pytest.raises(InputError, match="its picture has 3 hands, of which these files hold two"):
        write_interhand([right, left, third], tmp_path / "none", "train")


def test_records_without_labels_are_left_out_and_counted(records, manos, tmp_path):
    nowhere = dataclasses.replace(records[2], keypoints_2d=np.full((21, 3), np.nan, np.float32))
    mixed = [dataclasses.replace(records[0], camera=None), records[1], nowhere, records[3]]
    counts = {"no camera": 1, "keypoints in another space than the camera's": 1}
    assert write_interhand(mixed, tmp_path, "train") == (2, 2, counts)
    read = read_back(tmp_path, "train")
    for record, (sample, (hand,)) in zip((records[1], records[3]), read, strict=True):
        assert sample.picture.read_bytes() == record.image and hand.side == record.side
    assert len(list((tmp_path / "images").rglob("*.jpg"))) == 2
    without = dataclasses.replace(records[0], pose=None)
    assert write_interhand([without, records[1]], tmp_path, "val", manos) == (1, 1, {"no pose": 1})
    assert write_interhand([without], tmp_path, "test") == (1, 1, {})


def test_records_without_labels_alone_are_refused(records, tmp_path):
    with pytest.raises(InputError, match="has no camera, without which it cannot be written"):
        write_interhand([dataclasses.replace(records[0], camera=None)], tmp_path, "train")
    with pytest.raises(InputError, match="there are no records to write"):
        write_interhand([], tmp_path, "train")
    assert not any(tmp_path.iterdir())


def test_keypoints_about_the_hand_itself_are_refused(records, tmp_path):
    """As photographs have them, whose keypoints in space are a detector's."""
    points = records[0].keypoints_3d.copy()
    points[:, :3] -= points[:, :3].mean(axis=0)
    for shift in (0.0, 0.7):  # behind the camera, and before it at a wrong place
        moved = points + np.float32([0.2 * bool(shift), 0, shift, 0])
        with pytest.raises(InputError, match="are not where the camera sees them"):
            write_interhand([dataclasses.replace(records[0], keypoints_3d=moved)], tmp_path, "train")


def test_fits_of_an_earlier_export_do_not_stay(records, manos, tmp_path):
    path = tmp_path / "annotations/train/InterHand2.6M_train_MANO_NeuralAnnot.json"
    write_interhand(records[:1], tmp_path, "train", manos)
    assert list(json.loads(path.read_text())["0"]) == ["0"]
    write_interhand(records, tmp_path, "train")
    assert json.loads(path.read_text()) == {"0": {}}  # InterWild opens it, and takes a frame that it lacks as unknown


def test_the_command_names_what_it_can_write(monkeypatch, tmp_path):
    words = ["export", "--records", str(tmp_path), "--to", "torch", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(ConfigError, match="--to torch is not for these; use interhand or hic"):
        export.main()

"""Records written as HIC and read again as InterWild's loader reads it: by id, PLY vertices as they are, one camera."""

import dataclasses
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from data_pipelines.encoding import jpeg
from data_pipelines.hic_files import write_hic
from data_pipelines.interhand_files import write_interhand
from data_pipelines.record_labels import mano_parameters
from data_pipelines.rendered import rendered_records
from handjax.errors import ConfigError, InputError
from handjax.hand.mano import absolute_pose
from handjax.hand.model import pose_hand
from launch import export
from tests.data_pipelines.pairs import painted_pairs

pytest.importorskip("trimesh")
SIZE = 128
FOCAL, PRINCIPAL = 525.0, np.array([319.5, 239.5])


@pytest.fixture(scope="module")
def records():
    return list(rendered_records(range(4), seed=5, size=SIZE))


def read_ply(path):
    """x, y and z of the vertices, from the bytes."""
    header, body = path.read_bytes().split(b"end_header\n", 1)
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    start = next(number for number, line in enumerate(lines) if line.startswith("element vertex"))
    names = [line.split()[1:] for line in lines[start + 1 :][:3]]
    assert names == [["float", axis] for axis in "xyz"] and lines[start + 4].startswith("element face")
    count = int(lines[start].split()[2])
    return np.frombuffer(body, "<f4", 3 * count).reshape(count, 3)


def read_back(folder):
    """(annotation, picture, meshes by side) by annotation number; nothing is asked for that InterWild does not."""
    document = json.loads((folder / "HIC.json").read_text())
    images, hands = {image["id"]: image for image in document["images"]}, {}
    for annotation in document["annotations"]:
        image = images[annotation["image_id"]]
        with Image.open(folder / image["file_name"]) as opened:
            picture = np.asarray(opened)
        assert picture.shape == (image["height"], image["width"], 3) == (480, 640, 3)
        paths = {side: annotation[f"{side}_mano_path"] for side in ("right", "left")}
        meshes = {side: read_ply(folder / path) for side, path in paths.items() if path is not None}
        hands[annotation["id"]] = annotation, picture, meshes
    return hands


def test_pictures_are_those_of_hics_camera(records, manos, tmp_path):
    """A disc at a keypoint of the record is found where HIC's camera sees that keypoint in space."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    marked = []
    for record, finger in zip(records, (4, 8, 12, 20), strict=True):
        place = record.keypoints_2d[finger, :2]
        disc = np.clip(4.5 - np.hypot(x - place[0], y - place[1]), 0, 1) * 255
        image = jpeg(np.repeat(np.round(disc).astype(np.uint8)[..., None], 3, axis=2))
        marked.append((dataclasses.replace(record, image=image), finger))
    assert write_hic([record for record, _ in marked], tmp_path, manos) == (4, 4, {})
    rows, columns = np.mgrid[:480, :640]
    for number, (_, picture, _) in read_back(tmp_path).items():
        record, finger = marked[number]
        light = np.where(picture[..., 0] > 64, picture[..., 0], 0).astype(float)
        found = np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()
        point = record.keypoints_3d[finger, :3]
        np.testing.assert_allclose(found, FOCAL * point[:2] / point[2] + PRINCIPAL, atol=0.15)


def test_meshes_are_manos_in_camera_space(records, manos, tmp_path):
    own = [dataclasses.replace(record, hand_model="mano") for record in records[:2]]
    write_hic(own, tmp_path, manos)
    read = read_back(tmp_path)
    for number, record in enumerate(own):
        annotation, _, meshes = read[number]
        assert annotation["hand_type"] == record.side and list(meshes) == [record.side]
        posed = pose_hand(manos[record.side], record.pose, record.betas, record.translation)
        assert meshes[record.side].shape == (778, 3)
        np.testing.assert_allclose(meshes[record.side], posed.vertices, atol=1e-6)


def test_meshes_of_the_open_hand_are_those_of_its_other_export(records, manos, tmp_path):
    write_hic(records[:2], tmp_path, manos)
    write_interhand(records[:2], tmp_path, "test", manos)
    path = tmp_path / "annotations/test/InterHand2.6M_test_MANO_NeuralAnnot.json"
    fits, read = json.loads(path.read_text())["0"], read_back(tmp_path)
    for number, record in enumerate(records[:2]):
        fit, model = fits[str(number)][record.side], manos[record.side]
        pose = absolute_pose(model, jnp.float32(fit["pose"]).reshape(16, 3))
        posed = pose_hand(model, pose, np.float32(fit["shape"]), np.float32(fit["trans"]))
        np.testing.assert_allclose(read[number][2][record.side], posed.vertices, atol=1e-5)
        np.testing.assert_allclose(posed.keypoints[0], record.keypoints_3d[0, :3], atol=1e-4)


def test_two_hands_of_a_picture_are_one_annotation(records, manos, tmp_path):
    """With both meshes where they are, and a picture in which discs at both wrists are found where HIC sees them."""
    (_, placed, _) = painted_pairs(1, SIZE)[0]
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    discs = [np.clip(3.5 - np.hypot(x - u, y - v), 0, 1) * 255 for u, v in (hand.keypoints[0] for hand in placed)]
    image = np.round(np.stack([*discs, np.zeros_like(x)], axis=2)).astype(np.uint8)  # the right one's red
    hands = [hand.cut_from(image) for hand in placed]
    third = dataclasses.replace(records[1], id="crowd#2", source="crowd")
    crowd = [dataclasses.replace(third, id=f"crowd#{number}") for number in range(3)]
    counts = {"more than two hands in the picture": 3}
    assert write_hic([hands[1], *crowd, records[0], hands[0]], tmp_path, manos) == (3, 2, counts)
    annotation, picture, meshes = read_back(tmp_path)[0]
    assert annotation["hand_type"] == "interacting" and list(meshes) == ["right", "left"]
    rows, columns = np.mgrid[:480, :640]
    for channel, record in enumerate(hands):
        posed = pose_hand(manos[record.side], *mano_parameters(record, manos))
        np.testing.assert_allclose(meshes[record.side], posed.vertices, atol=1e-5)
        light = np.where(picture[..., channel] > 64, picture[..., channel], 0).astype(float)
        found = np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()
        point = record.keypoints_3d[0, :3]
        np.testing.assert_allclose(found, FOCAL * point[:2] / point[2] + PRINCIPAL, atol=0.5)
    assert read_back(tmp_path)[1][0]["hand_type"] == records[0].side


def out_of_sight(record):
    """As far beside HIC's camera as before it, in the middle of its own."""
    aside = np.float32([record.keypoints_3d[0, 2], 0, 0, 0])
    shifted = record.camera - np.float32([0, 0, record.camera[0], 0])
    far = dataclasses.replace(record, keypoints_3d=record.keypoints_3d + aside, camera=shifted)
    return dataclasses.replace(far, keypoints_2d=_seen(far))


def test_records_that_hic_cannot_show_are_left_out_and_counted(records, manos, tmp_path):
    mixed = [records[0], out_of_sight(records[1]), dataclasses.replace(records[2], translation=None), records[3]]
    counts = {"out of sight of HIC's camera": 1, "no translation": 1}
    assert write_hic(mixed, tmp_path, manos) == (2, 2, counts)
    read = read_back(tmp_path)
    assert [(number, annotation["hand_type"]) for number, (annotation, *_) in read.items()] == [
        (0, records[0].side),
        (1, records[3].side),
    ]
    posed = pose_hand(manos[records[3].side], *mano_parameters(records[3], manos))
    np.testing.assert_allclose(read[1][2][records[3].side], posed.vertices, atol=1e-5)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 5  # two pictures, two meshes, HIC.json


def test_where_hic_can_show_no_record_nothing_is_written(records, manos, tmp_path):
    record = records[0]
    far = out_of_sight(record)
    with pytest.raises(InputError, match="none of 2 records can be written: record rendered-5-0000000: HIC's camera"):
        write_hic([far, dataclasses.replace(record, side=None)], tmp_path, manos)
    with pytest.raises(InputError, match="HIC's camera would not see all of its hand"):
        write_hic([far], tmp_path, manos)
    with pytest.raises(InputError, match="has no translation, without which it cannot be written"):
        write_hic([dataclasses.replace(record, translation=None)], tmp_path, manos)
    with pytest.raises(InputError, match="are not where the camera sees them"):
        write_hic([dataclasses.replace(record, camera=2 * record.camera)], tmp_path, manos)
    with pytest.raises(InputError, match="there are no records to write"):
        write_hic([], tmp_path, manos)
    assert not any(tmp_path.iterdir())


def _seen(record):
    points, camera = record.keypoints_3d, record.camera
    return np.column_stack([camera[:2] * points[:, :2] / points[:, 2:3] + camera[2:], np.ones(21)]).astype(np.float32)


def test_the_command_says_what_was_left_out(monkeypatch, tmp_path, capsys, records, manos):
    monkeypatch.setattr(export, "open_records", lambda folder, split: [out_of_sight(records[0]), *records[1:]])
    monkeypatch.setattr(export, "load_manos", lambda folder: manos)
    words = ["export", "--records", "painted", "--to", "hic", "--out", str(tmp_path / "out"), "--mano", "mano"]
    monkeypatch.setattr(sys, "argv", words)
    export.main()
    told = capsys.readouterr().out.splitlines()[-1]
    made = f"{tmp_path / 'out'}: 3 records of painted (train) in 3 pictures"
    assert told == f"{made}, 1 left out: out of sight of HIC's camera"


def test_the_command_asks_for_mano(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "open_records", lambda folder, split: [None])
    words = ["export", "--records", str(tmp_path), "--to", "hic", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(ConfigError, match="--to hic writes meshes of MANO; give --mano"):
        export.main()

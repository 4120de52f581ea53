"""HaGRID in the layouts of github.com/hukenovs/hagrid. First version: branch Hagrid_v1, README (Annotations) and
converters/hagrid_to_yolo.py (get_dataframe). Second: branch master, README (structure of the dataset, Annotations).
"""

import json
from pathlib import Path

import numpy as np
import pytest

import handjax
from data_pipelines.datasets.builder import DatasetConfig
from data_pipelines.datasets.hagrid import Hagrid
from handjax.errors import InputError
from handjax.images import read_image, write_image
from handjax.perception import HandDetector
from tests.data_pipelines.datasets.truth import (
    check_mesh,
    check_record,
    matrix,
    picture_of,
    prepare,
    true_hand,
)

SIZE = (360, 640)
K = matrix(700.0, (320.0, 180.0))
PHOTO = Path(handjax.__file__).parent / "assets" / "photos" / "nocurl.jpg"


def relative(pixels, size):
    """Landmarks as annotated: shares of width and height."""
    return (np.asarray(pixels) / [size[1], size[0]]).tolist()


def box(pixels, size):
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    return [*(low / [size[1], size[0]]), *((high - low) / [size[1], size[0]])]


def write_v1(folder):
    """Training: "peace" by the left hand with the right one idle, then unseen by MediaPipe; test: "ok"."""
    left = true_hand(6, "left", K, SIZE, (440, 160))
    right = true_hand(7, "right", K, SIZE, (200, 200), depth=0.6)
    both = {
        "bboxes": [box(right.pixels, SIZE), box(left.pixels, SIZE)],
        "landmarks": [relative(right.pixels, SIZE), relative(left.pixels, SIZE)],
        "labels": ["no_gesture", "peace"],
        "leading_hand": "left",
        "leading_conf": 1.0,
        "user_id": "bb138d5db200f29385f",
    }
    unseen = both | {"landmarks": [[], relative(left.pixels, SIZE)]}
    one = {"bboxes": [box(right.pixels, SIZE)], "landmarks": [relative(right.pixels, SIZE)], "labels": ["ok"]}
    one |= {"leading_hand": "right", "leading_conf": 0.9, "user_id": "a"}
    for part, gesture, entries in (
        ("train", "peace", {"03487280-224f": both, "0534147c-4548": unseen}),
        ("train", "call", {"never": one}),
        ("test", "ok", {"04c49801-1101": one}),
    ):
        path = folder / "annotations" / part / f"{gesture}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entries))
        for name, entry in entries.items():
            hands = (left, right) if entry is not one else (right,)
            if gesture != "call":  # an archive that nobody fetched
                write_image(folder / "dataset" / part / gesture / f"{name}.jpg", picture_of(hands, SIZE))
    return left, right


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hagrid")
    left, right = write_v1(folder / "hagrid")
    with pytest.MonkeyPatch.context() as patch:
        records = prepare(patch, f"hagrid:{folder / 'hagrid'}", folder / "out")
    return records, left, right, json.loads((folder / "out" / "manifest.json").read_text())


def test_the_leading_hand_tells_both_sides(first):
    records, left, right, manifest = first
    train = records["train"]
    assert set(train) == {"train/peace/03487280-224f#0", "train/peace/03487280-224f#1", "train/peace/0534147c-4548#1"}
    assert set(records["eval"]) == {"test/ok/04c49801-1101#0"}
    assert manifest["failures"]["counts"] == {"too few keypoints are seen": 1}
    both = picture_of((left, right), SIZE)
    for name, hand, picture in (
        ("train/peace/03487280-224f#0", right, both),
        ("train/peace/03487280-224f#1", left, both),
        ("train/peace/0534147c-4548#1", left, both),
        ("test/ok/04c49801-1101#0", right, picture_of((right,), SIZE)),
    ):
        record = (train | records["eval"])[name]
        check_mesh(record, hand, check_record(record, hand, picture))
        assert record.keypoints_3d is None and record.camera is not None


def test_captions_name_the_gesture_or_describe_the_hand(first):
    train = first[0]["train"]
    assert train["train/peace/03487280-224f#1"].caption == "a photo of a left hand making the gesture peace"
    idle = train["train/peace/03487280-224f#0"].caption
    assert idle.startswith("a photo of a") and "right hand" in idle and "gesture" not in idle


def test_the_papers_draw_their_evaluation_set_by_seed(tmp_path):
    assert Hagrid.FACTS.paper_eval == ("eval", 12_000)
    names = {f"{n:05d}": {"labels": [], "landmarks": []} for n in range(12_500)}
    path = tmp_path / "annotations" / "test" / "ok.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(names))
    (tmp_path / "dataset" / "test" / "ok").mkdir(parents=True)
    for name in names:
        (tmp_path / "dataset" / "test" / "ok" / f"{name}.jpg").touch()
    drawn = []
    for seed in (0, 0, 1):
        config = DatasetConfig(folder=str(tmp_path), paper_eval=seed)
        builder = Hagrid(config=config, data_dir=str(tmp_path / "out"), file_format="array_record")
        (draw,) = builder._draws()
        drawn.append([sample.name for sample in builder._choose(tmp_path, draw)])
    assert len(set(drawn[0])) == 12_000 and drawn[0] == drawn[1] and drawn[0] != drawn[2]


@pytest.fixture(scope="module")
def photographed():
    photo = read_image(PHOTO)
    (hand,) = HandDetector.load().detect(photo)
    return photo, hand


def write_v2(folder, photo, hand):
    entry = {
        "bboxes": [box(hand.keypoints[:, :2], photo.shape[:2])] * 2,
        "labels": ["thumb_index2", "thumb_index2"],
        "united_bbox": [box(hand.keypoints[:, :2], photo.shape[:2])],
        "united_label": ["thumb_index2"],
        "user_id": "2fe6a9156ff8ca27fbce8ada318c592b",
        "hand_landmarks": [relative(hand.keypoints[:, :2], photo.shape[:2]), []],
        "meta": {"age": [24.41], "gender": ["female"], "race": ["White"]},
    }
    write_image(folder / "hagrid_dataset" / "thumb_index2" / "00000000.jpg", photo)
    for part in ("train", "val", "test"):
        path = folder / "hagrid_annotations" / part / "thumb_index2.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"00000000": entry}))


@pytest.mark.slow
def test_the_second_version_takes_sides_from_the_landmark_network(tmp_path, monkeypatch, photographed):
    photo, hand = photographed
    write_v2(tmp_path / "v2", photo, hand)
    records = prepare(monkeypatch, f"hagrid_v2:{tmp_path / 'v2'}", tmp_path / "out")
    assert {split: list(made) for split, made in records.items()} == {
        split: [f"{part}/thumb_index2/00000000#0"]
        for split, part in (("train", "train"), ("val", "val"), ("eval", "test"))
    }
    (record,) = records["train"].values()
    assert record.side == hand.side and record.caption == "a photo of a hand making the gesture thumb index2"
    moved = hand.keypoints[:, :2] - record.keypoints_2d[:, :2]
    np.testing.assert_allclose(moved, np.round(moved[:1]).repeat(21, axis=0), atol=0.01)


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda folder: (folder / "annotations" / "test" / "ok.json").unlink(), r"annotations/test/\*.json: missing"),
        (lambda folder: (folder / "dataset" / "test" / "ok").rename(folder / "else"), "test/GESTURE: missing"),
        (lambda folder: (folder / "dataset/train/peace/03487280-224f.jpg").unlink(), "03487280-224f.jpg: missing"),
        (
            lambda folder: (folder / "annotations/test/ok.json").write_text('{"a": {"labels": ["ok"]}}'),
            "a has not one of landmarks a label",
        ),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, damage, text):
    write_v1(tmp_path / "hagrid")
    damage(tmp_path / "hagrid")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"hagrid:{tmp_path / 'hagrid'}", tmp_path / "out")
    assert "https://github.com/hukenovs/hagrid" in str(caught.value) and "\n" not in str(caught.value)

"""100DOH in the layout of github.com/ddshan/hand_object_detector: README (folders), lib/datasets/pascal_voc.py (pixels
from 1, fields), lib/datasets/voc_eval.py (further fields), lib/model/utils/viz_hand_obj.py (meaning of the numbers).
"""

import json
from pathlib import Path

import numpy as np
import pytest

import handjax
from data_pipelines.datasets.builder import DatasetConfig
from data_pipelines.datasets.doh100 import Doh100
from handjax.errors import InputError
from handjax.images import read_image, write_image
from handjax.perception import HandDetector
from tests.data_pipelines.datasets.truth import prepare

PHOTO = Path(handjax.__file__).parent / "assets" / "photos" / "nocurl.jpg"
FRAME = "boardgame_848_sU8S98MT1Mo_00013957"
EMPTY = [5, 5, 60, 60]
"""A place in the photo where there is no hand."""


def element(name, box, side, contact):
    corners = "".join(f"<{n}>{v}</{n}>" for n, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return (
        f"<object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<bndbox>{corners}</bndbox><contactstate>{contact}</contactstate><handside>{side}</handside>"
        "<objxmin>None</objxmin><objymin>None</objymin><objxmax>None</objxmax><objymax>None</objymax>"
        "<unitdx>None</unitdx><unitdy>None</unitdy><magnitude>None</magnitude></object>"
    )


def write_doh(folder, photo, box):
    """A hand that touches a portable object, one that is nowhere, and an object; then a frame without hands."""
    hands = [("targetobject", [1, 1, 9, 9], "None", "None"), ("hand", box, 1, 3), ("hand", EMPTY, 0, 0)]
    frames = {FRAME: hands, "study_v_1_frame000001": hands[:1]}
    place = folder / "VOC2007"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (place / name).mkdir(parents=True)
    for name, entries in frames.items():
        text = "".join(element(*entry) for entry in entries)
        (place / "Annotations" / f"{name}.xml").write_text(f"<annotation><folder>a</folder>{text}</annotation>")
        write_image(place / "JPEGImages" / f"{name}.jpg", photo)
    for part in ("trainval", "test"):
        (place / "ImageSets/Main" / f"{part}.txt").write_text("".join(f"{name}\n" for name in frames))


@pytest.fixture(scope="module")
def photo():
    image = read_image(PHOTO)
    (hand,) = HandDetector.load().detect(image)
    margin = 0.08 * (hand.box[2:] - hand.box[:2])
    low, high = np.floor(hand.box[:2] - margin), np.ceil(hand.box[2:] + margin)
    return image, hand, [int(v) for v in (*low + 1, *high)]


@pytest.fixture(scope="module")
def made(photo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("doh")
    image, _, box = photo
    write_doh(folder / "VOC", image, box)
    with pytest.MonkeyPatch.context() as patch:
        records = prepare(patch, f"doh100:{folder / 'VOC'}", folder / "out")
    return records, json.loads((folder / "out" / "manifest.json").read_text()), folder / "VOC"


def test_the_hand_in_a_box_is_read_and_has_the_side_that_is_annotated(made, photo):
    records, manifest, _ = made
    _, hand, _ = photo
    assert set(records["train"]) == {f"trainval/{FRAME}#0"} and set(records["eval"]) == {f"test/{FRAME}#0"}
    record = records["eval"][f"test/{FRAME}#0"]
    assert record.side == "right" and record.caption == "a photo of a right hand touching a portable object"
    # of the same hand, as it is found without a box
    corner = np.round(np.mean(hand.keypoints[:, :2] - record.keypoints_2d[:, :2], axis=0))
    off = np.linalg.norm(record.keypoints_2d[:, :2] + corner - hand.keypoints[:, :2], axis=1)
    assert off.mean() < 0.05 * (hand.box[2:] - hand.box[:2]).max()
    assert np.abs(record.keypoints_3d[:, :2] - hand.world[:, :2]).max() < 0.02 and record.hand_model == "open_hand"
    assert manifest["pictures"] == 2 and manifest["failures"]["counts"] == {"no hand found": 2}


def test_boxes_hold_their_last_pixel_and_count_from_1(made, photo):
    builder = Doh100(config=DatasetConfig(), data_dir=str(made[2]), file_format="array_record")
    (sample,) = builder.samples(made[2], "test")
    first, second = sample.entry
    np.testing.assert_array_equal(first.box, np.array(photo[2]) - [1, 1, 0, 0])
    assert (second.side, second.touched) == ("left", "nothing")


@pytest.mark.parametrize("side, contact, caption", [("None", 2, "a hand touching another person"), (0, "None", None)])
def test_what_is_not_annotated_stays_unknown(tmp_path, photo, monkeypatch, side, contact, caption):
    image, _, box = photo
    write_doh(tmp_path / "VOC", image, box)
    path = tmp_path / "VOC" / "VOC2007" / "Annotations" / f"{FRAME}.xml"
    path.write_text(f"<annotation>{element('hand', box, side, contact)}</annotation>")
    builder = Doh100(config=DatasetConfig(), data_dir=str(tmp_path), file_format="array_record")
    (sample,) = builder.samples(tmp_path / "VOC", "test")
    (annotation,) = builder.hands(sample, image.shape[:2])
    (reading,) = HandDetector.load().read(image, boxes=np.array([box]) - [1, 1, 0, 0])
    assert annotation.side == ("left" if side == 0 else reading.side)
    assert annotation.caption == (caption and f"a photo of {caption}")


@pytest.mark.parametrize(
    "damage, text",
    [
        (lambda place: (place / "ImageSets/Main/trainval.txt").unlink(), "trainval.txt: missing"),
        (lambda place: (place / f"Annotations/{FRAME}.xml").unlink(), f"{FRAME}.xml: missing"),
        (lambda place: (place / f"JPEGImages/{FRAME}.jpg").unlink(), f"{FRAME}.jpg: missing"),
        (lambda place: (place / f"Annotations/{FRAME}.xml").write_text("<annotation>"), "no annotation of hands"),
        (
            lambda place: (place / f"Annotations/{FRAME}.xml").write_text(f"<a>{element('hand', EMPTY, 7, 0)}</a>"),
            "no annotation of hands",
        ),
    ],
)
def test_a_half_unpacked_download_says_what_is_missing_and_where_to_get_it(tmp_path, monkeypatch, photo, damage, text):
    write_doh(tmp_path / "VOC", photo[0], photo[2])
    damage(tmp_path / "VOC" / "VOC2007")
    with pytest.raises(InputError, match=text) as caught:
        prepare(monkeypatch, f"doh100:{tmp_path / 'VOC'}", tmp_path / "out")
    assert "https://github.com/ddshan/hand_object_detector" in str(caught.value) and "\n" not in str(caught.value)

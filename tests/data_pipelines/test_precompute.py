import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import handjax
from data_pipelines.features import open_records
from handjax.errors import InputError
from handjax.images import decode_image, write_image
from launch import precompute

PHOTOS = Path(handjax.__file__).parent / "assets" / "photos"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["precompute", *map(str, arguments)])
    return precompute.main()


def test_photos_become_records_and_bad_ones_are_listed(tmp_path, monkeypatch, capsys):
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    shutil.copy(PHOTOS / "nocurl.jpg", photos)
    (photos / "nocurl.txt").write_text("five fingers")
    (photos / "broken.jpg").write_bytes(b"not a picture")
    write_image(photos / "empty.png", np.full((200, 200, 3), 90, np.uint8))
    status = run(monkeypatch, "--input", photos, "--output", output, "--eval-fraction", 0, "--json")
    report = json.loads(capsys.readouterr().out)
    manifest = json.loads((output / "manifest.json").read_text())

    assert status == 2
    assert manifest["records"] == {"train": 1} and manifest["pictures"] == 3
    assert manifest["failures"]["counts"] == {"unreadable": 1, "no hand found": 1}
    assert {Path(error["input"]).name for error in report["errors"]} == {"broken.jpg", "empty.png"}
    assert report["items"][0]["output"] == str(output)
    (record,) = open_records(output, "train")
    assert (record.id, record.caption, record.source) == ("nocurl.jpg#0", "five fingers", "nocurl.jpg")
    check_geometry(record)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def check_geometry(record):
    side = len(decode_image(record.image, record.id))
    points = record.keypoints_2d[:, :2]
    assert np.ptp(points, axis=0).max() == pytest.approx(side / 2, abs=1.0)
    mask = decode_image(record.mask, record.id)[..., 0] > 0
    x, y = (points * len(mask) / side).astype(int).T
    assert mask[y, x].mean() > 0.7
    assert all(value is not None for value in (record.depth, record.skeleton, record.mesh, record.pose, record.camera))


def test_nothing_is_left_when_no_picture_shows_a_hand(tmp_path, monkeypatch):
    write_image(tmp_path / "photos" / "empty.png", np.full((200, 200, 3), 90, np.uint8))
    with pytest.raises(InputError, match="gave a hand"):
        run(monkeypatch, "--input", tmp_path / "photos", "--output", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    "source, output, text",
    [
        ("missing", "out", "no such folder"),
        ("photos/a.png", "out", "not a folder"),
        ("empty", "out", "no pictures"),
        ("photos", "photos", "holds the input"),
        ("photos", ".", "holds the input"),
        ("empty", "photos", "was not made by this command"),
        ("rendered:many", "out", "rendered:COUNT"),
        ("rendered:0", "out", "rendered:COUNT"),
    ],
)
def test_what_cannot_work_is_refused_and_leaves_everything_alone(tmp_path, monkeypatch, source, output, text):
    write_image(tmp_path / "photos" / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=text):
        run(monkeypatch, "--input", source, "--output", output)
    assert sorted(tmp_path.rglob("*")) == before

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
from handjax.perception import HandDetector
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
    (photos / "broken.jpg").write_bytes((PHOTOS / "nocurl.jpg").read_bytes()[:5000])
    (photos / "locked.jpg").symlink_to("/proc/self/mem")  # a file that says it is there and cannot be read
    write_image(photos / "dot.png", np.zeros((1, 1, 3), np.uint8))
    write_image(photos / "empty.png", np.full((200, 200, 3), 90, np.uint8))
    status = run(monkeypatch, "--input", photos, "--output", output, "--eval-fraction", 0, "--json")
    report = json.loads(capsys.readouterr().out)
    manifest = json.loads((output / "manifest.json").read_text())

    assert status == 2
    assert manifest["records"] == {"train": 1} and manifest["pictures"] == 5
    assert manifest["failures"]["counts"] == {"unreadable": 2, "no hand found": 2}
    reasons = {Path(failure["input"]).name: failure["reason"] for failure in manifest["failures"]["items"]}
    assert (reasons["broken.jpg"], reasons["locked.jpg"]) == ("unreadable", "unreadable")
    assert (reasons["dot.png"], reasons["empty.png"]) == ("no hand found", "no hand found")
    assert {Path(error["input"]).name for error in report["errors"]} == set(reasons)
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


def test_a_picture_that_breaks_the_detector_is_counted_and_the_job_goes_on(tmp_path, monkeypatch, capsys):
    class Breaking(HandDetector):
        def detect(self, image):
            if image.shape == (30, 40, 3):
                raise FloatingPointError("so odd")
            return super().detect(image)

    photos = tmp_path / "photos"
    write_image(photos / "odd.png", np.zeros((30, 40, 3), np.uint8))
    shutil.copy(PHOTOS / "nocurl.jpg", photos)
    monkeypatch.setattr("data_pipelines.photos.HandDetector", Breaking)
    assert run(monkeypatch, photos, "--output", tmp_path / "out", "--eval-fraction", 0) == 2
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["records"] == {"train": 1} and manifest["failures"]["counts"] == {"error": 1}
    assert "odd.png: FloatingPointError: so odd" in capsys.readouterr().err


def test_run_again_it_makes_what_has_changed_and_keeps_the_rest(tmp_path, monkeypatch):
    photos = tmp_path / "hands"
    shutil.copytree(PHOTOS, photos, ignore=shutil.ignore_patterns("LICENSE*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("data_pipelines.shards.SHARD_SIZE", 1)
    assert run(monkeypatch, photos, "--eval-fraction", 0.34) == 0
    output = tmp_path / "data" / "hands"
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["kept_shards"] == 0 and sum(manifest["records"].values()) == 3
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*-of-*")}

    assert run(monkeypatch, "--input", photos, "--eval-fraction", 0.34) == 0
    assert {path.name: path.stat().st_mtime_ns for path in output.glob("*-of-*")} == before
    again = json.loads((output / "manifest.json").read_text())
    assert again["kept_shards"] == len(manifest["shards"]) and again["shards"] == manifest["shards"]

    (photos / "fullcurl.txt").write_text("a fist")
    assert run(monkeypatch, photos, "--eval-fraction", 0.34) == 0
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("*-of-*")}
    made = {name.removesuffix(".json") for name in after if after[name] != before[name]}
    assert len(made) == 1
    captions = [record.caption for split in ("train", "eval") for record in open_records(output, split)]
    assert captions.count("a fist") == 1
    assert sorted(path.name for path in output.parent.iterdir()) == ["hands"]


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
        ("rendered:8", "/proc", "is a mount point"),
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

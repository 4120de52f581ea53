"""`launch.score` as a user runs it: statuses, outputs, exit status, killed and resumed."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import handjax
from handjax.errors import ConfigError
from handjax.images import read_image, write_image
from handjax.perception import HandDetector
from launch import score
from tests.inference.drawn_hand import hand_of_shapes

ROOT = Path(handjax.__file__).parents[1]
PHOTOS = ROOT / "handjax" / "assets" / "photos"
DETECTIONS = ["--detections", "theirs:detect"]

THEIRS = """
import os, time
import numpy as np
from handjax.perception import DetectedHand

def detect(image):
    time.sleep(float(os.environ.get("SLOWNESS", 0)))
    with open(os.environ["CALLS"], "a") as file:
        file.write("x")
    kind = int(image[0, 0, 0]) % 3
    points = np.load(os.environ["POINTS"]).astype(np.float32)
    return [DetectedHand.from_landmarks("right" if kind == 2 else "left", 0.99, *points)] if kind else []
"""


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process; gives its JSON document."""

    def run_command(*arguments, status=0):
        monkeypatch.setattr(sys, "argv", ["score", *map(str, arguments), "--json", "--workers", "1"])
        assert score.main() == status
        return json.loads(capsys.readouterr().out)

    return run_command


@pytest.fixture(scope="module")
def hand():
    (hand,) = HandDetector.load().detect(read_image(PHOTOS / "fullcurl.jpg"))
    return hand


@pytest.fixture
def pictures(hand, tmp_path, monkeypatch):
    """Pictures 0 to 8 and a detector: no hand, a left one, the same taken for a right one (bent back), and so on."""
    np.save(tmp_path / "points.npy", [hand.keypoints, hand.world])
    (tmp_path / "theirs.py").write_text(THEIRS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("POINTS", str(tmp_path / "points.npy"))
    # of patches, about which the learned head is sure of nothing
    patches = np.random.default_rng(0).integers(0, 256, (20, 15, 3), np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    for i in range(9):
        patches[0, 0] = i
        write_image(tmp_path / "in" / f"{i}.png", patches)
    return tmp_path / "in"


def test_every_input_has_its_status(run, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture either")
    write_image(tmp_path / "wall.png", np.full((64, 64, 3), 200, np.uint8))
    write_image(tmp_path / "drawn.png", hand_of_shapes((255, 224, 189), (255, 255, 255)))
    document = run(PHOTOS, tmp_path, tmp_path / "missing.png", status=2)
    items = {Path(item["input"]).name: item for item in document["items"]}
    assert [Path(error["input"]).name for error in document["errors"]] == ["broken.png", "missing.png"]
    found = {name: item["status"] for name, item in items.items() if item["status"] != "scored"}
    assert found.pop("PHOTOS_LICENSE.md", "not a picture") == "not a picture"
    found = {name: status for name, status in found.items() if Path(name).suffix != ".md"}
    assert found == {
        "LICENSE": "not a picture",
        "broken.png": "error",
        "notes.txt": "not a picture",
        "wall.png": "no hand found",
        "drawn.png": "no hand found",
        "missing.png": "error",
    }
    assert "not a picture" in items["broken.png"]["error"] and "no such file" in items["missing.png"]["error"]
    for name in ("nocurl.jpg", "halfcurl.jpg", "fullcurl.jpg"):
        (hand,) = items[name]["hands"]
        # to the learned head halfcurl.jpg looks malformed: tests/anatomy/test_head.py expects that to end
        assert hand["verdict"] == ("implausible" if name == "halfcurl.jpg" else "plausible")
        assert (hand["paper_verdict"], hand["fingers"]) == ("plausible", None)
        assert 0.5 < hand["s_anat"] <= 1 and len(hand["keypoints"]) == 21 and items[name]["found_by"] == "at once"
    (summary,) = document["summary"]["sets"]
    assert summary["implausible"]["strict"]["of"] == 3 and summary["pictures"]["error"] == 2
    assert document["summary"]["provenance"]["threshold"] == 0.5


@pytest.mark.slow
def test_a_clip_is_scored_frame_by_frame_with_tracks(run, tmp_path):
    photo = Image.fromarray(read_image(PHOTOS / "fullcurl.jpg")).resize((240, 320))
    clip = tmp_path / "clip.gif"
    frames = [photo.copy() for _ in range(3)]
    for number, frame in enumerate(frames):  # equal ones would become one
        frame.paste((0, 80 * number, 0), (0, 0, 8, 8))
    frames[0].save(clip, save_all=True, append_images=frames[1:], duration=40)
    damaged = tmp_path / "damaged.gif"
    damaged.write_bytes(clip.read_bytes()[:300])
    document = run(clip, damaged, "--video", status=2)
    items = [item for item in document["items"] if item["status"] == "scored"]
    assert [item["frame"] for item in items] == [0, 1, 2]
    assert [hand["track"] for item in items for hand in item["hands"]] == [0, 0, 0]
    assert [hand["verdict"] for item in items for hand in item["hands"]] == ["plausible"] * 3
    assert [error["input"] for error in document["errors"]] == [str(damaged)]


def test_what_detect_prints_can_be_scored(run, tmp_path, monkeypatch, pictures):
    """Keypoints that another detector gave are scored as ours are; pictures it does not name are errors."""
    found = run(PHOTOS / "nocurl.jpg")
    (tmp_path / "hands.json").write_text(json.dumps(found))
    monkeypatch.chdir(PHOTOS)
    document = run("nocurl.jpg", "halfcurl.jpg", "--detections", tmp_path / "hands.json", status=2)
    (hand,), nothing = (item["hands"] for item in document["items"])
    assert hand["s_anat"] == pytest.approx(found["items"][0]["hands"][0]["s_anat"], abs=1e-3)
    assert nothing == [] and "says nothing of it" in document["errors"][0]["error"]
    with pytest.raises(ConfigError, match="MODULE:FUNCTION"):
        run(PHOTOS / "nocurl.jpg", "--detections", "theirs:nothing")


WORSE = """
import json
import numpy as np

class Hand:
    side, score, keypoints, world = "left", 0.9, np.zeros((21, 2)), np.zeros((21, 3))

def detect(image):
    answers = [lambda: None, lambda: [Hand], lambda: json.loads("{"), lambda: [1], lambda: []]
    return answers[image[0, 0, 0]]()
"""


def test_a_detector_that_fails_fails_its_pictures_alone(run, pictures, tmp_path):
    (tmp_path / "worse.py").write_text(WORSE)
    inputs = [pictures / f"{i}.png" for i in range(5)]
    document = run(*inputs, "--detections", "worse:detect", status=2)
    assert [item["status"] for item in document["items"]] == ["error"] * 4 + ["no hand found"]
    said = [error["error"] for error in document["errors"]]
    assert "failed (TypeError: 'NoneType' object is not iterable); it is to return a list of" in said[0]
    assert "(ValueError: keypoints (21, 2), world (21, 3), where 21 x 3 numbers are wanted)" in said[1]
    assert "(JSONDecodeError: " in said[2] and "(AttributeError: " in said[3]
    assert all("\n" not in line and line.startswith(str(path)) for line, path in zip(said, inputs, strict=False))


@pytest.mark.parametrize(
    ("source", "said"),
    [("def detect(image)", "SyntaxError"), ("1 / 0", "ZeroDivisionError"), ("import absent", "ModuleNotFoundError")],
)
def test_a_module_that_cannot_be_imported_is_one_line_before_the_work(run, tmp_path, monkeypatch, source, said):
    (tmp_path / f"broken_{said.lower()}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    words = ("--detections", f"broken_{said.lower()}:detect", "--report", tmp_path / "report.html")
    with pytest.raises(ConfigError, match=rf"not found \({said}: .*; give a file FILE.json or MODULE:FUNCTION"):
        run(PHOTOS, *words)
    assert len(list(tmp_path.iterdir())) == 1  # no journal was begun


@pytest.mark.parametrize(("most", "status"), [("0.49", 1), ("0.5", 0), ("1", 0)])
def test_the_exit_status_tells_too_many(run, pictures, most, status):
    document = run(pictures, *DETECTIONS, "--fail-above", most, status=status)
    (summary,) = document["summary"]["sets"]
    strict = summary["implausible"]["strict"]
    assert (strict["count"], strict["of"], summary["pictures"]["no hand found"]) == (3, 6, 3)
    pictures_of = summary["implausible_pictures"]["strict"]
    assert (pictures_of["count"], pictures_of["of"]) == (3, 6)
    with pytest.raises(ConfigError, match="--fail-above"):
        run(pictures, "--fail-above", "10")


def test_a_threshold_is_not_met_where_nothing_is_judged(run, pictures, monkeypatch, capsys):
    empty = pictures / "0.png"
    assert run(empty, *DETECTIONS)["summary"]["sets"][0]["implausible"]["strict"]["share"] is None
    monkeypatch.setattr(sys, "argv", ["score", str(empty), *DETECTIONS, "--fail-above", "1", "--workers", "1"])
    assert score.main() == score.NOTHING_JUDGED_STATUS == 3
    assert "no hand was judged" in capsys.readouterr().err


def test_limits_with_another_tolerance(run, pictures):
    bent = pictures / "2.png"
    usual, lax = (run(bent, *DETECTIONS, *more)["items"][0]["hands"][0] for more in ((), ("--tolerance", 180)))
    assert usual["verdict"] == "implausible" and usual["violations"] != [] == lax["violations"]
    assert (lax["verdict"], lax["fingers"]) == ("plausible", None) and lax["s_anat"] > usual["s_anat"] + 0.5


def test_two_sets_are_compared(run, pictures):
    good, bad = ([pictures / f"{3 * i + kind}.png" for i in range(3)] for kind in (1, 2))
    document = run(*bad, "--compare", *good, *DETECTIONS)
    assert [item["set"] for item in document["items"]] == ["a"] * 3 + ["b"] * 3
    strict = document["summary"]["comparison"]["strict"]
    assert strict["p_value"] == pytest.approx(2 / 20) and strict["odds_ratio"] is None
    assert (strict["difference"], strict["low"], strict["high"]) == (1, 1, 1)


class Page(HTMLParser):
    """What a page loads and the texts of its table's rows."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.rows = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.loaded += [given[name] for name in ("src", "href") if name in given]
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_the_report_and_the_table_say_what_the_json_says(run, pictures, tmp_path):
    write_image(pictures / "<b>.png", read_image(pictures / "2.png"))
    (pictures / "z.png").write_bytes(b"")
    page, table = tmp_path / "out" / "report.html", tmp_path / "out" / "hands.csv"
    document = run(pictures, *DETECTIONS, "--report", page, "--csv", table, status=2)
    assert sorted(path.name for path in page.parent.iterdir()) == ["hands.csv", "report.html"]
    items = document["items"]
    text = page.read_text()
    parsed = Page(text)
    assert all(source.startswith("data:image/jpeg;base64,") for source in parsed.loaded) and len(parsed.loaded) == 10
    assert not re.search(r"https?:|@import|url\(", text)
    assert "4 of 7" in text and document["summary"]["provenance"]["version"] in text
    rows = [row for row in parsed.rows if row]
    assert [row[1] for row in rows] == [item["input"] for item in items]  # names are escaped
    assert [row[2] for row in rows] == [item["status"] for item in items]
    assert {row[7] for row in rows if row[3]} == {"unknown"}  # nobody counts fingers in patches
    assert [row[3] for row in rows] == [
        hand["verdict"] for item in items for hand in item["hands"] or [{"verdict": ""}]
    ]
    wrong = next(row for row in rows if row[3] == "implausible")
    assert " bent −" in wrong[6] and "limit" in wrong[6]
    with table.open() as file:
        cells = list(csv.DictReader(file))
    assert [row["input"] for row in cells] == [item["input"] for item in items]
    hands = [(row, item["hands"][0]) for row, item in zip(cells, items, strict=True) if item["hands"]]
    for row, hand in hands:
        assert (float(row["s_anat"]), row["verdict"], row["side"]) == (hand["s_anat"], hand["verdict"], hand["side"])
        assert float(row["x1"]) == hand["box"][2] and row["violations"].split("; ") == (hand["violations"] or [""])
    assert cells[-1]["error"].endswith("replace or remove it")


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(pictures, tmp_path):
    calls, page = tmp_path / "calls", tmp_path / "report.html"

    def start(output, workers):
        command = [sys.executable, "-m", "launch.score", str(pictures), *DETECTIONS, "--report", str(output)]
        return subprocess.Popen([*command, "--workers", workers], cwd=ROOT, stdout=subprocess.DEVNULL)

    whole = tmp_path / "whole.html"
    assert start(whole, "2").wait(120) == 0
    assert calls.stat().st_size == 9
    calls.unlink()
    os.environ["SLOWNESS"] = "0.5"
    try:
        process = start(page, "1")
        while not calls.exists() or calls.stat().st_size < 4:
            time.sleep(0.02)
            assert process.poll() is None
        process.kill()
        process.wait()
    finally:
        del os.environ["SLOWNESS"]
    assert not page.exists()
    journal = (tmp_path / ".report.html.partial").read_bytes()
    done = journal.count(b"\n") - 1
    assert 3 <= done <= 4
    with (tmp_path / ".report.html.partial").open("ab") as file:
        file.write(b'{"name": "half')
    calls.unlink()
    assert start(page, "1").wait(120) == 0
    assert calls.stat().st_size == 9 - done
    assert page.read_bytes() == whole.read_bytes() and not (tmp_path / ".report.html.partial").exists()

"""The study as raters and the person who runs it use it: over HTTP, killed, gone on with, analysed."""

import collections
import http.client
import io
import json
import re
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from handjax.errors import UserError
from launch.app import main

CONDITIONS = {"real": (230, 200, 30), "secretours": (20, 160, 60), "secrettheirs": (40, 60, 220)}
"""Each condition's pictures have a colour of its own, by which the test, and no rater, knows them."""
SIDE = 48


@pytest.fixture
def folders(tmp_path):
    for condition, colour in CONDITIONS.items():
        folder = tmp_path / f"dir_{condition}"
        folder.mkdir()
        for number in range(6):
            image = Image.fromarray(np.full((40, 60, 3), colour, np.uint8) + np.uint8(number))
            about = PngInfo()
            about.add_text("prompt", f"made by {condition}")
            if condition == "real":
                image.save(folder / f"item{number}.jpg", quality=95, comment=condition.encode())
            else:
                image.save(folder / f"item{number}.png", pnginfo=about)
    return [f"{condition}={tmp_path / f'dir_{condition}'}" for condition in CONDITIONS]


class Study:
    """A running `launch.app study`."""

    def __init__(self, out, *arguments):
        command = [sys.executable, "-m", "launch.app", "study", "--out", str(out), "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("open http://127.0.0.1:"), self.process.stderr.read()
        self.port = urllib.parse.urlsplit(line.split()[1]).port

    def request(self, method, path, form=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        body = urllib.parse.urlencode(form) if form else None
        connection.request(method, path, body, {"Content-Type": "application/x-www-form-urlencoded"} if form else {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()

    def page(self, rater):
        status, _, page = self.request("GET", "/rate?" + urllib.parse.urlencode({"rater": rater}))
        assert status == 200
        return page.decode()

    def colours(self, page):
        """The conditions on a page by their colours, and the tokens."""
        tokens = re.findall(r'src="/image/([0-9a-f]+)\.png"', page)
        found = []
        for token in tokens:
            status, headers, data = self.request("GET", f"/image/{token}.png")
            assert status == 200 and headers["Content-Type"] == "image/png"
            pixel = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))[10, 10].astype(int)
            found.append(min(CONDITIONS, key=lambda name: np.abs(pixel - CONDITIONS[name]).sum()))
        return found, tokens

    def answer(self, rater, opinion):
        """Answers the next question as `opinion(question, conditions)` says; returns what was asked and said."""
        page = self.page(rater)
        if "Thank you" in page:
            return None
        conditions, tokens = self.colours(page)
        question = re.search("<h1>(.*)</h1>", page)[1]
        said = opinion(question, conditions)
        form = {"rater": rater, "number": re.search(r'name="number" value="(\d+)"', page)[1]}
        values = re.findall(r'name="answer" value="(\w+)"', page)
        form["answer"] = tokens[said] if isinstance(said, int) else said
        assert form["answer"] in values
        status, headers, _ = self.request("POST", "/answer", form)
        assert status == 303 and headers["Location"].startswith("/rate?")
        return question, conditions, said

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def stop(self):
        self.process.terminate()
        assert self.process.wait(60) == 0
        self.process.communicate()


def _opinion(rater):
    draw = np.random.default_rng(rater)

    def opinion(question, conditions):
        if "photograph" in question:
            return (
                "real"
                if draw.random() < {"real": 0.8, "secretours": 0.5, "secrettheirs": 0.2}[conditions[0]]
                else "generated"
            )
        if "How good" in question:
            return str(draw.integers(3, 6) if conditions[0] != "secrettheirs" else draw.integers(1, 4))
        choice = draw.random()
        return "none" if choice < 0.2 else conditions.index("secretours" if choice < 0.8 else "secrettheirs")

    return opinion


def _analyse(out, capsys, monkeypatch, *more):
    monkeypatch.setattr("sys.argv", ["app", "analyse", str(out), *more])
    assert main() == 0
    return capsys.readouterr().out


def test_a_study_from_start_to_figures(tmp_path, folders, capsys, monkeypatch):
    out = tmp_path / "study.sqlite"
    arguments = ["--trials", "4", "--side", str(SIDE)]
    study = Study(out, "--folders", *folders, *arguments)
    opinions = {f"rater {n}": _opinion(n) for n in range(3)}
    given = collections.defaultdict(list)
    for _ in range(5):
        given["rater 0"].append(study.answer("rater 0", opinions["rater 0"]))
    before = study.page("rater 0")
    study.kill()  # while a question is on the rater's screen
    study = Study(out)
    assert study.page("rater 0") == before == study.page("  Rater   0 ")
    for rater, opinion in opinions.items():
        while (answer := study.answer(rater, opinion)) is not None:
            given[rater].append(answer)
    study.answer("rater 3", _opinion(3))
    study.stop()
    assert [len(answers) for answers in given.values()] == [12, 12, 12]

    document = json.loads(_analyse(out, capsys, monkeypatch, "--json"))
    assert document["raters"] == {"total": 4, "finished": 3}
    said = [answer for answers in given.values() for answer in answers]
    ours = {(i["measure"], i["condition"]): i for i in document["items"]}
    for condition in ("secretours", "secrettheirs"):
        stars = [int(s) for q, c, s in said if "How good" in q and c == [condition]]
        assert ours["rating", condition]["value"] == pytest.approx(statistics.mean(stars))
        chosen = [c[s] == condition for q, c, s in said if "which" in q and s != "none"]
        assert ours["preference", condition]["value"] == pytest.approx(statistics.mean(chosen))
        assert ours["preference", condition]["answers"] == len(chosen)
    assert document["no_difference"] == sum(s == "none" for _, _, s in said)
    text = _analyse(out, capsys, monkeypatch)
    assert "preferred, of the trials with a preference" in text and "4 raters, 3 of them finished" in text
    with sqlite3.connect(out) as db:
        assert db.execute("SELECT COUNT(*) FROM answers WHERE seconds >= 0").fetchone()[0] == 37


@pytest.mark.slow
def test_nothing_betrays_the_condition(tmp_path, folders):
    study = Study(tmp_path / "study.sqlite", "--folders", *folders, "--trials", "6", "--side", str(SIDE))
    seen, headers_seen = {}, set()
    hints = [*CONDITIONS, "dir_", "item", str(tmp_path), "secret", ".jpg"]
    opinion = _opinion(0)
    while "Thank you" not in (page := study.page("anna")):
        words = page.replace('value="real"', "")  # the answer "photograph", the same on every page
        assert not [hint for hint in hints if hint in words]
        for token in study.colours(page)[1]:
            _, headers, data = study.request("GET", f"/image/{token}.png")
            headers_seen.add(
                tuple((name, value) for name, value in headers.items() if name not in ("Date", "Content-Length"))
            )
            image = Image.open(io.BytesIO(data))
            assert (image.format, image.size, image.info) == ("PNG", (SIDE, 32), {})
            assert not [hint for hint in hints if hint.encode() in data]
            seen[token] = study.colours(f'src="/image/{token}.png"')[0][0]
        study.answer("anna", opinion)
    assert len(headers_seen) == 1, "all pictures are served alike"
    assert set(seen.values()) == set(CONDITIONS)
    other = Study(tmp_path / "other.sqlite", "--folders", *folders, "--trials", "6", "--side", str(SIDE))
    assert not set(seen) & set(other.colours(other.page("anna"))[1]), "names are of this study alone"
    study.stop()
    other.stop()


def test_requests_that_are_no_answers(tmp_path, folders):
    study = Study(tmp_path / "study.sqlite", "--folders", *folders, "--tasks", "rate", "--trials", "3")
    assert study.request("GET", "/rate?rater=")[0] == 303
    for path in ("/image/absent.png", "/image/../study.sqlite", "/study.sqlite", "/image/%2e%2e/item0.png"):
        assert study.request("GET", path)[0] == 404
    good = {"rater": "anna", "number": "0", "answer": "3"}
    for change in ({"answer": "6"}, {"answer": ""}, {"number": "1"}, {"number": "-1"}, {"number": "٣"}, {"rater": ""}):
        assert study.request("POST", "/answer", good | change)[0] == 400
    assert study.request("POST", "/answer", good | {"pad": "x" * 9000})[0] == 400
    assert (
        study.request("POST", "/answer", good)[0] == study.request("POST", "/answer", good | {"answer": "1"})[0] == 303
    )
    page = study.page('<script>alert("x")</script>')
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "http" not in page.replace("http-equiv", ""), "nothing is loaded from elsewhere"
    threads = [threading.Thread(target=study.answer, args=(f"r{n}", lambda q, c: "4")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    study.stop()
    with sqlite3.connect(tmp_path / "study.sqlite") as db:
        assert db.execute("SELECT answer FROM answers WHERE rater = 'anna'").fetchall() == [("3",)]
        assert db.execute("SELECT COUNT(*) FROM answers").fetchone() == (9,)


def _refused(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["app", *map(str, arguments)])
    with pytest.raises(UserError) as error:
        main()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_refused(tmp_path, folders, monkeypatch):
    out = tmp_path / "study.sqlite"
    study = ["study", "--out", out, "--folders"]
    assert "begin one with --folders" in _refused(monkeypatch, "study", "--out", out)
    assert "write NAME=DIR" in _refused(monkeypatch, *study, tmp_path)
    assert "is no folder" in _refused(monkeypatch, *study, f"a={tmp_path / 'absent'}")
    assert "--real photos" in _refused(monkeypatch, *study, *folders, "--real", "photos")
    assert "--tasks look" in _refused(monkeypatch, *study, *folders, "--tasks", "look")
    assert "--trials 0" in _refused(monkeypatch, *study, *folders, "--trials", "0")
    assert "--tasks judge,rate" in _refused(monkeypatch, *study, *folders[:2])
    damaged = tmp_path / "damaged"
    shutil.copytree(tmp_path / "dir_real", damaged)
    (damaged / "item0.jpg").write_bytes((damaged / "item0.jpg").read_bytes()[:300])
    assert "item0.jpg" in _refused(monkeypatch, *study, f"real={damaged}", *folders[1:])
    assert not out.exists()
    (tmp_path / "text.sqlite").write_text("no data base at all, but some text")
    assert "not a study" in _refused(monkeypatch, "analyse", tmp_path / "text.sqlite")
    assert "no such study" in _refused(monkeypatch, "analyse", out)


def test_a_study_goes_on_only_as_it_was(tmp_path, folders, monkeypatch):
    out = tmp_path / "study.sqlite"
    Study(out, "--folders", *folders, "--trials", "5").stop()
    assert "was begun with 5" in _refused(monkeypatch, "study", "--out", out, "--trials", "6")
    assert "other pictures" in _refused(monkeypatch, "study", "--out", out, "--folders", *folders[:2])
    assert "nobody has answered" in _refused(monkeypatch, "analyse", out)
    Path(tmp_path / "dir_real" / "item3.jpg").write_bytes(b"changed")
    assert "has changed" in _refused(monkeypatch, "study", "--out", out)


def test_folders_of_other_shapes_are_warned_of(tmp_path, folders):
    for path in (tmp_path / "dir_real").iterdir():
        Image.open(path).resize((50, 50)).save(path)
    study = Study(tmp_path / "study.sqlite", "--folders", *folders)
    study.process.terminate()
    assert "raters may tell them apart" in study.process.communicate()[1]

"""The command as a user runs it, against a real server: what it writes, repeats, keeps and refuses."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from data_pipelines.captions import Captions
from data_pipelines.photos import PhotoJob
from handjax.errors import ConfigError, InputError, WeightsError
from handjax.perception.detector import TASK_FILE
from launch import precompute
from launch.caption import _length, main
from tests.captioning.chat_server import FIELDS, HANG, ChatServer, sees_picture

PHOTO = TASK_FILE.parent / "photos" / "nocurl.jpg"
COMMAND = [sys.executable, "-m", "launch.caption"]


def _caption(*arguments, key=""):
    environment = os.environ | {"HANDJAX_API_KEY": key}
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )


def _endpoint(server, *more):
    return ["--backend", "endpoint", "--url", server.url, "--model", "m", "--timeout", "0.5", "--retries", "1", *more]


def _pictures(folder, count):
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.full((24, 32, 3), 20 * number, np.uint8)).save(folder / f"{number}.png")
    return folder


def _read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def _answers(body, number):
    return "A person waves." if sees_picture(body) else json.dumps(FIELDS)


def test_rules_caption_photos_and_precompute_reads_them(tmp_path):
    photos = tmp_path / "photos"
    (photos / "deep").mkdir(parents=True)
    (photos / "deep" / "hand.jpg").write_bytes(PHOTO.read_bytes())
    (photos / "deep" / "hand.txt").write_text("a child counting at a desk")
    (photos / "broken.jpg").write_bytes(PHOTO.read_bytes()[:2000])
    Image.new("RGB", (60, 60)).save(photos / "empty.png")
    out = tmp_path / "out" / "captions.jsonl"
    result = _caption(photos, "--out", out, "--json")
    assert result.returncode == 2 and result.stderr.count("error: ") == 1 and "broken.jpg" in result.stderr
    document = json.loads(result.stdout)
    assert document["summary"]["pictures"] == 2 and document["summary"]["valid"] == 1
    assert document["summary"]["kept_plain_because"]["no_hand"] == document["summary"]["without_caption"] == 1
    hand, empty = _read(out)
    assert (hand["input"], empty["input"]) == ("../photos/deep/hand.jpg", "../photos/empty.png")
    assert hand["caption"].startswith("A close-up of one hand held upright. A child counting. A hand with the index")
    assert hand["caption"].endswith("At a desk.") and (empty["caption"], empty["status"]) == ("", "no_hand")
    captions = Captions.load(photos, refined=out)
    assert captions.given_to("deep/hand.jpg") == hand["caption"]
    with pytest.raises(InputError, match="has no caption of a photo"):
        Captions.load(tmp_path / "out", refined=out)


def test_records_depend_on_the_captions(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "hand.jpg").write_bytes(PHOTO.read_bytes())
    (tmp_path / "photos" / "hand.txt").write_text("beside")
    (tmp_path / "captions.jsonl").write_text('{"input": "photos/hand.jpg", "caption": "A hand counts to one."}\n')
    for captions, caption in [(None, "beside"), (tmp_path / "captions.jsonl", "A hand counts to one.")]:
        assert PhotoJob(tmp_path / "photos", captions=captions).states(["hand.jpg"])[0][2] == caption


@pytest.mark.slow
def test_records_carry_the_captions(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "hand.jpg").write_bytes(PHOTO.read_bytes())
    (tmp_path / "captions.jsonl").write_text('{"input": "photos/hand.jpg", "caption": "A hand counts to one."}\n')
    command = [sys.executable, "-m", "launch.precompute", str(tmp_path / "photos"), "--workers", "1", "--json"]
    command += ["--captions", str(tmp_path / "captions.jsonl"), "--output", str(tmp_path / "records")]
    result = subprocess.run([*command, "--eval-fraction", "0"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-1500:]
    (shard,) = (tmp_path / "records").glob("*.array_record-*-of-00001")
    assert b"A hand counts to one." in shard.read_bytes()
    assert json.loads(result.stdout)["items"][0]["settings"]["captions"] == str(tmp_path / "captions.jsonl")


def test_length_is_the_tokenizers_own_count():
    by_words, by_tokens = _length(None), _length("tiny_inpainting/tokenizer")
    caption = "supercalifragilistic " * 20
    assert (by_words.most, by_words.count(caption)) == (55, 20)
    assert (str(by_tokens), by_tokens.count("a " * 76)) == ("75 tokens", 76) and by_tokens.count(caption) > 75
    with pytest.raises(WeightsError, match="nowhere: vocab.json, merges.txt missing"):
        _length("nowhere")


@pytest.mark.parametrize("line", ["", "{", '{"input": "photos/hand.jpg"}', '["photos/hand.jpg"]'])
def test_other_files_than_captions_are_refused(tmp_path, line):
    (tmp_path / "captions.jsonl").write_text(line)
    with pytest.raises(InputError, match=r"captions\.jsonl: "):
        Captions.load(tmp_path, refined=tmp_path / "captions.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        Captions.load(tmp_path, refined=tmp_path / "absent.jsonl")


@pytest.mark.slow
def test_an_endpoint_is_asked_once_for_each_picture_and_failures_are_counted(tmp_path):
    folder = _pictures(tmp_path / "pictures", 4)
    (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
    (folder / "1.txt").write_text("a grey field")
    out = tmp_path / "captions.jsonl"
    described = []  # in the order of the pictures, for one is captioned at a time

    def answers(body, number):
        if sees_picture(body):
            question = json.dumps(body)
            described.extend([question] if question not in described else [])
            return HANG if described.index(question) == 1 and hanging else f"Picture {described.index(question)}."
        return "{}" if "Picture 2." in body["messages"][0]["content"][0]["text"] else json.dumps(FIELDS)

    with ChatServer(answers) as server:
        arguments = [folder, "--out", out, "--json", *_endpoint(server, "--workers", "1")]
        hanging = True
        first = _caption(*arguments, key="k")
        assert first.returncode == 0, first.stderr[-800:]
        counts = json.loads(first.stdout)["summary"]
        assert (counts["pictures"], counts["valid"], counts["kept_plain"]) == (5, 3, 2)
        assert counts["kept_plain_because"] == {"no_answer": 1, "invalid": 1, "no_hand": 0}
        by_name = {line["input"].rpartition("/")[2]: line for line in _read(out)}
        assert by_name["1.png"]["caption"] == "a grey field" and by_name["1.png"]["reason"] == "timed out"
        assert by_name["2.png"]["status"] == "invalid" and by_name["copy.png"]["caption"] == by_name["0.png"]["caption"]
        assert {body["key"] for body in server.requests} == {"Bearer k"} and b"Bearer" not in out.read_bytes()
        asked, hanging = len(server.requests), False
        again = json.loads(_caption(*arguments).stdout)["summary"]
        assert (again["valid"], again["kept_plain_because"]["no_answer"]) == (4, 0)
        assert len(server.requests) == asked + 2, "only the picture without an answer is asked again, by two steps"


@pytest.mark.slow
def test_mmhmrs_captions_are_answers_to_one_question(tmp_path):
    folder, out = _pictures(tmp_path / "pictures", 2), tmp_path / "captions.jsonl"
    with ChatServer(lambda body, number: f"Hand {number}.") as server:
        result = _caption(folder, "--out", out, *_endpoint(server, "--workers", "1", "--style", "mmhmr"))
        assert result.returncode == 0, result.stderr[-800:]
        asked = [body["messages"][0]["content"][0]["text"] for body in server.requests]
    assert asked == ["What's in the image and how does the hand pose look like?"] * 2
    assert [(line["caption"], line["status"], line["semantics"]) for line in _read(out)] == [
        ("Hand 0.", "valid", None),
        ("Hand 1.", "valid", None),
    ]


@pytest.mark.slow
def test_a_killed_run_goes_on_and_leaves_nothing_half_written(tmp_path):
    folder, out = _pictures(tmp_path / "pictures", 6), tmp_path / "captions.jsonl"
    reached = threading.Event()

    def answers(body, number):
        if number == 7:
            reached.set()
            return HANG
        return _answers(body, number)

    with ChatServer(answers) as server:
        arguments = [folder, "--out", out, *_endpoint(server, "--workers", "1")]
        process = subprocess.Popen([*COMMAND, *map(str, arguments)], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        assert reached.wait(120)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not out.exists()
        (cache,) = tmp_path.glob(".captions.jsonl.*.cache")
        cache.write_bytes(cache.read_bytes() + b'{"name": "cut')
        server.answers = _answers
        done = len(server.requests)
        result = _caption(*arguments)
        assert result.returncode == 0 and "6 pictures: 6 valid" in result.stdout
        assert len(server.requests) == done + 2 * 3, "three pictures were done before the kill"
    lines = _read(out)
    assert [line["input"] for line in lines] == [f"pictures/{number}.png" for number in range(6)]
    assert {line["caption"] for line in lines} == {
        "A person seen from the front. Greeting. Waving the right hand. A kitchen."
    }


@pytest.mark.slow
def test_answers_behind_a_hanging_picture_outlive_a_kill(tmp_path):
    folder, out = _pictures(tmp_path / "pictures", 4), tmp_path / "captions.jsonl"
    answered, over, first = threading.Semaphore(0), threading.Event(), []

    def answers(body, number):
        picture = json.dumps(body) if sees_picture(body) else None
        first.extend([picture] if picture and not first else [])
        if picture == first[0]:
            over.wait(300)
        if not picture:
            answered.release()
        return _answers(body, number)

    with ChatServer(answers) as server:
        patient = ["--timeout", "600", "--retries", "0", "--workers", "2"]
        arguments = [folder, "--out", out, *_endpoint(server, *patient)]
        process = subprocess.Popen([*COMMAND, *map(str, arguments)], stderr=subprocess.DEVNULL)
        assert all(answered.acquire(timeout=120) for _ in range(3))
        (cache,) = tmp_path.glob(".captions.jsonl.*.cache")
        while cache.read_bytes().count(b"\n") < 1 + 3:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
        server.answers, done = _answers, len(server.requests)
        over.set()
        result = _caption(*arguments)
        assert result.returncode == 0 and "4 pictures: 4 valid" in result.stdout
        assert len(server.requests) == done + 2, "only the hanging picture is asked again, by two steps"


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--backend", "endpoint", "--model", "m"], "needs --url and --model"),
        (["--backend", "endpoint", "--model", "m", "--url", "nowhere"], "--url nowhere"),
        (["--model", "smolvlm"], "--model is not for the rules"),
        (["--url", "http://localhost/v1"], "--url is of an endpoint"),
        (["--style", "mmhmr"], "--style mmhmr asks a model"),
        (["--workers", "0"], "--workers 0"),
        (["--out", "."], r"\.: is a folder; name a file in it"),
        (["--max-hands", "0"], "max_hands is 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, arguments, says, monkeypatch):
    monkeypatch.setattr("sys.argv", ["caption", str(PHOTO), "--out", str(tmp_path / "c.jsonl"), *arguments])
    with pytest.raises(ConfigError, match=says):
        main()


def test_captions_are_for_photos_and_data_sets(tmp_path, monkeypatch):
    arguments = ["rendered:10", "--captions", "captions.jsonl", "--output", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", ["precompute", *arguments])
    with pytest.raises(ConfigError, match="is for photos and published data sets, which rendered:10 is not"):
        precompute.main()


def test_a_wrong_key_is_one_line(tmp_path):
    with ChatServer(lambda body, number: 401) as server:
        result = _caption(PHOTO, "--out", tmp_path / "c.jsonl", *_endpoint(server))
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "HTTP 401" in result.stderr
    assert not (tmp_path / "c.jsonl").exists()

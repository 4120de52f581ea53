import base64
import io
import json
import socket

import numpy as np
import pytest
from PIL import Image

from handjax.captioning import prompts
from handjax.captioning.endpoint import LONGEST_SIDE, Endpoint
from handjax.captioning.failures import NoAnswer
from handjax.captioning.picture import Picture
from handjax.captioning.refinement import Refinement, compose
from handjax.captioning.semantics import parse
from handjax.errors import BackendError, ConfigError
from tests.captioning.chat_server import FIELDS, HANG, ChatServer, sees_picture

IMAGE = np.full((400, 1000, 3), (200, 30, 30), np.uint8)


def _ask(server, image=None, **settings):
    return Endpoint(server.url, "model", **{"timeout": 0.3, "pause": 0.01} | settings)("question", image)


def test_the_request_is_a_chat_with_the_picture():
    with ChatServer(lambda body, number: "answer") as server:
        assert _ask(server, IMAGE, key="secret") == "answer"
        assert _ask(server) == "answer"
    first, second = server.requests
    assert (first["path"], first["key"], first["model"], first["temperature"]) == (
        "/v1/chat/completions",
        "Bearer secret",
        "model",
        0,
    )
    text, picture = first["messages"][0]["content"]
    assert text == {"type": "text", "text": "question"}
    kind, _, data = picture["image_url"]["url"].partition(";base64,")
    sent = Image.open(io.BytesIO(base64.b64decode(data)))
    assert (kind, sent.format, sent.size) == ("data:image/jpeg", "JPEG", (LONGEST_SIDE, round(0.4 * LONGEST_SIDE)))
    assert np.abs(np.asarray(sent).astype(int) - IMAGE[0, 0]).max() < 8
    assert second["key"] is None and len(second["messages"][0]["content"]) == 1


@pytest.mark.parametrize("failure", [HANG, 500, 503, 429])
def test_what_passes_is_asked_again(failure):
    with ChatServer(lambda body, number: failure if number < 2 else "answer") as server:
        assert _ask(server, retries=2) == "answer"
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    "failure, reason, times",
    [
        (HANG, "timed out", 3),
        (500, "HTTP 500", 3),
        (400, "HTTP 400", 1),
        (403, "HTTP 403", 1),  # of this picture alone: its content may be refused
        (b"<html>", "no chat completion", 1),
        (b'{"choices": []}', "no chat completion", 1),
        ("", "an empty answer", 1),
    ],
)
def test_what_does_not_pass_is_no_answer(failure, reason, times):
    with ChatServer(lambda body, number: failure) as server:
        with pytest.raises(NoAnswer, match=reason):
            _ask(server, retries=2)
        assert len(server.requests) == times


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_ends_the_run(status):
    with ChatServer(lambda body, number: status) as server, pytest.raises(ConfigError, match=f"HTTP {status}"):
        _ask(server)


def test_no_server_at_all_ends_the_run_but_one_that_went_away_does_not():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(BackendError, match="cannot be reached"):
        Endpoint(url, "model", pause=0.01)("question", None)
    with ChatServer(lambda body, number: "answer") as server:
        endpoint = Endpoint(server.url, "model", timeout=0.3, pause=0.01)
        endpoint("question", None)
    with pytest.raises(NoAnswer):
        endpoint("question", None)


@pytest.mark.parametrize("url", ["localhost:8000", "file:///etc/passwd", "http://", "ftp://host/v1"])
def test_other_addresses_are_refused(url):
    with pytest.raises(ConfigError, match="--url"):
        Endpoint(url, "model")


def test_the_chain_over_http():
    """The extractor sees the description and the examples, not the picture; invalid JSON keeps the plain caption."""

    def answers(body, number):
        return "She waves." if sees_picture(body) else (json.dumps(FIELDS) if number < 2 else "no idea")

    with ChatServer(answers) as server:
        ask = Endpoint(server.url, "model", timeout=1.0)
        chain = Refinement(prompts.captioner(ask), prompts.extractor(ask), compose, lambda picture: "plain")
        picture = Picture(IMAGE, "", lambda image: [])
        first, second = chain(picture), chain(picture)
    assert (first.status, first.description) == ("valid", "She waves.")
    assert first.caption == "A person seen from the front. Greeting. Waving the right hand. A kitchen."
    assert (second.status, second.caption) == ("invalid", "plain")
    question = server.requests[1]["messages"][0]["content"][0]["text"]
    assert question.endswith("Description: She waves.\nJSON:") and question.count("Description:") == 4


def test_examples_are_what_is_asked_for():
    answers = [part.partition("JSON: ")[2].split("\n")[0] for part in prompts.EXTRACTION.split("Description: ")[1:]]
    assert len(answers) == 3
    for answer in answers:
        semantics, mended = parse(answer)
        assert not mended and all(len(phrase.split()) <= 12 for phrase in vars(semantics).values())

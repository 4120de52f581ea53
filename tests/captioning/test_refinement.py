import dataclasses
import json

import numpy as np
import pytest

from handjax.captioning.failures import NoAnswer
from handjax.captioning.picture import Picture
from handjax.captioning.prompts import HAND_POSE, captioner
from handjax.captioning.refinement import Answered, Refined, Refinement, compose
from handjax.captioning.report import ValidationReport
from handjax.captioning.semantics import Semantics

PICTURE = Picture(np.zeros((8, 8, 3), np.uint8), "given", lambda image: [])
SEMANTICS = Semantics("a man sitting.", "playing a guitar", "left hand on the strings", "on a stage")


def _refinement(captioner=lambda picture: "description", answer=SEMANTICS):
    def extract(picture, description):
        assert description == "description"
        return answer if isinstance(answer, str) else json.dumps(vars(answer))

    return Refinement(captioner, extract, compose, lambda picture: f"plain {picture.given}")


def test_three_steps_make_a_caption():
    assert _refinement()(PICTURE) == Refined(
        "A man sitting. Playing a guitar. Left hand on the strings. On a stage.", "valid", "", "description", SEMANTICS
    )
    assert _refinement(answer=f"Sure! {json.dumps(vars(SEMANTICS))}")(PICTURE).status == "repaired"


def test_a_failure_keeps_the_plain_caption_and_is_told():
    def silent(picture):
        raise NoAnswer("timed out")

    assert _refinement(silent)(PICTURE) == Refined("plain given", "no_answer", "timed out")
    refined = _refinement(answer="no")(PICTURE)
    assert (refined.caption, refined.status, refined.description) == ("plain given", "invalid", "description")
    assert "no JSON object" in refined.reason


def test_the_answer_to_mmhmrs_question_is_the_caption():
    asked = []

    def ask(question, image):
        asked.append((question, image is PICTURE.image))
        return " A right hand with fingers\n slightly bent. "

    answered = Answered(captioner(ask, HAND_POSE), lambda picture: f"plain {picture.given}")
    refined = answered(PICTURE)
    assert (refined.caption, refined.status) == ("A right hand with fingers slightly bent.", "valid")
    assert asked == [("What's in the image and how does the hand pose look like?", True)]

    def silent(question, image):
        raise NoAnswer("timed out")

    kept = dataclasses.replace(answered, captioner=captioner(silent, HAND_POSE))(PICTURE)
    assert kept == Refined("plain given", "no_answer", "timed out")


def test_other_errors_are_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        _refinement(lambda picture: str(1 / 0))(PICTURE)


def test_empty_and_repeated_fields_are_said_once():
    assert compose(Semantics("", "waving a hand", "Waving a hand", "")) == "Waving a hand."
    assert compose(Semantics("a fist", "boxing", "A fist", "")) == "A fist. Boxing."
    assert compose(Semantics("a man", "a man waving", "", "outdoors.")) == "A man waving. Outdoors."


def test_a_field_that_is_but_letters_of_another_ones_words_is_kept():
    fields = Semantics("a woman sitting", "reading", "spreading the fingers", "outdoors")
    assert compose(fields) == "A woman sitting. Reading. Spreading the fingers. Outdoors."
    assert compose(Semantics("", "art", "holding a cup (art)", "a party")) == "Holding a cup (art). A party."


def test_the_report_adds_up():
    report = ValidationReport()
    for caption, status in [
        ("A hand waves.", "valid"),
        ("A man sits.", "valid"),
        ("word " * 60 + "finger", "repaired"),
        ("", "no_hand"),
        ("A dog.", "no_answer"),
        ("A fist.", "invalid"),
        ("A fist.", "invalid"),
    ]:
        report.add(caption, status)
    counts = report.summary()
    assert (counts["pictures"], counts["valid"], counts["repaired"], counts["kept_plain"]) == (7, 2, 1, 4)
    assert counts["kept_plain_because"] == {"no_answer": 1, "invalid": 2, "no_hand": 1}
    assert (counts["without_hand_words"], counts["over_long"], counts["without_caption"]) == (3, 1, 1)
    assert counts["over_long_above"] == "55 words" and "of more than 55 words 1, absent 1" in report.lines()
    assert "7 pictures: 2 valid, 1 repaired, 4 kept plain (1: the model did not answer; 2: " in report.lines()

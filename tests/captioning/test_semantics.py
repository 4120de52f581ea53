import json

import jsonschema
import pytest

from handjax.captioning.failures import BadAnswer
from handjax.captioning.semantics import FIELDS, MOST_WORDS, SCHEMA, Semantics, parse

GOOD = {"human_pose": "a man sitting", "action": "reading", "hand_action": "holding a book", "environment": ""}
EXPECTED = Semantics(**GOOD)


def _conforms(answer):
    try:
        jsonschema.validate(json.loads(answer), SCHEMA)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(GOOD),
        f"Here it is:\n```json\n{json.dumps(GOOD, indent=1)}\n```\nAnything else?",
        json.dumps(GOOD).replace("}", ",}"),
        json.dumps([GOOD]),
        json.dumps({"Human Pose": GOOD["human_pose"], **{k: v for k, v in GOOD.items() if k != "human_pose"}}),
        json.dumps(GOOD | {"mood": "calm"}),
        json.dumps(GOOD | {"environment": None}),
        json.dumps(GOOD | {"hand_action": ["holding a book"]}),
        "{broken} " + json.dumps(GOOD),
    ],
)
def test_only_what_the_schema_admits_counts_as_valid(answer):
    """jsonschema is the judge of what had to be mended."""
    assert parse(answer) == (EXPECTED, not _conforms(answer))


def test_words_for_unknown_are_mended_though_the_schema_admits_them():
    assert parse(json.dumps(GOOD | {"environment": "Unknown."})) == (EXPECTED, True)
    assert parse(json.dumps(GOOD | {"action": " reading\n"})) == (EXPECTED, True)


@pytest.mark.parametrize(
    "answer, reason",
    [
        ("", "no JSON object"),
        ("I cannot help with that.", "no JSON object"),
        (json.dumps(GOOD)[:-20], "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ("{}", "lacks human_pose, action, hand_action, environment"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "hand_action"}), "lacks hand_action"),
        (json.dumps(GOOD | {"action": 3}), "action is no text but 3"),
        (json.dumps(GOOD | {"action": {"verb": "read"}}), "action is no text"),
        (json.dumps(dict.fromkeys(FIELDS, "none")), "all fields are empty"),
        (json.dumps(GOOD | {"action": "word " * (MOST_WORDS + 1)}), f"action has {MOST_WORDS + 1} words"),
    ],
)
def test_what_cannot_be_mended_is_told(answer, reason):
    with pytest.raises(BadAnswer, match=reason):
        parse(answer)

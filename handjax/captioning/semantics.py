"""The four fields of human behaviour as JSON: their schema, and a reader that mends what models get wrong."""

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any

from handjax.captioning.failures import BadAnswer

MOST_WORDS = 45
"""Of a field: CLIP reads 75 tokens, and a field that fills them alone leaves no room for the others."""
_UNKNOWN = frozenset({"", "-", "n/a", "na", "none", "null", "unknown", "unclear", "not specified", "not visible"})


@dataclasses.dataclass(frozen=True)
class Semantics:
    """What the person does; "" is what nobody can tell.

    Attributes:
      human_pose: how the body, or what is seen of it, is held.
      action: what the person does.
      hand_action: what each hand does and how its fingers are held.
      environment: where it is.

    Source: SesaHand, human behavior semantic refinement.
    """

    human_pose: str
    action: str
    hand_action: str
    environment: str


FIELDS = tuple(field.name for field in dataclasses.fields(Semantics))
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {name: {"type": "string"} for name in FIELDS},
    "required": list(FIELDS),
    "additionalProperties": False,
}
"""Of an answer that needs no mending; beyond it, a field has at most `MOST_WORDS` words and one is not empty."""


def parse(text: str) -> tuple[Semantics, bool]:
    """Reads the four fields from a model's answer.

    Mended are: text or a code fence around the object, a comma too many, keys in another spelling, keys that nobody
    asked for, lists of phrases, null, and words such as "unknown" for an empty field.

    Args:
      text: the answer.

    Returns:
      The fields, and whether the answer had to be mended.

    Raises:
      BadAnswer: it holds no such object, a field is missing, no phrase or too long, or all are empty.
    """
    found, exact = _object(text)
    values = {re.sub(r"[\s-]+", "_", key.strip().lower()): value for key, value in found.items()}
    missing = [name for name in FIELDS if name not in values]
    if missing:
        raise BadAnswer(f"lacks {', '.join(missing)}")
    phrases = {name: _phrase(name, values[name]) for name in FIELDS}
    if not any(phrases.values()):
        raise BadAnswer("all fields are empty")
    return Semantics(**phrases), not exact or found != phrases


def _object(text: str) -> tuple[dict[str, Any], bool]:
    """The JSON object in a text, and whether it is the whole text."""
    try:
        whole = json.loads(text)
        if isinstance(whole, dict):
            return whole, True
    except (ValueError, RecursionError):
        pass
    for found in _objects_within(text):
        return found, False
    raise BadAnswer(f"no JSON object in {text[:60]!r}")


def _objects_within(text: str) -> Iterator[dict[str, Any]]:
    for candidate in (text, re.sub(r",(\s*[}\]])", r"\1", text)):
        for start in re.finditer("{", candidate):
            try:
                yield json.JSONDecoder().raw_decode(candidate, start.start())[0]
            except (ValueError, RecursionError):
                continue


def _phrase(name: str, value: Any) -> str:
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = ", ".join(value)
    if value is not None and not isinstance(value, str):
        raise BadAnswer(f"{name} is no text but {json.dumps(value)[:40]}")
    words = (value or "").split()
    if len(words) > MOST_WORDS:
        raise BadAnswer(f"{name} has {len(words)} words; at most {MOST_WORDS}")
    phrase = " ".join(words)
    return "" if phrase.lower().rstrip(".") in _UNKNOWN else phrase

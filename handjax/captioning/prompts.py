"""What a vision-language model is asked, and the two steps that ask it."""

import json
from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from handjax.captioning.picture import Picture
from handjax.captioning.refinement import Captioner, Extractor
from handjax.captioning.semantics import FIELDS, SCHEMA

Ask = Callable[[str, UInt8[np.ndarray, "height width 3"] | None], str]
"""Asks a model, about a picture or about nothing but the text; raises `NoAnswer`."""

CAPTION = (
    "Describe the person in this picture in two or three plain sentences: how the body is held, what the person does, "
    "what each hand does and how its fingers are held, and where it is. Say only what can be seen, and leave out "
    "things that have nothing to do with the person."
)
HAND_POSE = "What's in the image and how does the hand pose look like?"
"""MMHMR's question (section H), word for word; the answer is the caption."""
_EXAMPLES = (
    (
        "A young woman in a red coat stands at a bus stop, smiling. She waves at a friend with her right hand, all "
        "fingers spread, while her left hand holds a phone. Posters and a parked bicycle are behind her.",
        (
            "a woman standing upright",
            "greeting a friend",
            "waving the open right hand, holding a phone in the left",
            "a bus stop",
        ),
    ),
    (
        "Close view of two hands kneading bread dough on a floured table. A rolling pin and eggs lie beside it.",
        ("two hands seen from above", "making bread", "both hands pressing dough, fingers bent", "a floured table"),
    ),
    (
        "The picture shows a hand that makes a fist with the thumb raised, in front of a grey wall.",
        ("one hand held upright", "approving", "a fist with the thumb extended", "in front of a grey wall"),
    ),
)


def _extraction_prompt() -> str:
    examples = (
        f"Description: {text}\nJSON: {json.dumps(dict(zip(FIELDS, fields, strict=True)))}" for text, fields in _EXAMPLES
    )
    return (
        "Take four things from a description of a picture: human_pose, how the body or the visible part of it is held; "
        "action, what the person does; hand_action, what each hand does and how its fingers are held; environment, the "
        "place. Each is a phrase of at most 12 words. Write an empty text for what the description does not say, and "
        "leave out all else. Answer with one JSON object of this schema and nothing more:\n"
        f"{json.dumps(SCHEMA)}\n\n" + "\n\n".join(examples)
    )


EXTRACTION = _extraction_prompt()
"""The instruction with the examples P_e, before the description itself."""


def captioner(ask: Ask, question: str = CAPTION) -> Captioner:
    """The first step by a model that sees the picture."""
    return lambda picture: ask(question, picture.image)


def extractor(ask: Ask) -> Extractor:
    """The second step by a model that reads the description."""

    def extract(picture: Picture, description: str) -> str:
        return ask(f"{EXTRACTION}\n\nDescription: {' '.join(description.split())}\nJSON:", None)

    return extract

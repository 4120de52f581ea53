"""Tokens of hand words, against captions that were labelled by hand: words on hands stand in [brackets]."""

import re
from pathlib import Path

import numpy as np
import pytest

from handjax.adapters.hand_tokens import hand_tokens
from handjax.diffusion.model import find_model
from handjax.diffusion.tokenizer import Tokenizer
from handjax.hand import words
from handjax.hand.words import hand_words

TOKENIZER = Tokenizer(str(find_model("tiny_inpainting/tokenizer")), 77)


def labelled():
    """Each caption, and the characters where its labelled words begin and end."""
    for line in (Path(__file__).parent / "hand_captions.txt").read_text().splitlines():
        spans, caption = [], ""
        for piece in re.split(r"(\[[^]]*\])", line):
            text = piece.strip("[]")
            if piece.startswith("["):
                spans.append((len(caption), len(caption) + len(text)))
            caption += text
        yield caption, spans


CAPTIONS = list(labelled())


@pytest.fixture(autouse=True)
def by_the_word_list(monkeypatch):
    """Whether or not this machine has NLTK."""
    monkeypatch.setattr(words, "find_tagger", lambda: None)


def test_there_are_200_captions_with_and_without_hands():
    assert len({caption for caption, _ in CAPTIONS}) == len(CAPTIONS) >= 200
    assert 40 < sum(not spans for _, spans in CAPTIONS) < len(CAPTIONS) / 2


@pytest.mark.parametrize(("caption", "spans"), CAPTIONS, ids=[caption for caption, _ in CAPTIONS])
def test_the_tokens_are_those_of_the_labelled_words(caption, spans):
    assert hand_words(caption) == spans
    expected = np.zeros(77, np.float32)
    for start, end in spans:
        # the words before it are tokenised alike without it: CLIP cuts at words first
        first, last = (1 + len(TOKENIZER.bare(caption[:place])) for place in (start, end))
        expected[first : min(last, 76)] = 1  # of a caption that is too long, what is beyond 75 tokens is lost
    np.testing.assert_array_equal(hand_tokens(TOKENIZER, [caption])[0], expected)


def test_every_piece_of_a_word_counts_and_spaces_do_not():
    plain, spaced = hand_tokens(TOKENIZER, ["wet fingertips", "wet  \n fingertips"])
    assert len(TOKENIZER.bare("fingertips")) > 1 and (plain > 0).sum() == len(TOKENIZER.bare("fingertips"))
    np.testing.assert_array_equal(plain, spaced)
    assert set(plain) == {0.0, 1.0}


def test_what_a_long_caption_loses_is_not_counted():
    words = " ".join(["tree"] * 100)
    first, beyond = hand_tokens(TOKENIZER, [f"hand {words}", f"{words} hand"])
    assert first.tolist() == [0, 1, *[0] * 75] and not beyond.any()

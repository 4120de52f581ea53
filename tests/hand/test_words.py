"""Verbs of a hand action by parts of speech; by the word list they are tested in adapters/test_hand_tokens.py."""

import pytest

from handjax.captioning.report import ValidationReport
from handjax.hand import words
from handjax.hand.words import hand_words

NOUNS = {"writing": "NN", "desk": "NN", "piece": "NN", "index": "NN", "sea": "NN", "wall": "NN", "hands": "NNS"}
OTHERS = {"a": "DT", "the": "DT", "her": "PRP$", "his": "PRP$", "'s": "POS", "left": "JJ", "by": "IN", "of": "IN"}


def tag(tokens):
    """A stand-in with NLTK's interface: a small list of words; verbs in -ing, nouns otherwise."""
    known = NOUNS | OTHERS
    return [(token, known.get(token.lower(), "VBG" if token.endswith("ing") else "NN")) for token in tokens]


@pytest.fixture
def tagged(monkeypatch):
    monkeypatch.setattr(words, "find_tagger", lambda: tag)


def found(caption):
    return [caption[start:end] for start, end in hand_words(caption)]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("two men shaking hands", ["shaking", "hands"]),
        ("a girl raising her left index finger", ["raising", "finger"]),
        ("a nurse washing the child's hands", ["washing", "hands"]),
        ("a hand painting a wall", ["hand", "painting"]),
        ("a couple walking by the sea, waving", ["waving"]),  # walking is of no hand
        ("a man eating by hand", ["hand"]),  # what is done with it stands apart
        ("a piece of writing on the desk", []),  # a noun, though it is on the word list
        ("on the other hand walking", []),
        ("a red fist", ["fist"]),
        ("a palm tree by the sea", []),
        ("", []),
    ],
)
def test_verbs_are_told_by_their_tags_and_their_hands(tagged, caption, expected):
    assert found(caption) == expected


def test_without_a_tagger_the_list_tells(monkeypatch):
    monkeypatch.setattr(words, "find_tagger", lambda: None)
    assert found("two men shaking hands") == ["hands"]
    assert found("a piece of writing") == ["writing"]


def test_the_package_alone_is_not_enough(monkeypatch):
    """Its data may be missing, and so may the package."""

    def without_data(name):
        class PerceptronTagger:
            def __init__(self):
                raise LookupError("Resource averaged_perceptron_tagger_eng not found.")

        return type("perceptron", (), {"PerceptronTagger": PerceptronTagger})

    def without_package(name):
        raise ImportError(name)

    for import_module in (without_data, without_package):
        monkeypatch.setattr(words.importlib, "import_module", import_module)
        words.find_tagger.cache_clear()
        assert words.find_tagger() is None and words.told_by() == "word list"
    words.find_tagger.cache_clear()


def test_the_report_says_what_told_them(tagged):
    report = ValidationReport()
    report.add("a red fist", "valid")
    assert report.summary()["hand_words_by"] == "NLTK's part-of-speech tags"
    assert "captions without words on hands (by NLTK's part-of-speech tags) 0" in report.lines()


def test_nltks_own_tagger():
    """Where it is on this machine with its data, which no test downloads."""
    pytest.importorskip("nltk")
    if words.find_tagger() is None:
        pytest.skip("NLTK's averaged_perceptron_tagger_eng is not on this machine")
    assert found("Two men are shaking hands.") == ["shaking", "hands"]
    assert found("a woman is raising her left hand") == ["raising", "hand"]

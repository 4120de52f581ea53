"""The trimmed tokenizer cuts words about hands as CLIP's full one does."""

import gzip

import pytest
from transformers import CLIPTokenizer

from handjax.errors import InputError
from launch.assets import tiny_tokenizer
from launch.assets.tiny_tokenizer import DEFAULT_FOLDER, byte_symbols, merges_of, read_merges, read_words, trim

# recorded from a tokenizer made of all 48,894 merges, which gives CLIP's published ids
CLIP_PIECES = {
    "A photograph of a closed left hand, a fist!": "a photograph of a closed left hand , a fist !",
    "two clenched fists grasping a violin": "two clen|ched fi|sts gra|sping a violin",
    "anatomically implausible fingernails": "anatom|ically im|plau|sible finger|nails",
}
ORDER = [("s", "t</w>"), ("f", "i"), ("i", "s"), ("fi", "st</w>"), ("o", "x")]


@pytest.fixture(scope="module")
def tokenizer():
    return CLIPTokenizer.from_pretrained(DEFAULT_FOLDER)


@pytest.mark.parametrize(("text", "pieces"), CLIP_PIECES.items())
def test_pieces_equal_those_of_the_full_tokenizer(tokenizer, text, pieces):
    words = [word.split("|") for word in pieces.split()]
    assert tokenizer.tokenize(text) == [p for *head, last in words for p in (*head, f"{last}</w>")]


def test_any_text_is_cut_into_known_pieces(tokenizer):
    text = "zweiundzwanzig 手 naïve ☝"
    assert tokenizer.unk_token not in tokenizer.tokenize(text)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True).strip() == text


def test_prompts_are_padded_with_the_end_token(tokenizer):
    ids = tokenizer("a hand", padding="max_length", truncation=True)["input_ids"]
    assert len(ids) == tokenizer.model_max_length == 32
    assert ids[0] == len(tokenizer) - 2 and set(ids[3:]) == {len(tokenizer) - 1}


def test_byte_symbols_are_a_character_for_each_byte():
    symbols = byte_symbols()
    assert len(set(symbols)) == 256 and not any(s.isspace() for s in symbols)
    assert symbols[ord("a") - ord("!")] == "a"


def test_merges_of_a_word_are_those_that_byte_pair_encoding_applies(monkeypatch):
    ranks = {merge: rank for rank, merge in enumerate(ORDER)}
    # "i s" never applies: "s t</w>" has the lower rank and takes the s
    assert merges_of("fist", ranks) == {("s", "t</w>"), ("f", "i"), ("fi", "st</w>")}
    monkeypatch.setattr(tiny_tokenizer, "FREQUENT_MERGES", 0)
    assert trim(ORDER, ["fist"]) == [("s", "t</w>"), ("f", "i"), ("fi", "st</w>")]


def test_the_word_list_has_the_words_of_captions():
    assert {"left", "right", "open", "closed", "fist", "thumb", "index", "middle", "little", "extended"} <= set(
        read_words()
    )


def test_a_file_that_is_no_list_of_merges_is_refused(tmp_path):
    path = tmp_path / "bpe.txt.gz"
    path.write_bytes(b"no gzip")
    with pytest.raises(InputError, match=r"bpe\.txt\.gz"):
        read_merges(path)
    path.write_bytes(gzip.compress(b"header\ni n\nt h"))
    assert read_merges(path) == [("i", "n"), ("t", "h")]

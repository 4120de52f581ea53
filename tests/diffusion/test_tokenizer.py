"""handjax.diffusion.tokenizer against transformers' own cutting and padding."""

import concurrent.futures
import json

import numpy as np
import pytest
from transformers import CLIPTokenizer

from handjax.diffusion.model import find_model
from handjax.diffusion.tokenizer import Tokenizer, _load

PROMPTS = [
    "",
    "A left hand, open",
    "two hands " * 20,
    "naïve  fingers’ tips — 5!",
    "a hand <|endoftext|> after the end",
]


@pytest.fixture(scope="module")
def folder():
    return str(find_model("tiny_inpainting/tokenizer"))


@pytest.mark.parametrize("length", [16, 32])
def test_prompts_are_cut_and_padded_as_transformers_does(folder, length):
    peer = CLIPTokenizer.from_pretrained(folder)
    options = {"padding": "max_length", "max_length": length, "truncation": True}
    expected = peer(PROMPTS, return_offsets_mapping=True, **options)
    tokenizer = Tokenizer(folder, length)
    np.testing.assert_array_equal(tokenizer(PROMPTS), expected["input_ids"])
    assert tokenizer.offsets(PROMPTS) == expected["offset_mapping"]


def test_threads_do_not_change_each_others_lengths(folder):
    tokenizers = [Tokenizer(folder, length) for length in (16, 32)]

    def encode(number):
        tokenizer = tokenizers[number % 2]
        return tokenizer([PROMPTS[number % 5]]).shape == (1, tokenizer.length) and tokenizer.excess(PROMPTS[2]) > 0

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(encode, range(4000)))


def test_no_call_changes_the_shared_tokenizer_whatever_its_file_asks_for(folder, tmp_path):
    peer = CLIPTokenizer.from_pretrained(folder)
    peer(PROMPTS, padding="max_length", max_length=16, truncation=True)
    peer.save_pretrained(tmp_path)
    asked = json.loads((tmp_path / "tokenizer.json").read_text())
    assert asked["truncation"] and asked["padding"]
    shared = _load(str(tmp_path)).backend_tokenizer
    assert shared.truncation is None and shared.padding is None
    np.testing.assert_array_equal(Tokenizer(str(tmp_path), 32)(PROMPTS), Tokenizer(folder, 32)(PROMPTS))

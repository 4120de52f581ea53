"""handjax.diffusion.tokenizer against transformers' own cutting and padding."""

import concurrent.futures

import numpy as np
import pytest
from transformers import CLIPTokenizer

from handjax.diffusion.model import find_model
from handjax.diffusion.tokenizer import Tokenizer

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

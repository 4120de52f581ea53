"""The notation of prompts, their chunks, and what weights do to the embedding."""

import re

import jax
import numpy as np
import pytest

from handjax.diffusion.prompts import embed_prompts, parse_prompt, tokenize_prompts
from tests.diffusion.sd_tiny import tiny_model

LONG = "a photo of a hand showing three fingers, " * 8


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("", []),
        ("a hand", [("a hand", 1)]),
        ("a (left) hand", [("a ", 1), ("left", 1.1), (" hand", 1)]),
        ("(a:1.3)(b:.5)(c:2.)", [("a", 1.3), ("b", 0.5), ("c", 2)]),
        ("[a]", [("a", 1 / 1.1)]),
        ("((a)b)", [("a", 1.21), ("b", 1.1)]),
        ("([a:2]:3)", [("a:2", 3 / 1.1)]),
        ("(a (b:2) c: 1.5 )", [("a ", 1.5), ("b", 3), (" c", 1.5)]),
        ("(a:-1)(b:+1)", [("a", -1), ("b", 1)]),
        ("(ratio 16:9)", [("ratio 16", 9)]),
        (r"\(a\) \[b\] \\", [(r"(a) [b] \ "[:-1], 1)]),
        (r"(a\)", [("a)", 1.1)]),
        (r"c:\hands", [(r"c:\hands", 1)]),
        ("a) b] :1.3) c", [("a) b] :1.3) c", 1)]),
        ("a (b", [("a ", 1), ("b", 1.1)]),
        ("a [b (c", [("a ", 1), ("b ", 1 / 1.1), ("c", 1)]),
        ("()[](:2)", []),
        ("a BREAK b", [("a ", 1), ("BREAK", 1), (" b", 1)]),
        ("(a BREAK b:2)", [("a ", 2), ("BREAK", 2), (" b", 2)]),
        ("BREAKFAST break", [("BREAKFAST break", 1)]),
        ("手 (✋:1.2)\n", [("手 ", 1), ("✋", 1.2), ("\n", 1)]),
    ],
)
def test_notation(prompt, pieces):
    parsed = parse_prompt(prompt)
    assert [piece.text for piece in parsed] == [text for text, _ in pieces]
    np.testing.assert_allclose([piece.weight for piece in parsed], [weight for _, weight in pieces])


def test_plain_prompts_have_the_ids_of_the_tokenizer(model):
    prompts = ["", "a hand", "A FIST, it's 3 o'clock!", "<|endoftext|>"]
    tokens = tokenize_prompts(model.tokenizer, prompts)
    np.testing.assert_array_equal(tokens.ids[:, 0], model.tokenizer(prompts))
    assert tokens.ids.shape == (4, 1, 32) and (tokens.weights == 1).all()


def test_weights_belong_to_their_words(model):
    tokens = tokenize_prompts(model.tokenizer, ["a (left:1.5) hand"])
    before, inside = len(model.tokenizer.bare("a ")), len(model.tokenizer.bare("left"))
    expected = np.ones(32)
    expected[1 + before : 1 + before + inside] = 1.5
    np.testing.assert_array_equal(tokens.weights[0, 0], np.float32(expected))
    np.testing.assert_array_equal(tokens.ids[0], model.tokenizer(["a left hand"]))


def test_words_that_are_looked_for_are_found_in_their_chunks(model):
    def find(text):
        return [match.span() for match in re.finditer("left hand|fingertips", text)]

    prompts = ["a (left:1.5) hand", "hand left", "a " * 30 + "fingertips", "left BREAK a left hand"]
    tokens = tokenize_prompts(model.tokenizer, prompts, find)
    assert tokens.found.shape == tokens.ids.shape == (4, 2, 32)
    pieces = len(model.tokenizer.bare("fingertips"))
    assert pieces > 1  # the first chunk has no room for any
    wanted = [[(0, 2), (0, 3)], [], [(1, place) for place in range(1, 1 + pieces)], [(1, 2), (1, 3)]]
    for found, places in zip(tokens.found, wanted, strict=True):
        assert list(zip(*map(list, np.nonzero(found)), strict=True)) == places
    assert not tokenize_prompts(model.tokenizer, prompts).found.any()


def test_long_prompts_go_on_in_further_chunks(model):
    tokenizer = model.tokenizer
    words = tokenizer.bare(LONG)
    tokens = tokenize_prompts(tokenizer, [LONG, "a hand"])
    count = -(-len(words) // 30)
    assert tokens.ids.shape == (2, count, 32) and count > 2
    assert (tokens.ids[:, :, 0] == tokenizer.start).all()
    np.testing.assert_array_equal(tokens.ids[0, :, 1:-1].ravel()[: len(words)], words)
    assert (tokens.ids[0, :-1, -1] == tokenizer.end).all()
    np.testing.assert_array_equal(tokens.ids[1], tokenizer(["a hand", *[""] * (count - 1)]))


def test_a_chunk_may_be_filled_exactly(model):
    word = model.tokenizer.bare("a")
    full, more = tokenize_prompts(model.tokenizer, ["a " * 30]), tokenize_prompts(model.tokenizer, ["a " * 31])
    np.testing.assert_array_equal(full.ids[0, 0, 1:-1], word * 30)
    assert full.ids.shape[1] == 1 and more.ids.shape[1] == 2


def test_break_starts_a_chunk(model):
    tokens = tokenize_prompts(model.tokenizer, ["a left BREAK right hand"])
    np.testing.assert_array_equal(tokens.ids[0], model.tokenizer(["a left", "right hand"]))


def embed(model, *prompts):
    return np.asarray(jax.jit(embed_prompts)(model, tokenize_prompts(model.tokenizer, prompts)))


def test_without_weights_the_embedding_is_the_text_encoders(model):
    prompts = ["a hand", "two hands, one a fist"]
    expected = jax.jit(lambda m, ids: m.embed_ids(ids))(model, model.tokenizer(prompts))
    np.testing.assert_array_equal(embed(model, *prompts), expected)
    ones = embed(model, "(a hand:1)", "((two hands:1.0), one a fist:1)")
    np.testing.assert_array_equal(ones, expected)


def test_weights_scale_tokens_and_keep_the_mean(model):
    plain, weighted, chunked = (
        embed(model, prompt) for prompt in ("a left hand", "a (left:1.5) hand", "a (left:1.5) hand BREAK a fist")
    )
    np.testing.assert_allclose(weighted.mean(), plain.mean(), rtol=1e-4)
    ratio = weighted / plain
    start, end = 1 + len(model.tokenizer.bare("a")), 1 + len(model.tokenizer.bare("a left"))
    np.testing.assert_allclose(ratio[0, start:end], 1.5 * ratio[0, 0, 0], rtol=1e-4)
    np.testing.assert_allclose(ratio[0, end:], ratio[0, 0, 0], rtol=1e-4)
    assert abs(ratio[0, 0, 0] - 1) > 1e-3
    np.testing.assert_allclose(chunked[:, :32], weighted, atol=1e-5)
    np.testing.assert_allclose(chunked[:, 32:], embed(model, "a fist"), atol=1e-5)

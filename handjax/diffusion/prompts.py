r"""Prompts of any length, with words that count more or less than others.

    (word)        counts 1.1 times          \( \) \[ \]   a bracket as such
    (word:1.3)    counts 1.3 times          BREAK         what follows starts a new chunk
    [word]        counts 1/1.1 times

Brackets nest, their weights multiply; one that is not closed reaches to the end of the prompt, one that was not opened
is text. This notation, and what follows from it, is the widespread convention of Stable Diffusion programs; no paper
defines it.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from handjax.diffusion.model import StableDiffusion
from handjax.diffusion.tokenizer import Tokenizer

BREAK = "BREAK"
EMPHASIS = {"(": 1.1, "[": 1 / 1.1}
SYNTAX = re.compile(
    r"""\\(?P<escaped>[()\[\]\\])
    | (?::\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*)?\)
    | [(\[\]]
    | \bBREAK\b
    | .""",
    re.VERBOSE | re.DOTALL,
)


class Piece(NamedTuple):
    """A stretch of a prompt whose words count `weight` times; BREAK is a piece of its own."""

    text: str
    weight: float = 1.0


class PromptTokens(NamedTuple):
    """Tokens of prompts, in chunks that the text encoder reads one by one.

    Attributes:
        ids: each chunk with its start, end and padding.
        weights: how often each token counts; 1 for start, end and padding.
        found: 1 at each piece of the words that were looked for, 0 elsewhere.
    """

    ids: Int[Array | np.ndarray, "batch chunks words"]
    weights: Float[Array | np.ndarray, "batch chunks words"]
    found: Float[Array | np.ndarray, "batch chunks words"]


def parse_prompt(prompt: str) -> list[Piece]:
    """Reads the notation; every text is valid.

    Args:
        prompt: as a user writes it.

    Returns:
        The pieces in order, none empty; joined, they are the prompt without its notation.
    """
    texts, weights = [""], [1.0]
    opened: dict[str, list[int]] = {bracket: [] for bracket in EMPHASIS}  # where each begins in the two lists

    def begin() -> int:
        texts.append("")
        weights.append(1.0)
        return len(texts) - 1

    def scale(start: int, factor: float) -> None:
        weights[start:] = [factor * weight for weight in weights[start:]]

    for match in SYNTAX.finditer(prompt):
        symbol, kind = match[0], "(" if match[0].endswith(")") else "["
        if match["escaped"]:
            texts[-1] += match["escaped"]
        elif symbol in EMPHASIS:
            opened[symbol].append(begin())
        elif symbol[-1] in ")]" and opened[kind]:
            scale(opened[kind].pop(), float(match["weight"] or EMPHASIS[kind]))
            begin()
        elif symbol == BREAK:
            texts[begin()] = BREAK
            begin()
        else:
            texts[-1] += symbol
    for bracket, starts in opened.items():
        for start in starts:
            scale(start, EMPHASIS[bracket])
    return [Piece(text, weight) for text, weight in zip(texts, weights, strict=True) if text]


def tokenize_prompts(
    tokenizer: Tokenizer, prompts: Sequence[str], find: Callable[[str], list[tuple[int, int]]] = lambda text: []
) -> PromptTokens:
    """Encodes prompts in the notation, each in as many chunks as the longest needs.

    A chunk holds what the text encoder reads at once; a prompt that fills less gets empty ones. Prompts that meet in
    classifier-free guidance, with and without words, are encoded in one call and so have equally many.

    Args:
        tokenizer: of the model; its length is that of a chunk.
        prompts: as users write them.
        find: gives start and end of the words to look for in a prompt without its notation, in characters.

    Returns:
        The tokens, their weights, and which were looked for.
    """
    chunked = [_split_chunks(tokenizer, parse_prompt(prompt), find) for prompt in prompts]
    count = max(map(len, chunked))
    shape = (len(prompts), count, tokenizer.length)
    ids = np.full(shape, tokenizer.padding, np.int32)
    weights, found = np.ones(shape, np.float32), np.zeros(shape, np.float32)
    ids[:, :, 0], ids[:, :, 1] = tokenizer.start, tokenizer.end
    for row, chunks in enumerate(chunked):
        for number, chunk in enumerate(chunks):
            inside = slice(1, 1 + len(chunk))
            for array, values in zip((ids, weights, found), zip(*chunk, strict=True), strict=False):
                array[row, number, inside] = values
            ids[row, number, inside.stop] = tokenizer.end
    return PromptTokens(ids, weights, found)


def _split_chunks(
    tokenizer: Tokenizer, pieces: Sequence[Piece], find: Callable[[str], list[tuple[int, int]]]
) -> list[list[tuple[int, float, bool]]]:
    """Tokens with their weights, and whether they were looked for, cut where a chunk is full or BREAK says so."""
    room, start = tokenizer.room, 0
    words = find("".join(piece.text for piece in pieces))
    chunks: list[list[tuple[int, float, bool]]] = [[]]
    for piece in pieces:
        if piece.text == BREAK:
            chunks.append([])
        else:
            tokens = zip(tokenizer.bare(piece.text), tokenizer.bare_offsets(piece.text), strict=True)
            for token, (first, last) in tokens:
                if len(chunks[-1]) == room:
                    chunks.append([])
                named = any(start + first < after and start + last > before for before, after in words)
                chunks[-1].append((token, piece.weight, named))
        start += len(piece.text)
    return chunks


def embed_prompts(model: StableDiffusion, tokens: PromptTokens) -> Float[Array, "batch all_words embed"]:
    """Text embedding of `tokenize_prompts`, chunks one after the other.

    A token's embedding is multiplied by its weight; the chunk is then scaled so that its mean over words and channels
    is what it was before (the convention named above). Weights of 1 leave the embedding as it is.

    Args:
        model: its text encoder reads each chunk by itself.
        tokens: of the prompts.

    Returns:
        The embedding that the UNet attends to, chunks times words long.
    """
    batch, chunks, words = tokens.ids.shape
    plain = model.embed_ids(jnp.asarray(tokens.ids).reshape(batch * chunks, words))
    weighted = plain * tokens.weights.reshape(batch * chunks, words, 1)
    mean = functools.partial(jnp.mean, axis=(1, 2), keepdims=True)
    return (weighted * (mean(plain) / mean(weighted))).reshape(batch, chunks * words, -1)

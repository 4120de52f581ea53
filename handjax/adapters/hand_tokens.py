"""Which tokens of a caption are about hands: SesaHand draws cross-attention to them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from handjax.diffusion.tokenizer import Tokenizer
from handjax.hand.words import hand_words


def hand_tokens(tokenizer: Tokenizer, captions: Sequence[str]) -> Float[np.ndarray, "batch words"]:
    """Tells which tokens are about hands; times α they are the bias B of cross-attention, for every query alike.

    Args:
        tokenizer: its own offsets say which tokens a word became; they count the start token.
        captions: those longer than the tokenizer's length lose what is beyond it, words on hands too.

    Returns:
        1 at every piece of a word on hands, 0 elsewhere; a row of zeros where a caption has none.

    Source:
        SesaHand, third equation; DECISIONS D4.
    """
    tokens = np.zeros((len(captions), tokenizer.length), np.float32)
    for row, caption, offsets in zip(tokens, captions, tokenizer.offsets(captions), strict=True):
        for start, end in hand_words(caption):
            row[[place for place, (first, last) in enumerate(offsets) if first < end and last > start]] = 1
    return tokens

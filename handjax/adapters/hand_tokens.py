"""Which tokens of a caption are about hands, and the bias that draws cross-attention to them (SesaHand)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from handjax.diffusion.tokenizer import Tokenizer
from handjax.hand.words import hand_words

ALPHA = 2.0


def hand_token_bias(
    tokenizer: Tokenizer, captions: Sequence[str], alpha: float = ALPHA
) -> Float[np.ndarray, "batch words"]:
    """The bias B of cross-attention, the same for every query.

    Args:
        tokenizer: its own offsets say which tokens a word became; they count the start token.
        captions: those longer than the tokenizer's length lose what is beyond it, words on hands too.
        alpha: of tokens about hands.

    Returns:
        `alpha` at every piece of a word on hands, 0 elsewhere; a row of zeros where a caption has none.

    Source:
        SesaHand, third equation; DECISIONS D4.
    """
    bias = np.zeros((len(captions), tokenizer.length), np.float32)
    for row, caption, offsets in zip(bias, captions, tokenizer.offsets(captions), strict=True):
        for start, end in hand_words(caption):
            row[[place for place, (first, last) in enumerate(offsets) if first < end and last > start]] = alpha
    return bias

"""Confidence-guided decoding: all tokens hidden at first, the surest kept in each iteration (MMHMR section 3.4)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from handjax.recovery.masking import hide_least_confident, masked_counts

ITERATIONS = 5
TOP_SHARE = 0.05
"""Of the codes that tokens of text are drawn from (MMHMR D)."""

Predict = Callable[[Int[Array, "batch L"]], Float[Array, "batch L K"]]
Choose = Callable[[Key[Array, ""], Float[Array, "batch L K"]], Int[Array, "batch L"]]


class Decoded(NamedTuple):
    """Tokens and how sure they are.

    Attributes:
        tokens: indices of codes.
        confidence: probability that each token had when it was kept.
        log_likelihood: of all tokens, the sum of logarithms of these.
        hidden: after each iteration, which tokens were hidden again.
        mean_confidence: of the tokens predicted in each iteration (Fig. 9).
        mean_codes: mean of all codes, weighed by the probabilities that they had when the token was kept; None where
            no codebook was given.
    """

    tokens: Int[Array, "batch L"]
    confidence: Float[Array, "batch L"]
    log_likelihood: Float[Array, " batch"]
    hidden: Bool[Array, "T batch L"]
    mean_confidence: Float[Array, "T batch"]
    mean_codes: Float[Array, "batch L D"] | None = None


def ranked(rank: int | Int[Array, ""], last: int | None = None) -> Choose:
    """Takes the token of a rank in place of the first: "Top-k-th" of Table 12.

    Args:
        rank: 1 is the most probable.
        last: the highest rank there can be, of one that is traced.
    """
    return lambda key, logits: jax.lax.top_k(logits, int(rank) if last is None else last)[1][..., rank - 1]


def among_the_likeliest(share: float = TOP_SHARE) -> Choose:
    """Draws among the likeliest codes by their probabilities (DECISIONS F5)."""

    def choose(key, logits):
        values, indices = jax.lax.top_k(logits, math.ceil(share * logits.shape[-1]))
        drawn = jax.random.categorical(key, values)
        return jnp.take_along_axis(indices, drawn[..., None], axis=-1)[..., 0]

    return choose


BEST = ranked(1)


def decode(
    predict: Predict,
    batch: int,
    length: int,
    codes: int,
    key: Key[Array, ""],
    choose: Choose = BEST,
    iterations: int = ITERATIONS,
    codebook: Float[Array, "K D"] | None = None,
) -> Decoded:
    """Decodes tokens under one loop; what `predict` closes over is computed once.

    Args:
        predict: tokens, `codes` for hidden ones, to logits.
        batch: number of pictures.
        length: tokens of a pose.
        codes: of the codebook.
        key: of the choice.
        choose: of logits a token.
        iterations: T; more keep fewer tokens at a time (Table 6).
        codebook: of whose codes the means are wanted (DECISIONS F14).
    """

    def iterate(carry, step):
        tokens, confidence, means = carry
        key, count = step
        logits = predict(tokens)
        known = tokens < codes
        chosen = choose(key, logits)
        shares = jax.nn.softmax(logits.astype(jnp.float32))
        probability = jnp.take_along_axis(shares, chosen[..., None], axis=-1)[..., 0]
        if codebook is not None:
            means = jnp.where(known[..., None], means, shares @ codebook)
        chosen, sure = jnp.where(known, tokens, chosen), jnp.where(known, confidence, probability)
        hidden = hide_least_confident(sure, known, count)
        mean = jnp.where(known, 0, probability).sum(-1) / jnp.maximum((~known).sum(-1), 1)
        return (jnp.where(hidden, codes, chosen), jnp.where(hidden, 0.0, sure), means), (hidden, mean)

    no_means = None if codebook is None else jnp.zeros((batch, length, codebook.shape[-1]))
    start = jnp.full((batch, length), codes), jnp.zeros((batch, length)), no_means
    steps = jax.random.split(key, iterations), jnp.asarray(masked_counts(iterations, length))
    (tokens, confidence, means), (hidden, mean_confidence) = jax.lax.scan(iterate, start, steps)
    return Decoded(tokens, confidence, jnp.log(confidence).sum(-1), hidden, mean_confidence, means)


def hypotheses(
    predict: Predict,
    batch: int,
    length: int,
    codes: int,
    key: Key[Array, ""],
    count: int,
    share: float = TOP_SHARE,
    iterations: int = ITERATIONS,
) -> Decoded:
    """Draws several poses of each picture; `log_likelihood` tells which is the likeliest.

    Args:
        predict: tokens, `codes` for hidden ones, to logits.
        batch: number of pictures.
        length: tokens of a pose.
        codes: of the codebook.
        key: of the draws.
        count: poses of a picture.
        share: of the codes that tokens are drawn from.
        iterations: T.

    Returns:
        What `decode` returns with an axis of `count` before all others.
    """
    choose = among_the_likeliest(share)

    def draw(key):
        return decode(predict, batch, length, codes, key, choose, iterations)

    return jax.vmap(draw)(jax.random.split(key, count))


def hidden_before(decoded: Decoded) -> Int[Array, "T batch"]:
    """How many tokens are hidden when each iteration begins: all of them at first (Fig. 9)."""
    return jnp.roll(decoded.hidden.sum(-1), 1, axis=0).at[0].set(decoded.tokens.shape[-1])


def joint_confidence(confidence: Float[Array, "batch L"]) -> Float[Array, "batch 16"]:
    """Geometric mean of the confidence of each joint's tokens."""
    return jnp.exp(jnp.log(confidence).reshape(len(confidence), 16, -1).mean(-1))


def vertex_confidence(
    confidence: Float[Array, "batch L"], skin_weights: Float[Array, "V 16"]
) -> Float[Array, "batch V"]:
    """Confidence of the joints that move each vertex, in their shares."""
    return joint_confidence(confidence) @ skin_weights.T

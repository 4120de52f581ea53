"""Decoding against a loop over tokens in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.recovery import decoding

BATCH, LENGTH, CODES = 3, 16, 7
TABLE = jax.random.normal(jax.random.key(0), (LENGTH, CODES + 1, LENGTH, CODES))


def predict(tokens):
    """Logits that depend on all tokens, hidden ones too."""
    return 2 * jnp.stack([TABLE[jnp.arange(LENGTH), row].sum(0) for row in tokens]) / LENGTH**0.5


def _decode(**options):
    return decoding.decode(predict, BATCH, LENGTH, CODES, jax.random.key(1), **options)


def _by_hand(iterations):
    tokens, confidence = np.full((BATCH, LENGTH), CODES), np.zeros((BATCH, LENGTH))
    for t in range(1, iterations + 1):
        logits = np.float64(predict(jnp.asarray(tokens)))
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        count = int(max(0, np.floor(LENGTH * np.cos(np.pi * t / iterations / 2))))
        for row in range(BATCH):
            open_places = [i for i in range(LENGTH) if tokens[row, i] == CODES]
            for i in open_places:
                tokens[row, i], confidence[row, i] = shares[row, i].argmax(), shares[row, i].max()
            for i in sorted(open_places, key=lambda i, row=row: confidence[row, i])[:count]:
                tokens[row, i] = CODES
    return tokens, confidence


@pytest.mark.parametrize("iterations", [1, 3, 5, 10])
def test_tokens_and_confidence_are_those_of_the_loop(iterations):
    tokens, confidence = _by_hand(iterations)
    decoded = _decode(iterations=iterations)
    np.testing.assert_array_equal(decoded.tokens, tokens)
    np.testing.assert_allclose(decoded.confidence, confidence, rtol=1e-4)
    np.testing.assert_allclose(decoded.log_likelihood, np.log(confidence).sum(1), rtol=1e-4)
    assert decoded.hidden.shape == (iterations, BATCH, LENGTH) and not decoded.hidden[-1].any()


def test_mean_codes_are_those_of_the_iteration_that_keeps_the_token():
    codebook = jax.random.normal(jax.random.key(4), (CODES, 5))
    decoded = _decode(iterations=3, codebook=codebook)
    np.testing.assert_array_equal(decoded.tokens, _decode(iterations=3).tokens)
    known, expected = np.full((BATCH, LENGTH), CODES), np.zeros((BATCH, LENGTH, 5))
    for hidden in np.asarray(decoded.hidden):
        logits = np.float64(predict(jnp.asarray(known)))
        shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        kept = (known == CODES) & ~hidden
        expected[kept] = (shares @ np.float64(codebook))[kept]
        known = np.where(hidden, CODES, decoded.tokens)
    np.testing.assert_allclose(decoded.mean_codes, expected, rtol=1e-4, atol=1e-5)


def test_the_mean_code_of_a_sure_token_is_its_own():
    codebook = jax.random.normal(jax.random.key(4), (CODES, 5))
    decoded = decoding.decode(
        lambda tokens: 100 * predict(tokens), BATCH, LENGTH, CODES, jax.random.key(1), codebook=codebook
    )
    sure = np.asarray(decoded.confidence) > 1 - 1e-6
    assert sure.mean() > 0.8
    np.testing.assert_allclose(decoded.mean_codes[sure], codebook[decoded.tokens][sure], atol=1e-5)


def test_kept_tokens_stay():
    hidden = np.asarray(_decode().hidden)
    assert (hidden[1:] <= hidden[:-1]).all()


def test_a_lower_rank_is_less_confident():
    first, third = _decode(iterations=1), _decode(iterations=1, choose=decoding.ranked(3))
    logits = np.asarray(predict(jnp.full((BATCH, LENGTH), CODES)))
    np.testing.assert_array_equal(third.tokens, np.argsort(-logits, axis=-1)[..., 2])
    assert (third.confidence < first.confidence).all()
    traced = jax.jit(lambda rank: decoding.ranked(rank, last=5)(jax.random.key(0), jnp.asarray(logits)))
    np.testing.assert_array_equal(traced(3), third.tokens)


def test_text_draws_among_the_likeliest_codes():
    logits = jnp.broadcast_to(jnp.arange(2048.0) / 100, (500, 2048))
    drawn = np.asarray(decoding.among_the_likeliest()(jax.random.key(0), logits))
    assert drawn.min() >= 2048 - 103 and len(np.unique(drawn)) > 50
    expected = np.exp(np.arange(1945, 2048) / 100)
    assert drawn.mean() == pytest.approx((np.arange(1945, 2048) * expected).sum() / expected.sum(), abs=4)


def test_confidence_of_joints_and_vertices():
    confidence = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, (2, 64)))
    joints = decoding.joint_confidence(confidence)
    np.testing.assert_allclose(joints[1, 3], np.prod(confidence[1, 12:16]) ** 0.25, rtol=1e-5)
    weights = jnp.eye(16)[jnp.array([3, 3, 5])].at[1].set(jnp.eye(16)[3:5].mean(0))
    vertices = decoding.vertex_confidence(confidence, weights)
    np.testing.assert_allclose(vertices[0], [joints[0, 3], joints[0, 3:5].mean(), joints[0, 5]], rtol=1e-5)


def test_hypotheses_are_drawn_apart_and_weighed_by_their_probabilities():
    drawn = decoding.hypotheses(predict, BATCH, LENGTH, CODES, jax.random.key(3), 6, share=1.0, iterations=4)
    assert drawn.tokens.shape == (6, BATCH, LENGTH) and drawn.hidden.shape == (6, 4, BATCH, LENGTH)
    assert len({tuple(row) for row in np.asarray(drawn.tokens[:, 0])}) == 6
    known = np.full((6, BATCH, LENGTH), CODES)
    confidence, hidden = np.zeros(known.shape), np.asarray(drawn.hidden)
    for t in range(4):
        for h in range(6):
            logits = np.float64(predict(jnp.asarray(known[h])))
            shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
            new = (known[h] == CODES) & ~hidden[h, t]
            confidence[h][new] = np.take_along_axis(shares, np.asarray(drawn.tokens[h])[..., None], -1)[..., 0][new]
            known[h] = np.where(hidden[h, t], CODES, drawn.tokens[h])
    np.testing.assert_allclose(drawn.log_likelihood, np.log(confidence).sum(-1), rtol=1e-4)
    assert (drawn.log_likelihood.std(0) > 0.1).all()


def test_one_code_alone_can_be_drawn():
    """A share of the codes that holds one of them leaves nothing to chance."""
    drawn = decoding.hypotheses(predict, BATCH, LENGTH, CODES, jax.random.key(3), 2, share=1 / CODES, iterations=3)
    for tokens in drawn.tokens:
        np.testing.assert_array_equal(tokens, _decode(iterations=3).tokens)

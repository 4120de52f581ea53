"""How many tokens are hidden, and which."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from handjax.recovery.masking import draw_masks, hide_least_confident, masked_counts


def test_five_iterations_hide_what_the_paper_s_schedule_says():
    np.testing.assert_array_equal(masked_counts(5, 64), [60, 51, 37, 19, 0])
    np.testing.assert_array_equal(masked_counts(1, 64), [0])
    for length in (16, 64, 128):
        for iterations in range(1, 12):
            counts = masked_counts(iterations, length)
            assert counts[-1] == 0 and (np.diff(counts) <= 0).all() and counts.min() >= 0


@pytest.mark.parametrize("most", [0.3, 0.7, 1.0])
def test_the_share_of_hidden_tokens_is_the_cosine_of_a_uniform_draw(most):
    masks = draw_masks(jax.random.split(jax.random.key(0), 4000), 64, most)
    shares = np.sort(np.asarray(masks).mean(1))
    assert shares.min() >= math.cos(math.pi / 2 * most) - 1e-6 and shares.max() == 1
    # quantiles of cos(πτ/2), τ uniform: half of the draws are above cos(π·most/4); ⌈⌉ adds half a token on average
    expected = [math.cos(math.pi / 2 * most * (1 - q)) + 0.5 / 64 for q in (0.25, 0.5, 0.75)]
    np.testing.assert_allclose(np.quantile(shares, (0.25, 0.5, 0.75)), expected, atol=0.02)
    places = np.asarray(masks).mean(0)
    assert places.std() < 0.02  # no token is hidden more often than others


def test_the_least_confident_are_hidden_and_kept_ones_never():
    confidence = jnp.array([[0.9, 0.1, 0.5, 0.3, 0.2]])
    known = jnp.array([[False, True, False, False, False]])
    hidden = hide_least_confident(confidence, known, jnp.int32(2))
    np.testing.assert_array_equal(hidden, [[False, False, False, True, True]])

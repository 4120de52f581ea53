import numpy as np
import pytest
from scipy import stats

from handjax.metrics.intervals import bootstrap_mean_interval, wilson_interval


@pytest.mark.parametrize("successes, trials", [(0, 10), (5, 10), (173, 200), (200, 200)])
def test_wilson_agrees_with_scipy(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson_interval(successes, trials), (expected.low, expected.high), atol=1e-9)


def test_bootstrap_agrees_with_the_normal_interval_of_a_large_sample():
    values = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    low, high = bootstrap_mean_interval(values)
    np.testing.assert_allclose((low, high), (values.mean() - half, values.mean() + half), atol=0.02)

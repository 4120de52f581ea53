"""Two sets compared: figures from the literature and from definitions."""

import math

import numpy as np
import pytest
import scipy.stats

from handjax.metrics.comparison import bootstrap_rates, odds_ratio, paired_difference, percentile_interval


def test_fishers_tea():
    """Fisher's lady tasting tea, as R's `fisher.test` gives it: odds ratio 6.408, interval 0.2117 to 621.93."""
    tea = odds_ratio(3, 4, 1, 4)
    assert tea.p_value == pytest.approx(34 / 70)
    assert tea.ratio == pytest.approx(6.408309, rel=1e-4)
    assert (tea.low, tea.high) == (pytest.approx(0.2117, rel=0.01), pytest.approx(621.93, rel=0.01))


def test_the_odds_ratio_is_where_the_expected_count_is_the_one_seen():
    """The conditional likelihood is greatest where the noncentral hypergeometric mean is the count."""
    a, n, b, m = 17, 60, 9, 80
    odds = odds_ratio(a, n, b, m)
    support = np.arange(0, a + b + 1)
    weights = [math.comb(n, int(k)) * math.comb(m, int(a + b - k)) for k in support]

    def law(ratio):
        terms = np.array([w * ratio**k for w, k in zip(weights, support, strict=True)], float)
        return terms / terms.sum()

    assert law(odds.ratio) @ support == pytest.approx(a, rel=1e-6)
    assert law(odds.low)[support >= a].sum() == pytest.approx(0.025, rel=1e-3)
    assert law(odds.high)[support <= a].sum() == pytest.approx(0.025, rel=1e-3)
    central = law(1.0)
    assert odds.p_value == pytest.approx(central[central <= central[a] * (1 + 1e-7)].sum(), rel=1e-6)
    woolf = scipy.stats.contingency.odds_ratio([[a, n - a], [b, m - b]], kind="sample").statistic
    assert odds.ratio == pytest.approx(woolf, rel=0.03) and odds.ratio < woolf


def test_sets_without_events_have_no_finite_odds():
    assert odds_ratio(3, 10, 0, 10).ratio == math.inf and odds_ratio(0, 10, 3, 10).ratio == 0
    assert math.isnan(odds_ratio(0, 10, 0, 10).ratio) and odds_ratio(0, 10, 0, 10).p_value == 1


def test_the_bootstrap_keeps_groups_together():
    """With groups of one the spread is that of a mean; with ten copies in each group it is √10 of what copies give."""
    values = np.random.default_rng(3).normal(size=400)
    single = bootstrap_rates(values, np.ones(400), seed=0)
    grouped = bootstrap_rates(10 * values, np.full(400, 10.0), seed=0)
    alone = bootstrap_rates(np.repeat(values, 10), np.ones(4000), seed=0)
    assert len(single) == 5000 and single.std() == pytest.approx(values.std() / 20, rel=0.04)
    np.testing.assert_allclose(grouped, single)
    assert grouped.std() == pytest.approx(np.sqrt(10) * alone.std(), rel=0.06)
    low, high = percentile_interval(single)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.05)


def test_the_bootstrap_is_of_a_ratio_of_sums():
    """Groups of unlike size weigh by it: the centre is Σ sums / Σ counts, not the mean of the groups' rates."""
    sums, counts = np.tile([1.0, 0.0], 200), np.tile([1.0, 9.0], 200)
    sample = bootstrap_rates(sums, counts, seed=1)
    assert sample.mean() == pytest.approx(0.1, abs=0.002)
    np.testing.assert_array_equal(sample, bootstrap_rates(sums, counts, seed=1))
    assert (sample != bootstrap_rates(sums, counts, seed=2)).any()


def test_what_items_have_in_common_does_not_widen_the_interval_of_a_difference():
    rng = np.random.default_rng(5)
    before = rng.normal(10, 5, (900, 1))
    change = rng.normal(-0.2, 0.3, (900, 1))
    value, (low, high) = paired_difference(before, before + change)
    assert value == pytest.approx(change.mean())
    assert (low + high) / 2 == pytest.approx(change.mean(), abs=0.003)
    assert (high - low) / 2 == pytest.approx(1.96 * change.std() / 30, rel=0.07)
    assert paired_difference(before, before + 1)[1] == pytest.approx((1, 1))


def test_the_paired_difference_is_of_means_over_columns():
    """By a loop over resamples: columns that are known of few items count as much as others."""
    rng, items = np.random.default_rng(6), 40
    before, after = rng.normal(0, 1, (2, items, 3))
    unknown = rng.random((items, 3)) < [0.1, 0.5, 0.8]
    before[unknown] = after[unknown] = np.nan

    def figure(scores):
        return np.mean([np.mean(column[np.isfinite(column)]) for column in scores.T])

    value, (low, high) = paired_difference(before, after)
    assert value == pytest.approx(figure(after) - figure(before))
    drawn = np.random.default_rng(7).integers(items, size=(2000, items))
    differences = [figure(after[numbers]) - figure(before[numbers]) for numbers in drawn]
    np.testing.assert_allclose((low, high), percentile_interval(np.array(differences)), atol=0.06)

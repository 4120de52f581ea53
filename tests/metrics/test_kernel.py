import itertools

import numpy as np
import pytest

from handjax.errors import InputError
from handjax.metrics import kernel
from handjax.metrics.intervals import bootstrap_interval
from handjax.metrics.kernel import kernel_distance, kernel_distance_of_subsets, kernel_replicates


def _features(seed, count, size=5, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1.0, (count, size)).astype(np.float32)


def _by_definition(x, y):
    """Means over pairs one by one."""

    def k(a, b):
        return (np.dot(a.astype(np.float64), b) / len(a) + 1) ** 3

    def within(z):
        return np.mean([k(a, b) for a, b in itertools.permutations(z, 2)])

    return within(x) + within(y) - 2 * np.mean([k(a, b) for a, b in itertools.product(x, y)])


def test_agrees_with_the_sum_over_pairs():
    x, y = _features(0, 12), _features(1, 9, shift=0.5)
    assert kernel_distance(x, y) == pytest.approx(_by_definition(x, y), rel=1e-10)


def test_is_unbiased_where_both_sets_are_of_one_distribution():
    values = [kernel_distance(_features(2 * i, 20), _features(2 * i + 1, 30)) for i in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20
    assert min(values) < 0 < max(values)


def test_subsets_average_to_the_distance_of_the_sets():
    x, y = _features(3, 40), _features(4, 60, shift=0.4)
    whole = kernel_distance(x, y)
    assert kernel_distance_of_subsets(x, y, seed=0, subsets=3000, size=10) == pytest.approx(whole, rel=0.05)
    one = kernel_distance_of_subsets(x, y, seed=0, subsets=5, size=10)
    assert one == kernel_distance_of_subsets(x, y, seed=0, subsets=5, size=10) != pytest.approx(whole, rel=1e-6)
    assert one != kernel_distance_of_subsets(x, y, seed=1, subsets=5, size=10)
    # subsets of whole sets are these sets
    assert kernel_distance_of_subsets(x, y[:40], seed=0) == pytest.approx(kernel_distance(x, y[:40]), rel=1e-12)


def test_a_replicate_leaves_out_pairs_of_a_picture_with_itself(monkeypatch):
    monkeypatch.setattr(kernel, "BLOCK", 4)
    x, y = _features(5, 7).astype(np.float64), _features(6, 10).astype(np.float64)
    rng = np.random.default_rng(3)
    times = [rng.multinomial(len(z), np.full(len(z), 1 / len(z)), 2) for z in (x, y)]
    for i, replicate in enumerate(kernel_replicates(x, y, seed=3, resamples=2)):
        expected = 0.0
        for z, counts in zip((x, y), times, strict=True):
            drawn = np.repeat(np.arange(len(z)), counts[i])
            pairs = [(a, b) for a, b in itertools.permutations(drawn, 2) if a != b]
            expected += np.mean([(z[a] @ z[b] / 5 + 1) ** 3 for a, b in pairs])
        a, b = (np.repeat(z, counts[i], axis=0) for z, counts in zip((x, y), times, strict=True))
        expected -= 2 * np.mean((a @ b.T / 5 + 1) ** 3)
        assert replicate == pytest.approx(expected, rel=1e-10)


def test_the_interval_covers_the_distance_of_the_distributions():
    pairs = [(_features(2 * i, 60), _features(2 * i + 1, 50, shift=0.6)) for i in range(400)]
    values = [kernel_distance(x, y) for x, y in pairs]
    covered = 0
    for (x, y), value in zip(pairs[:200], values, strict=False):
        low, high = bootstrap_interval(value, kernel_replicates(x, y, 1, 200))
        covered += low <= np.mean(values) <= high
    assert 0.87 <= covered / 200 <= 0.99


def test_a_single_picture_has_no_distance():
    with pytest.raises(InputError, match="a set of 1 pictures has no kernel distance; give at least 2"):
        kernel_distance_of_subsets(_features(0, 1), _features(1, 30), seed=0)

import functools

import numpy as np
import pytest
from scipy import linalg

from handjax.errors import InputError
from handjax.metrics.frechet import Moments, frechet_distance, frechet_replicates
from handjax.metrics.intervals import bootstrap_interval


def _features(seed, count, size=24):
    """Correlated features, neither centred nor alike in scale."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(seed + 100).normal(size=(size, size)) * np.geomspace(0.1, 3, size)
    return (rng.normal(size=(count, size)) @ mixing + rng.normal(size=size)).astype(np.float32)


def _distance(x, y):
    return frechet_distance(Moments.of(x), Moments.of(y))


def _by_definition(x, y):
    """The formula with SciPy's root of a matrix, in float64."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    step = x.mean(axis=0) - y.mean(axis=0)
    return step @ step + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real)


@pytest.mark.parametrize("count", [40, 500])
def test_agrees_with_scipys_root(count):
    x, y = _features(0, count), _features(1, 2 * count)
    assert _distance(x, y) == pytest.approx(_by_definition(x, y), rel=1e-9)


@pytest.mark.parametrize("count", [5, 300])
def test_of_a_stretched_and_moved_copy_whether_the_covariance_is_singular_or_not(count):
    x = _features(2, count).astype(np.float64)
    stretched = 3 * x + 0.5
    # (Σ · 9Σ)^½ = 3Σ, so the traces leave (1 + 9 - 6) tr Σ
    step = 2 * x.mean(axis=0) + 0.5
    expected = step @ step + 4 * np.trace(np.cov(x, rowvar=False))
    assert _distance(x, stretched) == pytest.approx(expected, rel=1e-9)
    assert _distance(x, x) == pytest.approx(0, abs=1e-9 * expected)


def test_parts_merge_to_the_whole():
    x = _features(3, 500) + 100
    parts = [Moments.of(part) for part in np.split(x, [1, 2, 130, 400])]
    merged = functools.reduce(Moments.merge, parts)
    swapped = functools.reduce(lambda a, b: b.merge(a), parts)
    for moments in (merged, swapped):
        assert moments.count == 500
        np.testing.assert_allclose(moments.mean, x.astype(np.float64).mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-9)


@pytest.mark.parametrize("count", [10, 80])
def test_a_replicate_is_the_distance_of_repeated_rows(count):
    x, y = _features(4, count), _features(5, count + 3)
    rng = np.random.default_rng(7)
    replicates = list(frechet_replicates(x, y, seed=7, resamples=2))
    for replicate in replicates:
        a, b = (np.repeat(z, rng.multinomial(len(z), np.full(len(z), 1 / len(z))), axis=0) for z in (x, y))
        assert replicate == pytest.approx(_distance(a, b), rel=1e-9)
    assert replicates == list(frechet_replicates(x, y, seed=7, resamples=2))


def test_the_interval_covers_what_such_samples_give_on_average():
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 2.0, 0.5, 1.5])
    pairs = [(rng.normal(size=(60, 4)), rng.normal(0.3, scale, (60, 4))) for _ in range(300)]
    values = [_distance(x, y) for x, y in pairs]
    covered = 0
    for (x, y), value in zip(pairs[:150], values, strict=False):
        low, high = bootstrap_interval(value, np.array(list(frechet_replicates(x, y, 1, 100))))
        covered += low <= np.mean(values) <= high
    assert 0.87 <= covered / 150 <= 0.99


def test_a_single_picture_has_no_covariance():
    with pytest.raises(InputError, match="a set of 1 pictures has no covariance; give at least 2"):
        _distance(_features(0, 1), _features(1, 30))

import numpy as np
import pytest

from handjax.metrics import streaming
from handjax.metrics.frechet import Moments
from handjax.metrics.streaming import FeatureStream


def stream_of(features, **options):
    stream = FeatureStream(**options)
    for row in features:
        stream.add(row)
    return stream


@pytest.mark.parametrize("count", [1, 999, 1000, 2500])
def test_streamed_moments_are_those_of_the_whole(monkeypatch, count):
    monkeypatch.setattr(streaming, "FOLDED", 1000)
    features = (np.random.default_rng(0).normal(size=(count, 12)) * np.geomspace(0.1, 9, 12) + 50).astype(np.float32)
    stream, whole = stream_of(features), Moments.of(features)
    assert stream.moments.count == stream.count == count
    np.testing.assert_allclose(stream.moments.mean, whole.mean, rtol=1e-10)
    np.testing.assert_allclose(
        stream.moments.scatter, whole.scatter, rtol=1e-10, atol=1e-10 * np.abs(whole.scatter).max()
    )
    np.testing.assert_array_equal(stream.kept, features)


def test_moments_may_be_asked_for_between():
    features = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)
    stream = stream_of(features[:25])
    assert stream.moments.count == 25
    for row in features[25:]:
        stream.add(row)
    np.testing.assert_allclose(stream.moments.covariance, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-10)


def test_of_many_a_random_sample_is_kept_and_all_count_in_the_moments():
    features = np.arange(400, dtype=np.float32)[:, None]
    stream = stream_of(features, seed=3, most=50)
    assert len(np.unique(stream.kept)) == 50 and stream.moments.mean[0] == pytest.approx(199.5, rel=1e-12)
    np.testing.assert_array_equal(stream.kept, stream_of(features, seed=3, most=50).kept)
    assert not np.array_equal(stream.kept, stream_of(features, seed=4, most=50).kept)
    drawn = np.concatenate([stream_of(features[:40], seed=seed, most=10).kept for seed in range(400)])
    # 4000 draws of 40 values: 100 of each, deviation 8.7
    assert np.abs(np.bincount(drawn.astype(int).ravel(), minlength=40) - 100).max() < 40

"""Reliability curves, calibration error and confidence."""

import numpy as np
import pytest

from handjax.metrics.calibration import reliability_curve, top_confidence


def by_loops(probabilities, truth, bins):
    """The curve and its error by their definitions, one prediction after the other."""
    rows, error = [], 0.0
    for k in range(bins):
        inside = [
            (p, t)
            for p, t in zip(probabilities, truth, strict=True)
            if k / bins <= p < (k + 1) / bins or (k == bins - 1 and p == 1)
        ]
        if not inside:
            rows.append((0, np.nan, np.nan))
            continue
        confidence, frequency = np.mean([p for p, _ in inside]), np.mean([t for _, t in inside])
        rows.append((len(inside), confidence, frequency))
        error += abs(confidence - frequency) * len(inside) / len(truth)
    return np.array(rows).T, error


@pytest.mark.parametrize("bins", [5, 10])
def test_the_curve_is_that_of_its_definition(bins):
    rng = np.random.default_rng(0)
    probabilities = np.append(rng.beta(5, 1, size=300), 1.0)
    truth = rng.random(301) < probabilities**2
    curve = reliability_curve(probabilities, truth, bins)
    wanted, error = by_loops(probabilities, truth, bins)
    np.testing.assert_allclose([curve.counts, curve.confidence, curve.frequency], wanted)
    assert curve.error == pytest.approx(error) and curve.error > 0.05


def test_honest_probabilities_are_calibrated_and_boasts_are_not():
    rng = np.random.default_rng(1)
    probabilities = rng.random(20_000)
    truth = rng.random(20_000) < probabilities
    assert reliability_curve(probabilities, truth).error < 0.015
    assert reliability_curve(np.full(100, 0.95), np.arange(100) < 70).error == pytest.approx(0.25)
    assert reliability_curve(np.full(100, 1.0), np.ones(100, bool)).error == 0


def test_confidence_is_that_of_the_likeliest_class():
    probabilities = np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4], [0.3, 0.3, 0.4]])
    confidence, correct = top_confidence(probabilities, np.array([1, 2, 2]))
    np.testing.assert_array_equal(confidence, [0.7, 0.5, 0.4])
    np.testing.assert_array_equal(correct, [True, False, True])

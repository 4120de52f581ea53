"""Accuracy, Cohen's kappa and coverage."""

import math

import numpy as np
import pytest

from handjax.metrics.agreement import agreement


def test_cohens_example():
    """50 applications, two readers: 20 yes-yes, 15 no-no, 5 yes-no, 10 no-yes; kappa 0.4."""
    truth = ["yes"] * 25 + ["no"] * 25
    said = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    result = agreement(truth, said)
    assert (result.accuracy, result.coverage) == (0.7, 1.0)
    assert result.kappa == pytest.approx(0.4)


def test_unknown_is_never_right():
    truth = ["plausible"] * 6 + ["implausible"] * 4
    said = ["plausible"] * 4 + ["unknown", "no hand found"] + ["implausible"] * 3 + ["unknown"]
    result = agreement(truth, said, withheld=("unknown", "no hand found"))
    assert (result.trials, result.covered, result.right) == (10, 7, 7)
    assert (result.accuracy, result.coverage) == (0.7, 0.7)
    # chance: 0.6·0.4 + 0.4·0.3
    assert result.kappa == pytest.approx((0.7 - 0.36) / (1 - 0.36))


def test_kappa_is_that_of_the_confusion_matrix():
    rng = np.random.default_rng(0)
    names = np.array(["normal", "fused", "count", "unknown"])
    truth = rng.integers(3, size=500)
    said = np.where(rng.random(500) < 0.6, truth, rng.integers(4, size=500))
    matrix = np.zeros((4, 4))
    np.add.at(matrix, (truth, said), 1)
    matrix /= 500
    chance = (matrix.sum(axis=0) * matrix.sum(axis=1)).sum()
    result = agreement(names[truth].tolist(), names[said].tolist())
    assert result.kappa == pytest.approx((np.trace(matrix) - chance) / (1 - chance))
    assert result.coverage == pytest.approx(1 - matrix[:, 3].sum())


def test_where_chance_alone_agrees_there_is_no_kappa():
    assert math.isnan(agreement(["yes"] * 3, ["yes"] * 3).kappa)

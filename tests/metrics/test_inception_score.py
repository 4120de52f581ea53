import numpy as np
import pytest

from handjax.errors import InputError
from handjax.metrics.inception_score import inception_score


def test_sure_and_even_gives_the_number_of_classes_and_unsure_gives_one():
    sure = 60 * np.eye(7)[np.arange(700) % 7]
    mean, deviation = inception_score(sure, splits=1)
    assert mean == pytest.approx(7) and deviation == 0
    assert inception_score(np.zeros((30, 7)))[0] == pytest.approx(1)


def test_is_the_definition_part_by_part():
    logits = np.random.default_rng(0).normal(size=(47, 9)).astype(np.float32) * 3
    order = np.random.RandomState(2020).permutation(47)
    p = np.exp(logits[order].astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    scores = []
    for i in range(10):
        part = p[i * 47 // 10 : (i + 1) * 47 // 10]
        scores.append(np.exp(np.mean([np.sum(row * np.log(row / part.mean(axis=0))) for row in part])))
    assert inception_score(logits) == pytest.approx((np.mean(scores), np.std(scores)), rel=1e-9)


def test_fewer_pictures_than_parts_are_refused():
    with pytest.raises(InputError, match="a set of 9 pictures"):
        inception_score(np.zeros((9, 4)))

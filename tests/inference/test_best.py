"""Which of several pictures is kept."""

from types import SimpleNamespace

import numpy as np
import pytest

from handjax.anatomy.scores import UNKNOWN, AnatomyScore
from handjax.errors import ConfigError
from handjax.inference.best import best_of, rank_hands
from handjax.inference.score import FingerCount


def score(verdict, s_anat, normal=None):
    count = None if normal is None else FingerCount(5, {"normal": normal})
    return SimpleNamespace(anatomy=AnatomyScore(s_anat, verdict, None, 1.0, ()), count=count)


NOT_JUDGED = SimpleNamespace(anatomy=UNKNOWN, count=None)


def test_the_verdict_ranks_before_the_score_and_the_worst_hand_decides():
    good, fair, bad = score("plausible", 0.9), score("plausible", 0.6), score("implausible", 0.95)
    pictures = [[], [bad], [NOT_JUDGED], [fair], [good]]
    ranks = [rank_hands(hands) for hands in pictures]
    assert ranks == sorted(ranks) and len(set(ranks)) == 5
    np.testing.assert_allclose(ranks, [0, 1.95, 2.5, 3.6, 3.9])
    assert rank_hands([good, bad]) == rank_hands([bad]) and rank_hands([good, NOT_JUDGED]) == 2.5
    assert rank_hands([NOT_JUDGED, bad]) == rank_hands([bad])


def test_a_hand_that_cannot_be_judged_goes_before_one_known_to_be_bad_by_its_looks_among_its_like():
    odd, fine = (SimpleNamespace(anatomy=UNKNOWN, count=FingerCount(None, {"normal": p})) for p in (0.5, 0.6))
    np.testing.assert_allclose([rank_hands([odd]), rank_hands([fine])], [2.25, 2.3])
    worst_looks = score("plausible", 0.9, 0.0)
    assert rank_hands([score("implausible", 1.0, 1.0)]) <= 2.0 < rank_hands([odd]) < rank_hands([worst_looks])


def test_looks_count_within_a_verdict():
    doubtful, fine = score("plausible", 0.9, 0.5), score("plausible", 0.8, 0.75)
    np.testing.assert_allclose([rank_hands([doubtful]), rank_hands([fine])], [3.45, 3.6])
    assert rank_hands([score("implausible", 0.9, 1.0)]) < rank_hands([score("plausible", 0.1, 0.0)])


def test_a_counter_without_a_class_of_normal_hands_is_told():
    count = FingerCount(5, {"five": 0.9, "six": 0.1})
    with pytest.raises(ConfigError, match=r"no class 'normal' to rank by \(its classes: five, six\)"):
        rank_hands([SimpleNamespace(anatomy=score("plausible", 0.9).anatomy, count=count)])


def test_the_best_is_kept_and_the_first_of_equals():
    pictures = [np.full((2, 2, 3), value, np.uint8) for value in (3, 9, 9, 1)]
    assert best_of(pictures, lambda picture: float(picture.mean())) == (1, [3, 9, 9, 1])

from collections import Counter

import pytest

from handjax.errors import InputError
from launch.study.pictures import StudyPicture
from launch.study.trials import JUDGE, NO_DIFFERENCE, PREFER, RATE, TASKS, Settings, plan

CONDITIONS = ("real", "ours", "theirs", "older")
NAMES = [f"picture{number:02}" for number in range(20)]
PICTURES = [StudyPicture(f"{c}|{name}", c, name, "", "") for c in CONDITIONS for name in NAMES]


def _settings(trials=12, tasks=TASKS, real="real", seed=0):
    return Settings(real, tasks, trials, seed, 64)


def _of(token):
    return token.partition("|")[0]


def test_every_condition_is_shown_as_often_as_any_other():
    for rater in ("anna", "bert"):
        trials = plan(PICTURES, _settings(), rater)
        assert [trial.number for trial in trials] == list(range(36))
        assert [trial.task for trial in trials] == [JUDGE] * 12 + [PREFER] * 12 + [RATE] * 12
        for task in (JUDGE, RATE):
            tokens = [trial.shown[0] for trial in trials if trial.task == task]
            assert len(set(tokens)) == 12 and Counter(map(_of, tokens)) == dict.fromkeys(CONDITIONS, 3)
        for trial in (trial for trial in trials if trial.task == PREFER):
            assert sorted(map(_of, trial.shown)) == ["older", "ours", "theirs"]
            assert len({token.partition("|")[2] for token in trial.shown}) == 1
            assert trial.answers() == (*trial.shown, NO_DIFFERENCE)


def test_orders_are_the_raters_own_and_always_the_same():
    first = plan(PICTURES, _settings(), "anna")
    assert first == plan(PICTURES, _settings(), "anna")
    assert first != plan(PICTURES, _settings(), "bert")
    assert first != plan(PICTURES, _settings(seed=1), "anna")


def test_no_place_on_the_page_belongs_to_a_condition():
    """Over many raters every condition is as often at the left, and as often first in the order."""
    left, first = Counter(), Counter()
    for rater in range(200):
        trials = plan(PICTURES, _settings(trials=4), f"rater {rater}")
        left.update(_of(trial.shown[0]) for trial in trials if trial.task == PREFER)
        first[_of(trials[0].shown[0])] += 1
    assert set(left) == set(CONDITIONS[1:]) and all(abs(count - 800 / 3) < 60 for count in left.values())
    assert set(first) == set(CONDITIONS) and all(abs(count - 50) < 30 for count in first.values())


def test_few_pictures_make_few_trials():
    pictures = [picture for picture in PICTURES if picture.name in NAMES[:2]]
    assert len(plan(pictures, _settings(), "anna")) == 8 + 2 + 8


def test_nothing_can_be_preferred_where_names_do_not_meet():
    one = [picture for picture in PICTURES if picture.condition in ("real", "ours")]
    with pytest.raises(InputError, match="--tasks judge,rate"):
        plan(one, _settings(), "anna")
    assert len(plan(one, _settings(tasks=(JUDGE,)), "anna")) == 12

"""Figures are held against sums written out here, intervals against a bootstrap in plain Python."""

import random
import statistics

import pytest

from launch.study.analysis import analyse
from launch.study.store import Answer

CONDITIONS = ["real", "a", "b"]


def _answers():
    """Raters of very different opinions, and of different zeal."""
    draw = random.Random(0)
    answers = []
    for rater in range(12):
        mood, zeal = draw.random(), draw.randrange(4, 12)
        for condition, bias in (("real", 0.3), ("a", 0.2), ("b", -0.2)):
            for _ in range(zeal):
                value = "real" if draw.random() < min(max(mood + bias, 0), 1) else "generated"
                answers.append(Answer(f"r{rater}", "judge", (condition,), value, None))
                stars = str(min(5, max(1, round(3 + 4 * (mood - 0.5) + 3 * bias + draw.gauss(0, 0.6)))))
                answers.append(Answer(f"r{rater}", "rate", (condition,), stars, None))
        for _ in range(zeal):
            chosen = draw.choice(["a", "a", "b", None])
            order = tuple(draw.sample(["a", "b"], 2))
            answers.append(Answer(f"r{rater}", "prefer", order, "token" if chosen else "none", chosen))
    return answers


def _plain_interval(answers, figure, resamples=2000):
    draw = random.Random(1)
    by_rater = {}
    for answer in answers:
        by_rater.setdefault(answer.rater, []).append(answer)
    values = []
    for _ in range(resamples):
        sample = [answer for rater in draw.choices(list(by_rater), k=len(by_rater)) for answer in by_rater[rater]]
        values.append(figure(sample))
    values.sort()
    return values[round(0.025 * resamples)], values[round(0.975 * resamples)]


def _judged(condition, value):
    def figure(answers):
        of = [a.value == value for a in answers if a.task == "judge" and a.conditions == (condition,)]
        return sum(of) / len(of)

    return figure


def _rated(condition):
    return lambda answers: statistics.mean(
        int(a.value) for a in answers if a.task == "rate" and a.conditions == (condition,)
    )


def _preferred(condition):
    def figure(answers):
        decided = [a.chosen == condition for a in answers if a.task == "prefer" and a.value != "none"]
        return sum(decided) / len(decided)

    return figure


FIGURES = {
    ("r2g", "real"): _judged("real", "generated"),
    ("g2r", "a"): _judged("a", "real"),
    ("g2r", "b"): _judged("b", "real"),
    ("preference", "a"): _preferred("a"),
    ("preference", "b"): _preferred("b"),
    ("rating", "real"): _rated("real"),
    ("rating", "a"): _rated("a"),
    ("rating", "b"): _rated("b"),
}


def test_figures_and_intervals():
    answers = _answers()
    results = analyse(answers, CONDITIONS, "real")
    assert [(item["measure"], item["condition"]) for item in results["items"]] == list(FIGURES)
    for item in results["items"]:
        figure = FIGURES[item["measure"], item["condition"]]
        assert item["value"] == pytest.approx(figure(answers), abs=1e-12)
        scale = 0.05 if item["measure"] == "rating" else 0.02
        assert item["interval"] == pytest.approx(_plain_interval(answers, figure), abs=scale)
        assert item["raters"] == 12
    assert results["no_difference"] == sum(answer.value == "none" for answer in answers) > 5
    g2r = next(item for item in results["items"] if item["measure"] == "g2r")
    width = g2r["interval"][1] - g2r["interval"][0]
    assert width > 1.3 * (g2r["wilson"][1] - g2r["wilson"][0]), "answers of one rater are alike"


def test_differences_are_of_the_same_raters():
    """Raters' moods move both conditions alike: the difference is surer than the figures."""
    answers = _answers()
    results = analyse(answers, CONDITIONS, "real")
    assert [difference["measure"] for difference in results["differences"]] == ["g2r", "preference", "rating"]
    gap = next(d for d in results["differences"] if d["measure"] == "rating")
    assert gap["conditions"] == ["a", "b"]
    assert gap["value"] == pytest.approx(_rated("a")(answers) - _rated("b")(answers))
    plain = _plain_interval(answers, lambda sample: _rated("a")(sample) - _rated("b")(sample))
    assert gap["interval"] == pytest.approx(plain, abs=0.05)
    alone = next(item for item in results["items"] if item["measure"] == "rating" and item["condition"] == "a")
    assert gap["interval"][1] - gap["interval"][0] < 0.7 * (alone["interval"][1] - alone["interval"][0])


def test_one_rater_has_no_interval_and_unasked_tasks_no_figures():
    answers = [Answer("r", "rate", ("a",), "4", None), Answer("r", "rate", ("a",), "1", None)]
    results = analyse(answers, CONDITIONS, "real")
    assert results["items"] == [
        {"measure": "rating", "condition": "a", "value": 2.5, "interval": None, "answers": 2, "raters": 1}
    ]
    assert results["differences"] == []

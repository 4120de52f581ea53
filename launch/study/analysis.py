"""What the answers of a study say, with intervals that respect that answers of one rater are alike."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from handjax.metrics.intervals import bootstrap_cluster_means, wilson_interval
from launch.study.store import Answer
from launch.study.trials import GENERATED, JUDGE, NO_DIFFERENCE, PREFER, RATE, REAL

MEASURES = {
    "r2g": "R2G, real pictures judged generated",
    "g2r": "G2R, generated pictures judged real",
    "preference": "preferred, of the trials with a preference",
    "rating": "mean rating, 1 to 5",
}
Values = list[tuple[str, str, float]]
"""Rater, condition and value of each answer that a measure counts."""


def analyse(answers: Iterable[Answer], conditions: Sequence[str], real: str | None, seed: int = 0) -> dict[str, Any]:
    """Computes every measure of every condition.

    Args:
      answers: of a study.
      conditions: all of them, in the order of the results.
      real: the one of photographs, if there is one.
      seed: of the bootstrap over raters.

    Returns:
      items: of each measure and condition its value, interval (None with one rater), number of answers and of raters;
      of shares also the count and Wilson's interval, as if answers were independent.
      differences: of each measure, between every two generated conditions.
      no_difference: trials in which nothing was preferred.

    Source: SGMHand, user study (R2G, G2R, Jab); SesaHand, user preference (1 to 5); DECISIONS H8.
    """
    answers = list(answers)
    generated = [condition for condition in conditions if condition != real]
    items: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for measure, values in _values(answers, real).items():
        judged = {condition for _, condition, _ in values}
        shown = [condition for condition in conditions if condition in judged]
        if not shown:
            continue
        sums, counts = _by_rater(values, shown)
        replicates = bootstrap_cluster_means(sums, counts, seed) if len(sums) > 1 else None
        means = sums.sum(axis=0) / counts.sum(axis=0)
        for place, condition in enumerate(shown):
            item = {"measure": measure, "condition": condition, "value": float(means[place])}
            item["interval"] = None if replicates is None else _interval(replicates[:, place])
            items.append(item | _counts(measure, sums[:, place], counts[:, place]))
        compared = [place for place, condition in enumerate(shown) if condition in generated]
        for one, other in itertools.combinations(compared, 2):
            difference: dict[str, Any] = {"measure": measure, "conditions": [shown[one], shown[other]]}
            difference["value"] = float(means[one] - means[other])
            gaps = None if replicates is None else replicates[:, one] - replicates[:, other]
            differences.append(difference | {"interval": None if gaps is None else _interval(gaps)})
    undecided = sum(answer.value == NO_DIFFERENCE for answer in answers)
    return {"items": items, "differences": differences, "no_difference": undecided}


def _counts(measure: str, sums: Float[np.ndarray, " raters"], counts: Float[np.ndarray, " raters"]) -> dict[str, Any]:
    """How much a figure rests on; of shares also Wilson's interval."""
    about: dict[str, Any] = {"answers": int(counts.sum()), "raters": int((counts > 0).sum())}
    if measure == "rating":
        return about
    count = int(sums.sum())
    return about | {"count": count, "wilson": list(wilson_interval(count, about["answers"]))}


def _values(answers: Iterable[Answer], real: str | None) -> dict[str, Values]:
    values: dict[str, Values] = {measure: [] for measure in MEASURES}
    for answer in answers:
        condition = answer.conditions[0]
        if answer.task == JUDGE and condition == real:
            values["r2g"].append((answer.rater, condition, float(answer.value == GENERATED)))
        elif answer.task == JUDGE:
            values["g2r"].append((answer.rater, condition, float(answer.value == REAL)))
        elif answer.task == RATE:
            values["rating"].append((answer.rater, condition, float(answer.value)))
        elif answer.task == PREFER and answer.chosen:
            values["preference"] += [(answer.rater, one, float(one == answer.chosen)) for one in answer.conditions]
    return values


def _by_rater(
    values: Values, conditions: Sequence[str]
) -> tuple[Float[np.ndarray, "raters conditions"], Float[np.ndarray, "raters conditions"]]:
    """Sums and counts of each rater's values."""
    raters = {rater: place for place, rater in enumerate(sorted({rater for rater, _, _ in values}))}
    sums, counts = np.zeros((2, len(raters), len(conditions)))
    for rater, condition, value in values:
        place = raters[rater], conditions.index(condition)
        sums[place] += value
        counts[place] += 1
    return sums, counts


def _interval(replicates: Float[np.ndarray, " resamples"]) -> list[float]:
    """Percentile interval (95 %)."""
    return [float(edge) for edge in np.nanquantile(replicates, (0.025, 0.975))]

"""Rates of implausible hands in a set of pictures, and two sets compared, as HandAnat does."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from handjax.anatomy.scores import violated_part
from handjax.inference.score_pictures import STATUSES, Item
from handjax.metrics.comparison import bootstrap_rates, odds_ratio, percentile_interval
from handjax.metrics.intervals import wilson_interval

MODES = {"strict": "verdict", "paper": "paper_verdict"}
"""The two ways to a verdict (DECISIONS E2) and where an item's hands have it."""

_SEEDS = (0, 1)  # of the bootstraps of set a and set b: independent samples


class Tally:
    """Counts what was said of the pictures of one set.

    Pictures in which no hand was found and hands of unknown anatomy are counted apart; rates are of the hands judged,
    and of the pictures, or frames of clips, with a hand judged.

    Attributes:
      name: of the set.
      title: what is in it.
      statuses: of pictures, or of a clip's frames.
      found_by: how many pictures have hands by which attempt.
      notes: of pictures and of hands.
      verdicts: of hands, by mode.
      pictures: with a hand judged, by mode: "implausible" where one is, or else "plausible".
      violations: how many implausible hands violate which part.
      fingers_unknown: how many hands judged have an S_anat without the term of the finger count (DECISIONS E2).
      scores: S_anat of each hand judged.
    """

    def __init__(self, name: str, title: str):
        self.name = name
        self.title = title
        self.statuses: Counter[str] = Counter()
        self.found_by: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.verdicts: dict[str, Counter[str]] = {mode: Counter() for mode in MODES}
        self.pictures: dict[str, Counter[str]] = {mode: Counter() for mode in MODES}
        self.violations: Counter[str] = Counter()
        self.fingers_unknown = 0
        self.scores: list[float] = []
        self._groups: dict[str, list[tuple[float, int]]] = {quantity: [] for quantity in ("s_anat", *MODES)}

    def add(self, items: Sequence[Item]) -> None:
        """Counts a picture, or all frames of one clip, which the bootstrap keeps together."""
        hands = [hand for item in items for hand in item["hands"]]
        self.statuses.update(item["status"] for item in items)
        self.found_by.update(item["found_by"] for item in items if item.get("found_by"))
        self.notes.update(note for noted in (*items, *hands) for note in noted["notes"])
        for mode, field in MODES.items():
            self.verdicts[mode].update(hand[field] for hand in hands)
            pictures = ({hand[field] for hand in item["hands"]} for item in items)
            self.pictures[mode].update(_worst(verdicts) for verdicts in pictures if verdicts - {"unknown"})
        for hand in hands:
            if hand["verdict"] == "implausible":
                self.violations.update(dict.fromkeys(map(violated_part, hand["violations"]), 1))
            self.fingers_unknown += hand["s_anat"] is not None and hand["fingers"] is None
        scores = [hand["s_anat"] for hand in hands if hand["s_anat"] is not None]
        self.scores += scores
        self._groups["s_anat"].append((sum(scores), len(scores)))
        for mode, field in MODES.items():
            judged = [hand[field] for hand in hands if hand[field] != "unknown"]
            self._groups[mode].append((judged.count("implausible"), len(judged)))

    def rate(self, mode: str) -> dict[str, Any]:
        """Share of implausible hands among those judged, with its Wilson interval; None where none was judged.

        The interval takes hands as independent; those of one picture and of a clip's frames are not.
        """
        return _rate(self.verdicts[mode])

    def picture_rate(self, mode: str) -> dict[str, Any]:
        """As `rate`, of the pictures with an implausible hand among those with a hand judged."""
        return _rate(self.pictures[mode])

    def bootstrap(self, quantity: str, seed: int) -> Float[np.ndarray, " resamples"]:
        """Bootstrap sample, by pictures, of the mean "s_anat" or of a mode's rate; a hand must have been judged."""
        groups = np.array([group for group in self._groups[quantity] if group[1]], np.float64)
        return bootstrap_rates(groups[:, 0], groups[:, 1], seed)

    def mean(self) -> dict[str, Any]:
        """Mean S_anat with its bootstrap interval; None where no hand was judged."""
        if not self.scores:
            return {"mean": None, "low": None, "high": None}
        low, high = percentile_interval(self.bootstrap("s_anat", _SEEDS[0]))
        return {"mean": float(np.mean(self.scores)), "low": low, "high": high}

    def summary(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "set": self.name,
            "title": self.title,
            "pictures": {status: self.statuses[status] for status in STATUSES},
            "found_by": dict(self.found_by),
            "notes": dict(self.notes),
            "hands": self.verdicts["strict"].total(),
            "unknown": self.verdicts["strict"]["unknown"],
            "fingers_unknown": self.fingers_unknown,
            "implausible": {mode: self.rate(mode) for mode in MODES},
            "implausible_pictures": {mode: self.picture_rate(mode) for mode in MODES},
            "s_anat": self.mean(),
            "violations": dict(self.violations.most_common()),
        }


def compare(a: Tally, b: Tally) -> dict[str, Any] | None:
    """How set a differs from set b; None where one of them has no hand judged.

    Of each mode's rate the odds ratio with its exact interval, Fisher's exact test and the difference with its
    bootstrap interval; of S_anat the difference of the means with its bootstrap interval. The bootstrap resamples
    pictures, not hands.

    Source:
      HandAnat sections 4.1 and 4.3.
    """
    if not all(tally.scores and tally.rate("strict")["of"] for tally in (a, b)):
        return None
    comparison: dict[str, Any] = {"a": a.name, "b": b.name}
    for mode in MODES:
        rates = a.rate(mode), b.rate(mode)
        odds = odds_ratio(*(rate[field] for rate in rates for field in ("count", "of")))
        comparison[mode] = {
            "odds_ratio": _number(odds.ratio),
            "odds_low": _number(odds.low),
            "odds_high": _number(odds.high),
            "p_value": odds.p_value,
        } | _difference(rates[0]["share"], rates[1]["share"], mode, a, b)
    return comparison | {"s_anat": _difference(float(np.mean(a.scores)), float(np.mean(b.scores)), "s_anat", a, b)}


def _worst(verdicts: set[str]) -> str:
    return "implausible" if "implausible" in verdicts else "plausible"


def _rate(verdicts: Counter[str]) -> dict[str, Any]:
    count, judged = verdicts["implausible"], verdicts.total() - verdicts["unknown"]
    if not judged:
        return {"count": 0, "of": 0, "share": None, "low": None, "high": None}
    low, high = wilson_interval(count, judged)
    return {"count": count, "of": judged, "share": count / judged, "low": low, "high": high}


def _difference(of_a: float, of_b: float, quantity: str, a: Tally, b: Tally) -> dict[str, float]:
    low, high = percentile_interval(a.bootstrap(quantity, _SEEDS[0]) - b.bootstrap(quantity, _SEEDS[1]))
    return {"difference": of_a - of_b, "low": low, "high": high}


def _number(value: float) -> float | None:
    """JSON knows no infinities."""
    return value if math.isfinite(value) else None

"""Agreement of verdicts with truth, where some verdicts may be withheld."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Sequence


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How well labels that were said agree with true ones.

    Attributes:
      trials: all of them, also those of which nothing was said.
      covered: of how many something was said.
      right: of how many the truth was said.
      kappa: Cohen's, over all trials; what was withheld is a label that is never true. NaN where chance alone agrees.
    """

    trials: int
    covered: int
    right: int
    kappa: float

    @property
    def accuracy(self) -> float:
        """Share of all trials that were said right; a withheld verdict is never right."""
        return self.right / self.trials

    @property
    def coverage(self) -> float:
        """Share of all trials of which something was said."""
        return self.covered / self.trials


def agreement(truth: Sequence[str], said: Sequence[str], withheld: Collection[str] = ("unknown",)) -> Agreement:
    """Compares labels one by one; there must be one.

    Args:
      truth: the true labels, none of them in `withheld`.
      said: as many labels that were said.
      withheld: labels that say nothing, such as "unknown" and "no hand found".

    Source: Cohen 1960, "A coefficient of agreement for nominal scales", equation 1.
    """
    trials = len(truth)
    right = sum(t == s for t, s in zip(truth, said, strict=True))
    true_counts, said_counts = Counter(truth), Counter(said)
    by_chance = sum(true_counts[label] * said_counts[label] for label in true_counts) / trials**2
    kappa = (right / trials - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")
    covered = trials - sum(said_counts[label] for label in withheld)
    return Agreement(trials, covered, right, kappa)

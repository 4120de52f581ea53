"""Two sets compared: do they differ in a rate or a mean, and by how much?"""

import dataclasses

import numpy as np
import scipy.stats
from jaxtyping import Float

from handjax.metrics.intervals import bootstrap_cluster_means
from handjax.metrics.keypoints import mean_over_points

RESAMPLES = 5000
"""Source: HandAnat section 4.3, B."""


@dataclasses.dataclass(frozen=True)
class OddsRatio:
    """How the odds of two sets relate.

    Attributes:
      ratio: conditional maximum-likelihood estimate; 0 or infinite where a set has no event or nothing else, NaN where
        the two together have none or nothing else.
      low: lower bound of its exact 95 % interval.
      high: upper bound.
      p_value: of Fisher's exact test, two-sided.
    """

    ratio: float
    low: float
    high: float
    p_value: float


def odds_ratio(events_a: int, trials_a: int, events_b: int, trials_b: int) -> OddsRatio:
    """Odds of an event in set a over those in set b.

    Args:
      events_a: how many of set a's trials are events.
      trials_a: how many there are.
      events_b: likewise of set b.
      trials_b: likewise.

    Source:
      Fisher 1935, "The logic of inductive inference"; Cornfield 1956, "A statistical problem arising from retrospective
      studies", whose interval conditions on the margins as the test does.
    """
    table = [[events_a, trials_a - events_a], [events_b, trials_b - events_b]]
    p_value = float(scipy.stats.fisher_exact(table).pvalue)
    estimate = scipy.stats.contingency.odds_ratio(table, kind="conditional")
    low, high = estimate.confidence_interval(0.95)
    return OddsRatio(float(estimate.statistic), float(low), float(high), p_value)


def bootstrap_rates(
    sums: Float[np.ndarray, " groups"], counts: Float[np.ndarray, " groups"], seed: int, resamples: int = RESAMPLES
) -> Float[np.ndarray, " resamples"]:
    """Bootstrap sample of Σ sums / Σ counts over groups, such as the hands of one picture, which stay together.

    Args:
      sums: what each group adds to the numerator.
      counts: how many it has; there must be a group. A resample of groups that have none is NaN.
      seed: of the resampling; the same seed gives the same sample.
      resamples: length of the result.

    Source: Davison and Hinkley 1997, "Bootstrap methods and their application", section 3.8.
    """
    rng, groups = np.random.default_rng(seed), len(sums)
    values = np.empty(resamples)
    for i in range(resamples):
        times = np.bincount(rng.integers(groups, size=groups), minlength=groups)
        total = times @ counts
        values[i] = times @ sums / total if total else np.nan
    return values


def percentile_interval(values: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """The middle 95 % of a bootstrap sample."""
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def paired_difference(
    before: Float[np.ndarray, "items columns"], after: Float[np.ndarray, "items columns"], seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Difference of a figure that was measured twice on the same items, with its bootstrap interval (95 %).

    Args:
      before: scores whose mean over items of each column, then over columns, is the figure; NaN is unknown.
      after: likewise, unknown in the same places.
      seed: of the resampling of items, the same ones on both sides.

    Returns:
      The figure after less that before, and the interval's bounds.

    Source: Davison and Hinkley 1997, "Bootstrap methods and their application", section 3.8.
    """
    both = np.concatenate([before, after], axis=1)
    means = bootstrap_cluster_means(np.nan_to_num(both), np.isfinite(both).astype(float), seed)
    sides = [np.nanmean(side, axis=1) for side in np.split(means, 2, axis=1)]
    value = mean_over_points(after, np.isfinite(after)) - mean_over_points(before, np.isfinite(before))
    return value, percentile_interval(sides[1] - sides[0])

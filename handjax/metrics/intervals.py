"""Confidence intervals for the figures the commands report."""

import math

import numpy as np
from jaxtyping import Float

Z_95 = 1.959963984540054


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a proportion; stays inside [0, 1] and is honest at 0 and at all.

    Args:
      successes: how many of the trials succeeded.
      trials: number of trials, at least 1.
      z: normal quantile, 95 % two-sided by default.

    Returns:
      Lower and upper bound.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def bootstrap_mean_interval(
    values: Float[np.ndarray, " n"], seed: int = 0, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval (95 %) of a mean.

    Args:
      values: the sample.
      seed: of the resampling; the same seed gives the same interval.
      resamples: number of bootstrap samples.

    Returns:
      Lower and upper bound.

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (resamples, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def bootstrap_interval(value: float, replicates: Float[np.ndarray, " resamples"]) -> tuple[float, float]:
    """Normal bootstrap interval (95 %) of a figure that is biased by the size of its sample.

    Replicates are biased once more, so only their spread is used: the interval is about what samples of this size give
    on average, not about what an endless one would. A spread needs fewer replicates than quantiles do.

    Args:
      value: the figure.
      replicates: the figure of bootstrap samples.

    Returns:
      Lower and upper bound.

    Source: Davison and Hinkley 1997, "Bootstrap methods and their application", section 5.2.1.
    """
    reach = 1.96 * float(replicates.std(ddof=1))
    return value - reach, value + reach


def bootstrap_cluster_means(
    sums: Float[np.ndarray, "clusters figures"],
    counts: Float[np.ndarray, "clusters figures"],
    seed: int = 0,
    resamples: int = 2000,
) -> Float[np.ndarray, "resamples figures"]:
    """Means of bootstrap samples of whole clusters, such as raters: what one of them gives is not independent.

    All figures of a sample are of the same clusters, so that differences between them can be taken sample by sample.

    Args:
      sums: of the values of each cluster.
      counts: how many values these are.
      seed: of the resampling; the same seed gives the same means.
      resamples: number of bootstrap samples.

    Returns:
      The means; NaN where no cluster of a sample has a value of the figure.

    Source: Davison and Hinkley 1997, "Bootstrap methods and their application", section 3.8.
    """
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), resamples)
    with np.errstate(invalid="ignore"):
        return (times @ sums) / (times @ counts)

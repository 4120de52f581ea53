"""Kernel distance between two sets of features: the unbiased squared maximum mean discrepancy.

Source: Gretton et al. 2012, "A kernel two-sample test", lemma 6; with this kernel on features of a network,
Bińkowski et al. 2018, "Demystifying MMD GANs", section 4.
"""

import numpy as np
from jaxtyping import Float

from handjax.errors import InputError

DEGREE = 3
SUBSETS, SUBSET_SIZE = 100, 1000
# Rows of a kernel matrix in memory at a time.
BLOCK = 1000


def polynomial_kernel(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Returns `(x·y/d + 1)³` of all pairs."""
    return (x @ y.T / x.shape[1] + 1) ** DEGREE


def kernel_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Unbiased MMD² of two sets; around 0, also below, where they are of one distribution.

    Raises:
        InputError: fewer than two features in a set.
    """
    fewest = min(len(x), len(y))
    if fewest < 2:
        raise InputError(f"a set of {fewest} pictures has no kernel distance; give at least 2")
    x, y = x.astype(np.float64), y.astype(np.float64)
    return float(_mean_of_pairs(x) + _mean_of_pairs(y) - 2 * polynomial_kernel(x, y).mean())


def kernel_distance_of_subsets(
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "m d"],
    seed: int,
    subsets: int = SUBSETS,
    size: int = SUBSET_SIZE,
) -> float:
    """Mean kernel distance of random subsets, as KID is defined.

    Args:
        x: features of a set.
        y: features of the other.
        seed: of the choice.
        subsets: how many pairs of subsets.
        size: features in a subset, as many as there are in the smaller set at most.

    Raises:
        InputError: fewer than two features in a set.
    """
    size = min(size, len(x), len(y))
    if size == len(x) == len(y):
        return kernel_distance(x, y)
    rng = np.random.default_rng(seed)
    distances = [
        kernel_distance(rng.choice(x, size, replace=False), rng.choice(y, size, replace=False)) for _ in range(subsets)
    ]
    return float(np.mean(distances))


def kernel_replicates(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], seed: int, resamples: int
) -> Float[np.ndarray, " resamples"]:
    """Kernel distance between bootstrap samples of two whole sets of at least two features.

    A feature that was drawn twice makes no pair with itself, which would look like a second picture just like it.

    Args:
        x: features of a set.
        y: features of the other.
        seed: of the resampling.
        resamples: number of replicates.
    """
    rng = np.random.default_rng(seed)
    x, y = x.astype(np.float64), y.astype(np.float64)
    of_x, of_y = (rng.multinomial(len(z), np.full(len(z), 1 / len(z)), resamples).astype(np.float64) for z in (x, y))
    between = _weighted_sum(x, of_x, y, of_y) / (len(x) * len(y))
    return _weighted_mean_of_pairs(x, of_x) + _weighted_mean_of_pairs(y, of_y) - 2 * between


def _mean_of_pairs(x: Float[np.ndarray, "n d"]) -> float:
    kernel = polynomial_kernel(x, x)
    return (kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1))


def _weighted_mean_of_pairs(x, times):
    with_itself = times**2 @ (np.sum(x * x, axis=1) / x.shape[1] + 1) ** DEGREE
    return (_weighted_sum(x, times, x, times) - with_itself) / (len(x) ** 2 - np.sum(times**2, axis=1))


def _weighted_sum(x, of_x, y, of_y):
    """Sum over all pairs of the kernel times both weights, for each row of weights."""
    total = np.zeros(len(of_x))
    for start in range(0, len(x), BLOCK):
        rows = slice(start, start + BLOCK)
        total += np.sum(of_x[:, rows] * (of_y @ polynomial_kernel(x[rows], y).T), axis=1)
    return total

"""Fréchet distance between two sets of features: as far apart as normal distributions of their means and covariances.

Source: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions"; on features of a
network, Heusel et al. 2017, "GANs trained by a two time-scale update rule", equation 6.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import lapack

from handjax.errors import InputError


@dataclass(frozen=True)
class Moments:
    """Number, mean and scatter (sum of outer products about the mean) of features, float64.

    Those of parts of a set, from several batches or machines, merge to those of the whole.
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"]) -> "Moments":
        """Moments of at least one row of features."""
        features = features.astype(np.float64)
        mean = features.mean(axis=0)
        centred = features - mean
        return cls(len(features), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both sets together.

        Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample
        variances", equation 2.1.
        """
        count = self.count + other.count
        step = other.mean - self.mean
        between = np.outer(step, step) * (self.count * other.count / count)
        return Moments(count, self.mean + step * (other.count / count), self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Unbiased covariance.

        Raises:
            InputError: fewer than two rows have none.
        """
        if self.count < 2:
            raise InputError(f"a set of {self.count} pictures has no covariance; give at least 2")
        return self.scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Returns `|μa - μb|² + tr(Σa + Σb - 2 (Σa Σb)^½)`; it is biased upwards, the more so the fewer the pictures.

    Raises:
        InputError: fewer than two features in a set.
    """
    return _distance(a.mean, _root_of(a.covariance), b.mean, _root_of(b.covariance))


def frechet_replicates(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], seed: int, resamples: int
) -> Iterator[float]:
    """Yields the distance between bootstrap samples of two sets of at least two features.

    Args:
        x: features of a set.
        y: features of the other.
        seed: of the resampling.
        resamples: number of replicates.
    """
    rng = np.random.default_rng(seed)
    x, y = x.astype(np.float64), y.astype(np.float64)
    for _ in range(resamples):
        yield _distance(*_resampled(x, rng), *_resampled(y, rng))


def _distance(mean_a, root_a, mean_b, root_b) -> float:
    """The distance by roots R of the covariances Σ = R Rᵀ.

    `Σa Σb` has the eigenvalues of `M Mᵀ`, M = Raᵀ Rb, and zeros, so that the trace of its root is the sum of M's
    singular values: exact where the covariances are singular, which the root of their product is not.
    """
    step = mean_a - mean_b
    shared = np.linalg.svd(root_a.T @ root_b, compute_uv=False).sum()
    return float(step @ step + np.sum(root_a**2) + np.sum(root_b**2) - 2 * shared)


def _root_of(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d rank"]:
    """Cholesky's root with pivots, which takes a small part of the time of a decomposition into eigenvectors.

    It leaves out what has no variance, such as a feature that is 0 in every picture: what rounding leaves of that would
    weigh much more as a root.
    """
    factor, pivots, rank, _ = lapack.dpstrf(covariance, lower=1)
    root = np.empty((len(covariance), rank))
    root[pivots - 1] = np.tril(factor)[:, :rank]
    return root


def _resampled(
    features: Float[np.ndarray, "n d"], rng: np.random.Generator
) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d rank"]]:
    """Mean and root of the covariance of a sample with replacement; no covariance is formed where rows are few.

    Where they are many, the root of their covariance takes a small part of the time of a QR decomposition of the rows.
    """
    count, size = features.shape
    times = rng.multinomial(count, np.full(count, 1 / count))
    drawn, times = features[times > 0], times[times > 0]
    mean = times @ drawn / count
    rows = (drawn - mean) * np.sqrt(times / (count - 1))[:, None]
    return mean, rows.T if len(rows) <= size else _root_of(rows.T @ rows)

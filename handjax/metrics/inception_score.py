"""Inception score: how surely a classifier names single pictures, and how evenly it names all of them."""

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax

from handjax.errors import InputError

SPLITS, SEED = 10, 2020
"""torch-fidelity's."""


def inception_score(
    logits: Float[np.ndarray, "n classes"], splits: int = SPLITS, seed: int = SEED
) -> tuple[float, float]:
    """Exponent of the mean divergence of a picture's classes from those of its part of the set.

    Args:
        logits: of the classes, without the classifier's bias.
        splits: parts of the set, drawn at random.
        seed: of the draw, NumPy's legacy generator as torch-fidelity takes it.

    Returns:
        Mean over the parts, and their standard deviation.

    Raises:
        InputError: fewer pictures than parts.

    Source: Salimans et al. 2016, "Improved techniques for training GANs", section 4.
    """
    if len(logits) < splits:
        raise InputError(
            f"a set of {len(logits)} pictures has no Inception score of {splits} parts; give at least as many"
        )
    order = np.random.RandomState(seed).permutation(len(logits))
    log_p = log_softmax(logits[order].astype(np.float64), axis=1)
    bounds = np.arange(splits + 1) * len(logits) // splits
    scores = [_score(log_p[start:end]) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(log_p: Float[np.ndarray, "n classes"]) -> float:
    p = np.exp(log_p)
    return float(np.exp(np.sum(p * (log_p - np.log(p.mean(axis=0))), axis=1).mean()))

"""Are probabilities as often right as they say?"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 10


@dataclasses.dataclass(frozen=True)
class ReliabilityCurve:
    """Predictions sorted into equal bins of [0, 1] by their probability.

    Attributes:
      counts: how many predictions a bin holds.
      confidence: their mean probability; NaN where there is none.
      frequency: the share of them that came true; NaN where there is none.
    """

    counts: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    frequency: Float[np.ndarray, " bins"]

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of confidence and frequency over all predictions.

        Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3.
        """
        held = self.counts > 0
        gaps = np.abs(self.confidence - self.frequency)[held]
        return float(gaps @ self.counts[held] / self.counts.sum())


def reliability_curve(
    probabilities: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"], bins: int = BINS
) -> ReliabilityCurve:
    """How often what was said with some probability came true; there must be a prediction.

    Args:
      probabilities: said of an event, in [0, 1].
      truth: whether it came true.
      bins: how many there are; each holds its lower edge, the last both.

    Source: Niculescu-Mizil and Caruana 2005, "Predicting good probabilities with supervised learning", section 4.
    """
    bin_of = np.minimum((probabilities * bins).astype(int), bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bin_of, probabilities, minlength=bins) / counts
        frequency = np.bincount(bin_of, truth, minlength=bins) / counts
    return ReliabilityCurve(counts, confidence, frequency)


def top_confidence(
    probabilities: Float[np.ndarray, "n classes"], truth: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Confidence of each prediction, the probability of its likeliest class, and whether that class is the true one.

    Args:
      probabilities: of each class; rows sum to 1.
      truth: number of the true class.

    Returns:
      What `reliability_curve` takes.
    """
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == truth

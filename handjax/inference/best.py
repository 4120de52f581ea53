"""Of several pictures of one wish, which to keep: the one whose hands are the most plausible."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from handjax.anatomy.scores import THRESHOLD, Verdict
from handjax.errors import ConfigError
from handjax.inference.score import FingerCounter, HandScore, score_hand
from handjax.perception import HandDetector

Rank = Callable[[UInt8[np.ndarray, "height width 3"]], float]
"""rank(picture): greater is better. It should know nothing of how the picture was made."""

VERDICT_RANKS: dict[Verdict, float] = {"plausible": 3.0, "unknown": 2.0, "implausible": 1.0}
"""A hand of which nothing bad is known goes before one that is known to be bad."""

UNKNOWN_S_ANAT = THRESHOLD
"""What a hand whose keypoints tell nothing is taken to have: neither a good hand's nor a bad one's."""


def rank_hands(scores: Sequence[HandScore]) -> float:
    """Ranks a picture by the scores of its hands, the worst of which decides.

    Returns:
        From 3 to 4 where all hands are plausible, from 2 to 3 where one could not be judged and none is implausible,
        from 1 to 2 where one is implausible, and inside these by S_anat (`UNKNOWN_S_ANAT` without) times the
        probability that the hand looks normal, if somebody looked; 0 without hands.
    """
    return min((VERDICT_RANKS[score.anatomy.verdict] + _merit(score) for score in scores), default=0.0)


def anatomy_rank(detector: HandDetector, counter: FingerCounter) -> Rank:
    """Ranks pictures by the anatomy of the hands that a detector finds in them and a counter looks at."""

    def rank(picture: UInt8[np.ndarray, "height width 3"]) -> float:
        return rank_hands([score_hand(picture, hand, counter) for hand in detector.detect(picture)])

    return rank


def _merit(score: HandScore) -> float:
    if score.count and "normal" not in score.count.probabilities:
        classes = ", ".join(score.count.probabilities) or "none"
        raise ConfigError(f"the finger counter has no class 'normal' to rank by (its classes: {classes}); add one")
    s_anat = UNKNOWN_S_ANAT if score.anatomy.s_anat is None else score.anatomy.s_anat
    return s_anat * (score.count.probabilities["normal"] if score.count else 1.0)


def best_of(pictures: Sequence[UInt8[np.ndarray, "height width 3"]], rank: Rank) -> tuple[int, list[float]]:
    """The number of the best picture, the first of equals, and the ranks of all."""
    ranks = [rank(picture) for picture in pictures]
    return int(np.argmax(ranks)), ranks

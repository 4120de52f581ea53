"""Of several pictures of one wish, which to keep: the one whose hands are the most plausible."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import UInt8

from handjax.anatomy.scores import AnatomyScore, Verdict
from handjax.inference.score import score_hand
from handjax.perception import HandDetector

Rank = Callable[[UInt8[np.ndarray, "height width 3"]], float]
"""rank(picture): greater is better. It should know nothing of how the picture was made."""

VERDICT_RANKS: dict[Verdict, float] = {"plausible": 2.0, "implausible": 1.0, "unknown": 0.5}


def rank_hands(scores: Sequence[AnatomyScore]) -> float:
    """Ranks a picture by the scores of its hands, the worst of which decides.

    Returns:
        From 2 to 3 where all hands are plausible, from 1 to 2 where one is implausible, and inside these by S_anat;
        0.5 where one could not be judged, 0 without hands.
    """
    return min((VERDICT_RANKS[score.verdict] + (score.s_anat or 0.0) for score in scores), default=0.0)


def anatomy_rank(detector: HandDetector) -> Rank:
    """Ranks pictures by the anatomy of the hands that a detector finds in them."""

    def rank(picture: UInt8[np.ndarray, "height width 3"]) -> float:
        return rank_hands([score_hand(picture, hand).anatomy for hand in detector.detect(picture)])

    return rank


def best_of(pictures: Sequence[UInt8[np.ndarray, "height width 3"]], rank: Rank) -> tuple[int, list[float]]:
    """The number of the best picture, the first of equals, and the ranks of all."""
    ranks = [rank(picture) for picture in pictures]
    return int(np.argmax(ranks)), ranks

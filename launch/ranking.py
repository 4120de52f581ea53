"""The rank by which candidates are chosen: one place to change when another judge is to decide."""

from handjax.inference.best import Rank, rank_hands
from handjax.perception import HandDetector
from launch.score import score_hand


def anatomy_rank(detector: HandDetector) -> Rank:
    """Ranks pictures by the anatomy of the hands that a detector finds in them."""
    return lambda picture: rank_hands([score_hand(hand) for hand in detector.detect(picture)])

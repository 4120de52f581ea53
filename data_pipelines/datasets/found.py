"""Hands that a data set does not annotate, as the hand detector finds or reads them."""

from functools import cache

from data_pipelines.datasets.annotation import HandAnnotation, with_confidence
from handjax.perception import DetectedHand, HandDetector
from handjax.record import Side


@cache
def hand_detector() -> HandDetector:
    """The one detector of a process."""
    return HandDetector.load()


def found_hand(hand: DetectedHand, side: Side | None = None, caption: str | None = None) -> HandAnnotation:
    """Annotation by the landmark network, also in space; side and caption are the data set's, where it has them."""
    return HandAnnotation(
        keypoints_2d=with_confidence(hand.keypoints[:, :2]),
        side=side or hand.side,
        keypoints_3d=with_confidence(hand.world),
        caption=caption,
    )

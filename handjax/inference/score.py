"""A hand's anatomy, judged from what the detector and, where there is one, a finger counter say of it."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import UInt8

from handjax.anatomy.features import hand_frame_is_defined, measure, projection_misfit
from handjax.anatomy.head import KINDS, HandHead, Kind
from handjax.anatomy.limits import LANDMARK_TOLERANCE, MOST_MISFIT
from handjax.anatomy.outline import Outline, read_outline
from handjax.anatomy.scores import FINGER_COUNT, UNKNOWN, AnatomyScore, joined, judge, looks
from handjax.anatomy.sides import side_doubt, side_of_keypoints
from handjax.conditions.crops import crop_image, hand_box, hand_in_crop
from handjax.hand.topology import FINGERS
from handjax.perception import DetectedHand

SURE_OF_SIDE = 0.9
BORDER_MARGIN = 0.01
"""Of the picture's shorter side: keypoints closer to its edge touch the border, those outside are guesses."""
TINY_SIDE = 24.0
"""Pixels of a box's longer side, below which the detector hardly sees a hand."""

OUTLINE_SIDE = 160
LEAST_CERTAINTY, LEAST_SUPPORT = 0.9, 0.6
"""An outline less certain says nothing; keypoints of a finger of which less lies on the hand are not a finger's.

Of 172 Sign Language Digits photographs all outlines were more certain, and in 3 a finger had less support: each time
the detector had put it where there was none. `launch.bench anatomy` prints the share of those that no test set is made
of: it is as small.
"""

SURELY_NORMAL = 0.4
"""Probability of being malformed below which the head's word goes before that of keypoints.

Keypoints of 35 of 145 normal rendered hands broke a limit of motion or length, and those of 27 contradicted the
picture: the detector errs more often there than the head.
"""

TOUCHES_BORDER, TINY, LOW_CONFIDENCE = "touches the border", "tiny hand", "low confidence"
OFF_THE_HAND, LOOKS_NORMAL = "keypoints off the hand", "looks normal"


@dataclasses.dataclass(frozen=True)
class FingerCount:
    """What somebody sees in the picture of a hand.

    Attributes:
      fingers: how many; None where that is not known.
      probabilities: of each class that the counter tells apart, by its name.
      complaints: what looks wrong, in words; such a hand is implausible.
      normal: whether it surely looks normal; keypoints that say otherwise are then taken for mistaken.
    """

    fingers: int | None
    probabilities: Mapping[str, float]
    complaints: tuple[str, ...] = ()
    normal: bool = False


FingerCounter = Callable[[UInt8[np.ndarray, "height width 3"], DetectedHand], FingerCount]


WORDS: dict[Kind, str] = {
    "count": "wrong number of fingers",
    "angle": "impossible angle",
    "proportion": "wrong proportions",
    "fused": "fused fingers",
}


@dataclasses.dataclass(frozen=True)
class HeadCounter:
    """Has the learned head look at hands; a `FingerCounter`."""

    head: HandHead

    def __call__(self, image: UInt8[np.ndarray, "height width 3"], hand: DetectedHand) -> FingerCount:
        reading = self.head(image, [hand])[0]
        probabilities: dict[str, float] = {
            kind: round(float(value), 4) for kind, value in zip(KINDS, reading.kinds, strict=True)
        }
        wrong = reading.malformed >= self.head.threshold
        complaints = (looks(WORDS[reading.worst], reading.malformed),) if wrong else ()
        return FingerCount(reading.fingers, probabilities, complaints, reading.malformed < SURELY_NORMAL)


@dataclasses.dataclass(frozen=True)
class HandScore:
    """What is said of one hand of a picture.

    Attributes:
      hand: as the detector found it.
      anatomy: score, verdict and reasons.
      count: of its fingers; None where nobody counted.
      outline: its silhouette; None where it cannot be seen for sure.
      notes: what makes the verdict less sure, of `TOUCHES_BORDER`, `TINY`, `LOW_CONFIDENCE` and `OFF_THE_HAND`;
        `LOOKS_NORMAL` where the counter has overruled the keypoints; words where these show the other side.
    """

    hand: DetectedHand
    anatomy: AnatomyScore
    count: FingerCount | None
    outline: Outline | None
    notes: tuple[str, ...]


_measure = jax.jit(measure)


def score_hand(
    image: UInt8[np.ndarray, "height width 3"],
    hand: DetectedHand,
    counter: FingerCounter | None = None,
    tolerance: float = LANDMARK_TOLERANCE,
) -> HandScore:
    """Scores a hand that was found.

    The anatomy is unknown where the detector's keypoints in space contradict those in the picture, or a finger's lie
    off the hand, unless the counter tells that something is wrong or that surely nothing is. Where the detector is not
    sure which hand it is, the hand counts as the one that has fewer violations: taken for the other, it is bent
    backwards in every joint. Where the counter overrules the keypoints, S_anat and violations stay what they say.

    Args:
      image: the picture.
      hand: in it.
      counter: counts fingers without assuming five; without it their number is unknown.
      tolerance: by how much angles may lie outside their limits, radians.

    Source:
      DECISIONS E2.
    """
    notes = _notes(image, hand)
    count = counter(image, hand) if counter else None
    outline = None if TOUCHES_BORDER in notes or TINY in notes else _outline(image, hand)
    fingers, complaints = (count.fingers, count.complaints) if count else (None, ())
    if outline and outline.support.min() < LEAST_SUPPORT:
        notes.append(OFF_THE_HAND)
        anatomy = dataclasses.replace(UNKNOWN, fingers=fingers)
    else:
        anatomy = _judge(hand, fingers, tolerance)
        complaints += _webs(outline) if outline else ()
    if complaints:
        anatomy = dataclasses.replace(anatomy, verdict="implausible", violations=complaints + anatomy.violations)
    elif count and count.normal and fingers in (None, FINGER_COUNT) and anatomy.verdict != "plausible":
        anatomy = dataclasses.replace(anatomy, verdict="plausible")
        notes.append(LOOKS_NORMAL)
    return HandScore(hand, anatomy, count, outline, tuple(notes))


def _outline(image: UInt8[np.ndarray, "height width 3"], hand: DetectedHand) -> Outline | None:
    box = hand_box(hand.keypoints)
    crop = crop_image(image, box, OUTLINE_SIDE)
    outline = read_outline(crop, hand_in_crop(hand, box, OUTLINE_SIDE).keypoints)
    return outline if outline.certainty >= LEAST_CERTAINTY else None


def _webs(outline: Outline) -> tuple[str, ...]:
    """Neighbours that are joined, but for the thumb and the index finger, between which everybody has a web."""
    pairs = zip(FINGERS[1:-1], FINGERS[2:], outline.webbing[1:], strict=True)
    return tuple(joined(one, other) for one, other, web in pairs if web)


def _judge(hand: DetectedHand, fingers: int | None, tolerance: float) -> AnatomyScore:
    if not hand_frame_is_defined(hand.world) or projection_misfit(hand.world, hand.keypoints) > MOST_MISFIT:
        return dataclasses.replace(UNKNOWN, fingers=fingers)
    side = hand.side == "right"
    sides = [side] if hand.score >= SURE_OF_SIDE else [side, not side]
    scores = [judge(jax.device_get(_measure(hand.world, np.array(right))), fingers, tolerance) for right in sides]
    return min(scores, key=lambda score: len(score.violations))


def _notes(image: UInt8[np.ndarray, "height width 3"], hand: DetectedHand) -> list[str]:
    limits = np.array(image.shape[1::-1])
    margin = BORDER_MARGIN * limits.min()
    notes = []
    if (hand.box[:2] < margin).any() or (hand.box[2:] > limits - margin).any():
        notes.append(TOUCHES_BORDER)
    if (hand.box[2:] - hand.box[:2]).max() < TINY_SIDE:
        notes.append(TINY)
    if hand.score < SURE_OF_SIDE:
        notes.append(LOW_CONFIDENCE)
    doubt = side_doubt(hand.side, side_of_keypoints(hand.world))
    return [*notes, doubt] if doubt else notes

"""The three steps without a model: what perception finds and the given caption says, by fixed rules."""

import json
import re

import numpy as np

from handjax.captioning.failures import NoHand
from handjax.captioning.hand_phrases import describe_direction, describe_fingers, facing_side
from handjax.captioning.picture import Picture
from handjax.captioning.refinement import Refinement, compose
from handjax.hand.describe import describe_hand, with_article
from handjax.perception import DetectedHand

CLOSE_UP = 0.4
"""Share of the picture's shorter side that a hand's longer one takes in a close-up."""
NEAR = 0.15
"""Distance between the keypoints of two hands over the smaller one's size, below which they touch or overlap."""
PLAIN, PLAIN_SHARE = 40, 0.75
"""A background is plain where this share of its pixels is within so many grey levels of the median in each channel."""
_LIGHT, _DARK = 150, 70
_LEAST_BACKGROUND = 0.1
_NUMBERS = {1: "one hand", 2: "two hands", 3: "three hands", 4: "four hands"}
_PLACES = (
    r"alley|backyard|bar|bathroom|beach|bedroom|bench|building|bus|cafe|car|church|city|classroom|couch|counter|desk|"
    r"field|floor|forest|garden|gym|hall|home|hospital|house|kitchen|lab|laboratory|lake|lawn|library|market|mountain|"
    r"office|park|pavement|platform|playground|pool|porch|restaurant|river|road|room|school|shop|sidewalk|snow|sofa|"
    r"stadium|stage|stairs|station|store|street|studio|table|train|wall|water|window|woods|workshop|yard"
)
_ADVERBS = r"indoors?|outdoors?|outside|inside"
# A place: "in a park", "at the kitchen table"; or an adverb that ends the caption.
_PLACE = re.compile(
    rf"[\s,]+((?:in front of|in|inside|on|at|near|by|beside|against|before|behind|under)\s+"
    rf"(?:(?:an?|the|his|her|their|its)\s+)?(?:[\w-]+\s+){{0,2}}?(?:{_PLACES})\b"
    rf"(?:\s+(?:at|by|in|of)\s[^,.;]*)?|(?:{_ADVERBS}))\W*$",
    re.IGNORECASE,
)


def plain_caption(picture: Picture) -> str:
    """The caption without refinement: the given one, or what `launch.precompute` says of the largest hand; or ""."""
    if picture.given or not picture.hands:
        return picture.given
    hand = max(picture.hands, key=_size)
    return f"a photo of {with_article(describe_hand(hand.world, hand.side))}"


def extract(picture: Picture, description: str) -> str:
    """Tells the four fields, as JSON, from the hands that are found and the given caption.

    Args:
      picture: its hands are looked for; `given` is parted into what is done and where.
      description: not needed, for what a rule could take from it is in the picture.

    Raises:
      NoHand: none is found.
    """
    if not picture.hands:
        raise NoHand("no hand found")
    done, place = _part(picture.given)
    fields = {
        "human_pose": _pose(picture),
        "action": done,
        "hand_action": _hand_action(picture.hands),
        "environment": place or _background(picture),
    }
    return json.dumps(fields)


def rule_refinement() -> Refinement:
    """The three steps by rules."""
    return Refinement(plain_caption, extract, compose, plain_caption)


def _size(hand: DetectedHand) -> float:
    return float(max(hand.box[2:] - hand.box[:2]))


def _pose(picture: Picture) -> str:
    hands = picture.hands
    number = _NUMBERS.get(len(hands), "many hands")
    close = max(map(_size, hands)) >= CLOSE_UP * min(picture.image.shape[:2])
    directions = {describe_direction(hand) for hand in hands}
    direction = directions.pop() if len(directions) == 1 else None
    held = "" if direction is None else " pointing downward" if direction == "downward" else f" held {direction}"
    return f"{'a close-up of ' if close else ''}{number}{held}"


def _hand_action(hands: list[DetectedHand]) -> str:
    """The hand, or the two largest, without palms and backs: more is not read (`MOST_WORDS`)."""
    if len(hands) == 1:
        facing = {"palm": ", palm to the camera", "back": ", its back to the camera", None: ""}[facing_side(hands[0])]
        return describe_fingers(hands[0]) + facing
    smallest = sorted(map(_size, hands))[-2]
    told = [hand for hand in hands if _size(hand) >= smallest][:2]
    one, other = map(describe_fingers, told)
    said = f"each {one}" if one == other else f"{one}; {other}"
    if len(hands) > 2:
        return said
    return f"{said}; {'the hands touch or overlap' if _near(*told) else 'the hands are apart'}"


def _near(one: DetectedHand, other: DetectedHand) -> bool:
    gaps = np.linalg.norm(one.keypoints[:, None, :2] - other.keypoints[None, :, :2], axis=-1)
    return float(gaps.min()) < NEAR * min(_size(one), _size(other))


def _part(given: str) -> tuple[str, str]:
    """Parts a caption into what is done and where."""
    caption = given.strip().rstrip(".")
    place = _PLACE.search(caption)
    return (caption[: place.start()].rstrip(" ,"), place[1].strip()) if place else (caption, "")


def _background(picture: Picture) -> str:
    """Says of what is around the hands that it is plain, where it is."""
    height, width = picture.image.shape[:2]
    outside = np.ones((height, width), bool)
    for hand in picture.hands:
        margin = 0.1 * _size(hand)
        x0, y0 = np.maximum(hand.box[:2] - margin, 0).astype(int)
        x1, y1 = np.maximum(hand.box[2:] + margin, 0).astype(int)
        outside[y0:y1, x0:x1] = False
    pixels = picture.image[outside].astype(int)
    if len(pixels) < _LEAST_BACKGROUND * outside.size:
        return ""
    median = np.median(pixels, axis=0)
    if (abs(pixels - median) <= PLAIN).all(axis=1).mean() < PLAIN_SHARE:
        return ""
    tone = "light " if median.mean() > _LIGHT else "dark " if median.mean() < _DARK else ""
    return f"a plain {tone}background"

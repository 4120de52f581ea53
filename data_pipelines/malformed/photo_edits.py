"""Every edit of a photographed hand, drawn at random; a normal hand is redrawn as it is by the same strokes."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter

from data_pipelines.malformed.edits import Edit
from data_pipelines.malformed.photo_hand import CANVAS, POINTS, PhotoHand, fill, grown
from data_pipelines.malformed.strokes import (
    Stroke,
    bent,
    draw,
    moved,
    over,
    own_stroke,
    place,
    shortcut,
    stretched,
    widened,
    without,
)

LEAST_BEND, MOST_BEND = np.radians([38.0, 70.0])
_WIDE_GAP = np.radians(15.0)
_UNDER = 0
"""Copies begin at the knuckle, below the hand that is laid over them."""


@dataclasses.dataclass(frozen=True)
class Edited:
    """An edited canvas.

    Attributes:
      image: colours from 0 to 255.
      fingers: that are not as they should be, thumb 0.
      added: number of fingers added, below 0 taken away.
      reach: points that the picture must hold besides the hand's own keypoints.
    """

    image: Float[np.ndarray, "size size 3"]
    fingers: tuple[int, ...]
    added: int
    reach: Float[np.ndarray, "points 2"]


def edits_for(hand: PhotoHand) -> tuple[str, ...]:
    """Names the edits that a hand's free fingers allow; none where not even a normal hand could be redrawn."""
    if not hand.free[1:].any():
        return ()
    names = [
        "none",
        "sideways",
        "zigzag",
        "long_finger",
        "short_finger",
        "thin_finger",
        "thick_finger",
        "missing_joint",
    ]
    if len(_pairs(hand)) >= 1:
        names.append("fused_fingers")
    if len(_pairs(hand)) >= 2 and _rows(hand, 3):
        names.append("three_fused_fingers")
    if all(hand.free):
        names += ["extra_finger", "missing_finger", "second_thumb", "forked_finger"]
    return tuple(names)


def edit_photo(rng: np.random.Generator, hand: PhotoHand, edit: Edit) -> Edited:
    """Makes an edit, one of `edits_for` the hand, of fingers drawn at random."""
    return _EDITS[edit.name](rng, hand)


def web(hand: PhotoHand, finger: int) -> int:
    """Point of a finger's course at which it leaves the palm."""
    return place(hand, finger, 1, 0.1) if finger == 0 else place(hand, finger, 0, 0.45)


def _some(rng: np.random.Generator, hand: PhotoHand, most: int = 2, low: int = 0) -> list[int]:
    """Draws up to `most` free fingers from finger `low` on."""
    free = low + np.flatnonzero(hand.free[low:])
    count = min(int(rng.integers(1, most + 1)), len(free))
    return [int(finger) for finger in rng.choice(free, count, replace=False)]


def _redrawn(hand: PhotoHand, strokes: Sequence[Stroke], image: np.ndarray | None = None) -> np.ndarray:
    """Takes the fingers of some strokes away and draws the strokes."""
    image = hand.image if image is None else image
    for finger in dict.fromkeys(stroke.finger for stroke in strokes):
        image = without(hand, image, finger, web(hand, finger))
    for stroke in strokes:
        image = over(image, *draw(hand, stroke, web(hand, stroke.finger) - 4))
    return image


def _beneath(hand: PhotoHand, strokes: Sequence[Stroke]) -> np.ndarray:
    """Draws strokes beneath the hand."""
    image = hand.plate + (hand.image - hand.plate) * (1 - hand.skin[..., None])
    for stroke in strokes:
        image = over(image, *draw(hand, stroke, _UNDER))
    return over(image, hand.image, hand.skin)


def _strokes(change: Callable[[np.random.Generator, PhotoHand, int], Sequence[Stroke]], most: int = 2, low: int = 0):
    """Makes an edit of what changes one finger."""

    def edit(rng: np.random.Generator, hand: PhotoHand) -> Edited:
        fingers = _some(rng, hand, most, low)
        strokes = [stroke for finger in fingers for stroke in change(rng, hand, finger)]
        reach = np.concatenate([stroke.course for stroke in strokes])
        return Edited(_redrawn(hand, strokes), tuple(sorted(fingers)), 0, reach)

    return edit


def _sideways(rng, hand: PhotoHand, finger: int) -> list[Stroke]:
    joint = int(rng.choice([1, 2]))
    return [bent(own_stroke(hand, finger), place(hand, finger, joint), _sign(rng) * rng.uniform(LEAST_BEND, MOST_BEND))]


def _zigzag(rng, hand: PhotoHand, finger: int) -> list[Stroke]:
    angle = _sign(rng) * rng.uniform(LEAST_BEND, MOST_BEND)
    first = bent(own_stroke(hand, finger), place(hand, finger, 1), angle)
    return [bent(first, place(hand, finger, 2, 0.2), -angle * rng.uniform(1.2, 1.7))]


def _scaled(low: float, high: float):
    def scale(rng, hand: PhotoHand, finger: int) -> list[Stroke]:
        start = web(hand, finger)
        # the part within the palm keeps its length
        factor = 1 + (rng.uniform(low, high) - 1) * (POINTS - 1) / (POINTS - 1 - start)
        return [stretched(own_stroke(hand, finger), start, max(factor, 0.3))]

    return scale


def _widened(low: float, high: float):
    return lambda rng, hand, finger: [widened(own_stroke(hand, finger), web(hand, finger) + 5, rng.uniform(low, high))]


def _missing_joint(rng, hand: PhotoHand, finger: int) -> list[Stroke]:
    first, last = place(hand, finger, 1, 0.1), place(hand, finger, 2, 0.1)
    return [shortcut(own_stroke(hand, finger), first, last)]


def _forked(rng, hand: PhotoHand, finger: int) -> list[Stroke]:
    at, apart = place(hand, finger, 1), rng.uniform(0.26, 0.45)
    stroke = widened(own_stroke(hand, finger), at + 4, 0.88)
    return [bent(stroke, at, -apart), bent(stroke, at, apart)]


def _forked_finger(rng, hand: PhotoHand) -> Edited:
    return dataclasses.replace(_strokes(_forked, most=1)(rng, hand), added=0)


def _none(rng, hand: PhotoHand) -> Edited:
    """Redraws fingers where they are, lays the hand over a copy of a finger in its own place, or fills a patch."""
    way = rng.choice(["redraw", "beneath", "patch"], p=[0.6, 0.2, 0.2])
    fingers = _some(rng, hand, 3)
    strokes = [own_stroke(hand, finger) for finger in fingers]
    if way == "redraw":
        strokes = [widened(stroke, web(hand, stroke.finger), rng.uniform(0.94, 1.06)) for stroke in strokes]
        image = _redrawn(hand, strokes)
    elif way == "beneath":
        image = _beneath(hand, strokes)
    else:
        middle = hand.keypoints[[0, 5, 17]].T @ rng.dirichlet([3, 3, 3])
        along = hand.keypoints[9] - hand.keypoints[0]
        along = along / np.linalg.norm(along) * hand.half_width * rng.uniform(0.8, 2.0)
        across = along[::-1] * [-1, 1] / np.linalg.norm(along) * hand.half_width * rng.uniform(0.2, 0.6)
        corners = [middle - along - across, middle + along - across, middle + along + across, middle - along + across]
        image = _patched(hand.image, hand.skin, np.array(corners))
    return Edited(image, (), 0, hand.keypoints)


def _extra_finger(rng, hand: PhotoHand) -> Edited:
    count = 1 + int(rng.random() < 0.25)
    places = [(0, 1)] + [(4, 5)] + [pair for pair in _pairs(hand) if _gap(hand, *pair) > _WIDE_GAP]
    chosen = rng.choice(len(places), min(count, len(places)), replace=False)
    strokes = [_between(rng, hand, *places[number]) for number in chosen]
    return Edited(_beneath(hand, strokes), (), len(strokes), np.concatenate([stroke.course for stroke in strokes]))


def _between(rng, hand: PhotoHand, low: int, high: int) -> Stroke:
    """A copy of a finger between two neighbours, or beyond the little finger where the higher one is 5."""
    if high == 5:
        finger, outward = 4, _direction(hand, 4) - _direction(hand, 3)
        out = hand.courses[4][0] - hand.courses[3][0]
        down = hand.keypoints[0] - hand.courses[4][0]
        shift = rng.uniform(0.2, 0.5) * out + rng.uniform(0.05, 0.2) * down
        angle = np.sign(_wrap(outward)) * rng.uniform(0.3, 0.5)
    else:
        finger = 1 if low == 0 else int(rng.choice([low, high]))
        other = low if finger == high else high
        share = rng.uniform(0.4, 0.6) if low else rng.uniform(0.35, 0.5)
        angle = share * _wrap(_direction(hand, other) - _direction(hand, finger))
        root = hand.courses[other][0] if low else hand.keypoints[2]
        shift = share * (root - hand.courses[finger][0])
    stroke = moved(own_stroke(hand, finger), shift.astype(np.float32), angle)
    return widened(stretched(stroke, 0, rng.uniform(0.85, 1.05)), 0, rng.uniform(0.85, 1.0))


def _second_thumb(rng, hand: PhotoHand) -> Edited:
    toward = np.sign(_wrap(_direction(hand, 1) - _direction(hand, 0)))
    stroke = moved(own_stroke(hand, 0), np.zeros(2, np.float32), toward * rng.uniform(0.4, 0.6))
    return Edited(_beneath(hand, [stroke]), (0,), 1, stroke.course)


def _missing_finger(rng, hand: PhotoHand) -> Edited:
    fingers = _some(rng, hand, 2) if rng.random() < 0.5 else _some(rng, hand, 1)
    image = hand.image
    for finger in fingers:
        start = web(hand, finger) + int(rng.uniform(0, 0.12) * POINTS)
        image = without(hand, image, finger, start)
    return Edited(image, tuple(sorted(fingers)), -len(fingers), hand.keypoints)


def _fused(count: int):
    def fuse(rng, hand: PhotoHand) -> Edited:
        rows = _rows(hand, count)
        fingers = rows[int(rng.integers(len(rows)))]
        middle = fingers[len(fingers) // 2] if count == 3 else fingers[int(rng.integers(2))]
        strokes = {f: own_stroke(hand, f) for f in fingers}
        for finger in fingers:
            if finger != middle:
                toward = _wrap(_direction(hand, middle) - _direction(hand, finger))
                close = np.sign(toward) * max(abs(toward) - rng.uniform(0.02, 0.12), 0.0)
                strokes[finger] = bent(strokes[finger], place(hand, finger, 0, 0.35), close, 16)
        image = _redrawn(hand, [stroke for finger, stroke in strokes.items() if finger != middle])
        skin = np.max([draw(hand, stroke, _UNDER)[1] for stroke in strokes.values()], axis=0)
        until = rng.uniform(0.55, 0.8)
        for one, other in zip(fingers[:-1], fingers[1:], strict=True):
            last = int(until * POINTS)
            ends = [strokes[one].course[:last], strokes[other].course[:last][::-1]]
            image = _patched(image, np.maximum(skin, hand.skin * _palm(hand)), np.concatenate(ends), skin)
        return Edited(image, tuple(fingers), 0, np.concatenate([s.course for s in strokes.values()]))

    return fuse


def _patched(image: np.ndarray, skin: np.ndarray, corners: np.ndarray, covered: np.ndarray | None = None) -> np.ndarray:
    """Fills a polygon from the skin around it, all of it or only where it is not covered."""
    picture = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(picture).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    inside = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.2)), np.float32) / 255
    known = (grown(1 - skin, 3) < 0.05).astype(np.float32)
    if covered is None:
        known *= inside < 0.01
        missing = inside
    else:
        missing = inside * (1 - known)
    return over(image, fill(image, known), missing)


def _palm(hand: PhotoHand) -> np.ndarray:
    picture = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in hand.keypoints[[0, 1, 5, 9, 13, 17]].tolist()], fill=255)
    return np.asarray(picture, np.float32) / 255


def _pairs(hand: PhotoHand) -> list[tuple[int, int]]:
    return [(f, f + 1) for f in range(1, 4) if hand.free[f] and hand.free[f + 1]]


def _rows(hand: PhotoHand, count: int) -> list[list[int]]:
    """Neighbours, the thumb left aside, that can be fused."""
    rows = [list(range(f, f + count)) for f in range(1, 6 - count)]
    return [row for row in rows if hand.free[row].all()]


def _direction(hand: PhotoHand, finger: int) -> float:
    along = hand.keypoints[4 * finger + 4] - hand.keypoints[4 * finger + 1 + (finger == 0)]
    return float(np.arctan2(along[1], along[0]))


def _gap(hand: PhotoHand, one: int, other: int) -> float:
    return abs(_wrap(_direction(hand, one) - _direction(hand, other)))


def _wrap(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def _sign(rng: np.random.Generator) -> float:
    return float(rng.choice([-1.0, 1.0]))


_EDITS: dict[str, Callable[[np.random.Generator, PhotoHand], Edited]] = {
    "none": _none,
    "extra_finger": _extra_finger,
    "missing_finger": _missing_finger,
    "second_thumb": _second_thumb,
    "forked_finger": _forked_finger,
    "sideways": _strokes(_sideways, low=1),  # a thumb before its palm bends in the picture's plane by itself
    "zigzag": _strokes(_zigzag, most=1, low=1),
    "long_finger": _strokes(_scaled(1.5, 1.9)),
    "short_finger": _strokes(_scaled(0.5, 0.65)),
    "thin_finger": _strokes(_widened(0.45, 0.6)),
    "thick_finger": _strokes(_widened(1.5, 1.8)),
    "missing_joint": _strokes(_missing_joint, most=1, low=1),
    "fused_fingers": _fused(2),
    "three_fused_fingers": _fused(3),
}
PHOTO_EDITS = tuple(_EDITS)

"""Pictures and clips become items of the JSON contract: a status each, and every hand with its anatomy score."""

import base64
import dataclasses
import importlib
import io
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from handjax.anatomy.limits import LANDMARK_TOLERANCE
from handjax.anatomy.sides import side_of_keypoints
from handjax.errors import ConfigError, InputError
from handjax.images import read_frames, read_image
from handjax.inference.drawings import is_drawing
from handjax.inference.hand_features import UNLIKE, features_item, features_of, pair_item
from handjax.inference.score import FingerCounter, HandScore, score_hand
from handjax.perception import DetectedHand, HandTracker
from handjax.perception.hand_json import checked_hand, hand_item, read_detections
from handjax.perception.overlay import draw_thumbnail
from handjax.perception.retries import AT_ONCE, Found, SearchingDetector

Item = dict[str, Any]
Image8 = UInt8[np.ndarray, "height width 3"]

SCORED, NO_HAND, DRAWING = "scored", "no hand found", "drawing"
NO_PICTURE, ERROR = "not a picture", "error"
STATUSES = (SCORED, NO_HAND, DRAWING, NO_PICTURE, ERROR)
MANY_HANDS = "more than two hands"
THUMBNAIL_SIDE = 112
GivenHands = Callable[[Path, Image8], list[DetectedHand]]
_QUALITY = 78


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
    """What decides an item; plain values, so that processes and journals can be given them.

    Attributes:
      max_hands: how many to find in a picture at most.
      retry: look again, harder, where nothing is found.
      detections: a file that `launch.detect --json` printed, or MODULE:FUNCTION that takes a picture and returns a list
        of `DetectedHand`; None for the carried detector.
      video: inputs are clips, whose hands are followed.
      rate: frames of a clip a second.
      thumbnails: items carry pictures of their hands.
      tolerance: degrees by which joints may bend beyond their limits.
    """

    max_hands: int = 6
    retry: bool = True
    detections: str | None = None
    video: bool = False
    rate: float = 30.0
    thumbnails: bool = False
    tolerance: float = round(float(np.degrees(LANDMARK_TOLERANCE)), 6)

    def __post_init__(self):
        if not self.tolerance >= 0:
            raise ConfigError(f"--tolerance {self.tolerance:g}; it must be at least 0 degrees")
        if self.video and self.detections:
            raise ConfigError("--video follows hands by itself; leave --detections away")


@dataclasses.dataclass(frozen=True)
class PictureScorer:
    """Scores one picture or clip after the other."""

    options: ScoreOptions
    counter: FingerCounter | None = None

    def score(self, path: Path) -> list[Item]:
        """One item a picture, or a frame of a clip; what cannot be read becomes an item that says so."""
        if self.options.video:
            return self._score_clip(path)
        try:
            image = read_image(path)
            hands, by = self._find(path, image)
        except InputError as error:
            return [error_item(path, error)]
        return [self._item(path, image, hands) | {"found_by": by}]

    def _score_clip(self, path: Path) -> list[Item]:
        items = []
        try:
            for number, (image, tracked) in enumerate(self._tracker.track(read_frames(path))):
                item = self._item(path, image, list(tracked.values())) | {"frame": number}
                for hand, track in zip(item["hands"], tracked, strict=True):
                    hand["track"] = track
                items.append(item)
        except InputError as error:
            items.append(error_item(path, error))
        return items

    def _item(self, path: Path, image: Image8, hands: list[DetectedHand]) -> Item:
        tolerance = float(np.radians(self.options.tolerance))
        scores = [score_hand(image, hand, self.counter, tolerance) for hand in hands]
        height, width = image.shape[:2]
        pair = pair_item(hands)
        item = {
            "input": str(path),
            "status": (DRAWING if is_drawing(image) else SCORED) if hands else NO_HAND,
            "notes": [MANY_HANDS] if len(hands) > 2 else [UNLIKE] if pair and pair["unlike"] else [],
            "width": width,
            "height": height,
            "hands": list(map(score_item, scores)),
        }
        item |= {"pair": pair} if pair else {}
        return item | {"thumbnails": list(_thumbnails(image, hands))} if self.options.thumbnails else item

    def _find(self, path: Path, image: Image8) -> Found:
        if not self.options.detections:
            return self._detector.detect(image, retry=self.options.retry)
        hands = self._given(path, image)
        return Found(hands, AT_ONCE if hands else None)

    @cached_property
    def _detector(self) -> SearchingDetector:
        return SearchingDetector(self.options.max_hands)

    @cached_property
    def _tracker(self) -> HandTracker:
        return HandTracker.load(max_hands=self.options.max_hands, rate=self.options.rate)

    @cached_property
    def _given(self) -> GivenHands:
        return load_given(str(self.options.detections))


def score_item(score: HandScore) -> Item:
    """A hand as the JSON contract has it (docs/design.md)."""
    anatomy = score.anatomy
    features = features_of(score.hand)
    item = hand_item(score.hand) | {
        "s_anat": None if anatomy.s_anat is None else round(anatomy.s_anat, 4),
        "verdict": anatomy.verdict,
        "paper_verdict": anatomy.paper_verdict,
        "fingers": anatomy.fingers,
        "violations": list(anatomy.violations),
        "fingers_outline": score.outline.fingers if score.outline else None,
        "webbing": list(score.outline.webbing) if score.outline else None,
        "side_of_keypoints": side_of_keypoints(score.hand.world),
        "features": features_item(features) if features else None,
        "notes": list(score.notes),
    }
    return item | {"finger_classes": dict(score.count.probabilities)} if score.count else item


def error_item(path: Path, error: InputError) -> Item:
    """What is said of an input that cannot be read."""
    return {"input": str(path), "status": ERROR, "error": str(error), "notes": [], "hands": []}


def _thumbnails(image: Image8, hands: list[DetectedHand]) -> Iterator[str]:
    """Data URIs of each hand, or of the picture where there is none."""
    for hand in hands:
        yield _data_uri(Image.fromarray(draw_thumbnail(image, hand, THUMBNAIL_SIDE)))
    if not hands:
        small = Image.fromarray(image)
        small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        yield _data_uri(small)


def _data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def load_given(what: str) -> GivenHands:
    """Hands that another detector finds: of a file that `launch.detect --json` printed, or by MODULE:FUNCTION.

    What is returned raises InputError of a picture of which the file says nothing, or the function nothing of use.

    Raises:
      InputError: the file is missing or damaged.
      ConfigError: there is no such function.
    """
    if what.endswith(".json"):
        found = read_detections(Path(what))
        return lambda path, image: _look_up(found, path, what)
    function = _load_function(what)
    return lambda path, image: _call(function, path, image, what)


def _look_up(found: dict[str, list[DetectedHand]], path: Path, source: str) -> list[DetectedHand]:
    try:
        return found[str(path.absolute())]
    except KeyError:
        raise InputError(f"{path}: {source} says nothing of it; detect this picture too") from None


def _call(function: Callable[[Image8], Any], path: Path, image: Image8, name: str) -> list[DetectedHand]:
    try:
        return [checked_hand(hand.side, hand.score, hand.keypoints, hand.world) for hand in function(image)]
    except Exception as error:  # of a user's code, which may raise anything
        remedy = "it is to return a list of handjax.perception.DetectedHand"
        raise InputError(f"{path}: {name} failed ({_reason(error)}); {remedy}") from error


def _load_function(name: str) -> Callable[[Image8], Any]:
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except Exception as error:  # a user's module may raise anything
        remedy = "give a file FILE.json or MODULE:FUNCTION that can be imported"
        raise ConfigError(f"--detections {name}: not found ({_reason(error)}); {remedy}") from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"

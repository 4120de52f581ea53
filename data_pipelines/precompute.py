"""From photos to records: detect, cut out, fit, draw. Pure functions of their inputs, one photo or many."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from data_pipelines.captions import Captions
from data_pipelines.encoding import jpeg, png
from handjax.conditions.crops import RECORD_CROP_SCALE, box_side, crop_image, hand_box, hand_in_crop
from handjax.conditions.photo import BATCH, HandConditions, conditions_from_hands
from handjax.errors import InputError
from handjax.hand.describe import describe_hand
from handjax.images import read_image, resize
from handjax.perception import DetectedHand, HandDetector
from handjax.record import HandRecord

CONDITION_SIZES = (128, 256, 512)
"""Sides of the condition pictures: few, so that few programs are compiled. The least not below the crop is taken."""
MAX_FIT_ERROR = 0.15
"""A fit that is off by more than this share of the box shows another hand than the photo does."""


class Failures:
    """Pictures and hands that gave no record, by reason.

    Attributes:
      items: of each failure its input, its class and what happened.
      left_out: class → hands that their picture does not show well enough, which is nobody's error.
    """

    def __init__(self) -> None:
        self.items: list[dict[str, str]] = []
        self.left_out: Counter[str] = Counter()

    def add(self, source: Path, reason: str, detail: str) -> None:
        """Notes one failure; `reason` is the class it is counted in."""
        self.items.append({"input": str(source), "reason": reason, "error": detail})

    def leave_out(self, reason: str) -> None:
        """Counts one hand that is left out."""
        self.left_out[reason] += 1

    def counts(self) -> dict[str, int]:
        """Returns how many there are of each reason, hands left out included."""
        return dict(Counter(item["reason"] for item in self.items) + self.left_out)


@dataclasses.dataclass(frozen=True)
class CroppedHand:
    """One hand that was found, in its own square crop.

    Attributes:
      photo: path of the picture.
      number: of the hand in the picture, the surest first.
      image: the crop at native resolution.
      hand: in pixels of the crop.
    """

    photo: Path
    number: int
    image: UInt8[np.ndarray, "side side 3"]
    hand: DetectedHand


@dataclasses.dataclass(frozen=True)
class PhotoSet:
    """What all photos of a job have in common: their folder, captions and licence."""

    folder: Path
    captions: Captions
    licence: str | None = None


def photo_records(
    paths: Iterable[Path], photos: PhotoSet, detector: HandDetector, failures: Failures
) -> Iterator[HandRecord]:
    """Makes the records of all hands in photos.

    Args:
      paths: of the photos.
      photos: what they have in common.
      detector: finds the hands.
      failures: receives what cannot be read, shows no hand or cannot be fitted; the rest goes on.

    Yields:
      Records in batches of equal crops, so not always in the order of the photos.
    """
    waiting: dict[int, list[CroppedHand]] = {size: [] for size in CONDITION_SIZES}
    for path in paths:
        for cropped in _find_hands(path, detector, failures):
            size = next((s for s in CONDITION_SIZES if s >= len(cropped.image)), CONDITION_SIZES[-1])
            waiting[size].append(cropped)
            if len(waiting[size]) == BATCH:
                yield from _records(waiting.pop(size), size, photos, failures)
                waiting[size] = []
    for size, rest in waiting.items():
        yield from _records(rest, size, photos, failures)


def _find_hands(path: Path, detector: HandDetector, failures: Failures) -> list[CroppedHand]:
    try:
        image = read_image(path)
        hands = detector.detect(image)
    except InputError as error:
        failures.add(path, "unreadable", str(error))
        return []
    except Exception as error:  # whatever a picture brings about, thousands of others wait behind it
        failures.add(path, "error", f"{path}: {type(error).__name__}: {error}; report it with the picture")
        return []
    if not hands:
        failures.add(path, "no hand found", f"{path}: no hand found; show a whole hand, larger and in focus")
    cropped = []
    for number, hand in enumerate(hands):
        box = hand_box(hand.keypoints, RECORD_CROP_SCALE)
        cropped.append(CroppedHand(path, number, crop_image(image, box), hand_in_crop(hand, box)))
    return cropped


def _records(hands: Sequence[CroppedHand], size: int, photos: PhotoSet, failures: Failures) -> Iterator[HandRecord]:
    crops = [resize(cropped.image, (size, size)) for cropped in hands]
    scaled = [hand_in_crop(cropped.hand, _whole(cropped), size) for cropped in hands]
    for cropped, conditions in zip(hands, conditions_from_hands(crops, scaled), strict=True):
        error = conditions.fit_error_px / box_side(conditions.keypoints)
        if error < MAX_FIT_ERROR:
            yield _record(cropped, conditions, size, photos)
        else:
            detail = f"{cropped.photo}: hand {cropped.number} is off by {error:.0%} of its box after the fit"
            failures.add(cropped.photo, "fit failed", detail)


def _whole(cropped: CroppedHand) -> np.ndarray:
    """The box of the whole crop."""
    return np.array([0, 0, len(cropped.image), len(cropped.image)])


def _record(cropped: CroppedHand, conditions: HandConditions, size: int, photos: PhotoSet) -> HandRecord:
    hand, name = cropped.hand, cropped.photo.relative_to(photos.folder).as_posix()
    confidence = conditions.confidence[:, None]
    return HandRecord(
        id=f"{name}#{cropped.number}",
        image=jpeg(cropped.image),
        keypoints_2d=np.concatenate([hand.keypoints[:, :2], confidence], axis=1),
        keypoints_3d=np.concatenate([hand.world, confidence], axis=1),
        side=hand.side,
        hand_model="open_hand",
        pose=conditions.pose,
        betas=conditions.betas,
        translation=conditions.translation,
        camera=conditions.camera * (len(cropped.image) / size),
        mask=png(conditions.mask),
        depth=png(conditions.depth),
        skeleton=png(conditions.skeleton),
        mesh=png(conditions.mesh),
        caption=photos.captions.write(cropped.photo, photos.folder, describe_hand(hand.world, hand.side), hand.side),
        source=name,
        licence=photos.licence,
    )

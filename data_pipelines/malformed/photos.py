"""Edited photographs of hands as a job: each photo is edited in several ways, all of them on its side of the split."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.encoding import jpeg
from data_pipelines.malformed.edits import Edit, describe, draw_edit
from data_pipelines.malformed.photo_edits import Edited, edit_photo, edits_for
from data_pipelines.malformed.photo_hand import PhotoHand, take_apart
from data_pipelines.malformed.rendered import SIZE
from data_pipelines.precompute import Failures
from data_pipelines.shards import RecordMaker
from data_pipelines.splits import split_names
from handjax.conditions.crops import RECORD_CROP_SCALE, crop_image, hand_box, hand_in_crop
from handjax.errors import InputError
from handjax.images import find_images, read_image, resize
from handjax.perception import HandDetector
from handjax.record import HandRecord, Side

EVAL_FRACTION = 0.25
EDITS = {"train": 5, "eval": 6}
"""Pictures made of each photo of a split."""
OPEN_HAND_TIMES = 4
"""Times as many of a photo whose fingers are all free: only there can fingers be counted."""
COUNT_SHARE = 0.6
"""Of wrong counts among the malformed pictures of such photos."""


@dataclasses.dataclass(frozen=True)
class MalformedPhotoJob:
    """Edited photographs (a `Job`); inputs are photos, named relative to the folder after their split.

    Attributes:
      folder: of photos of hands before plain backgrounds, searched with its subfolders.
      limit: number of photos to take, evenly over the folder; 0 takes all.
      seed: of the edits; the test set of seed 0 is the one that figures are given of.
      licence: of the photos, as their source states it.
    """

    folder: Path
    limit: int = 0
    seed: int = 0
    licence: str | None = None

    name = "malformed_photos"
    description = "Photographs of hands with fingers added, removed, bent, scaled and fused, and redrawn as they were."
    citation = None

    def settings(self) -> dict[str, Any]:
        """What all records depend on."""
        return {"seed": self.seed, "licence": self.licence}

    def splits(self) -> dict[str, list[str]]:
        """Photos, relative to the folder; those taken one after the other stay on one side."""
        paths = find_images([self.folder])
        if 0 < self.limit < len(paths):
            paths = [paths[number * len(paths) // self.limit] for number in range(self.limit)]
        names = [path.relative_to(self.folder).as_posix() for path in paths]
        sides = split_names(sorted({session(name) for name in names}), EVAL_FRACTION)
        return {split: [f"{split}:{n}" for n in names if session(n) in set(sides[split])] for split in sides}

    def states(self, names: Sequence[str]) -> list[Any]:
        """Hashes of the photos."""
        paths = [self.folder / name.partition(":")[2] for name in names]
        return [hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None for path in paths]

    def open(self) -> RecordMaker:
        """Loads the detector."""
        detector = HandDetector.load(max_hands=1)

        def make_records(names: Iterable[str], failures: Failures) -> Iterator[HandRecord]:
            for name in names:
                yield from self._records(name, detector, failures)

        return make_records

    def _records(self, name: str, detector: HandDetector, failures: Failures) -> Iterator[HandRecord]:
        split, _, photo = name.partition(":")
        path = self.folder / photo
        try:
            image = read_image(path)
            hands = detector.detect(image)
        except InputError as error:
            failures.add(path, "unreadable", str(error))
            return
        hand = take_apart(image, hands[0]) if hands else None
        names = edits_for(hand) if hand else ()
        if hand is None or not names:
            failures.leave_out("no hand with a free finger before a plain background")
            return
        for number in range(EDITS[split] * (OPEN_HAND_TIMES if all(hand.free) else 1)):
            yield self._record(hand, hands[0].side, names, f"{name}:{number}")

    def _record(self, hand: PhotoHand, side: Side, names: Sequence[str], name: str) -> HandRecord:
        split, photo, _ = name.split(":")
        rng = np.random.default_rng([self.seed, *hashlib.sha256(name.encode()).digest()])
        edit = draw_edit(rng, names, held_out=split == "eval", count_share=COUNT_SHARE)
        edited = edit_photo(rng, hand, edit)
        image, keypoints = _framed(rng, hand, edited)
        count = _count(hand, edit, edited)
        return HandRecord(
            id=f"malformed-photo-{self.seed}-{name.replace(':', '-')}",
            image=jpeg(image),
            keypoints_2d=np.concatenate([keypoints, np.ones((21, 1), np.float32)], axis=1),
            side=side,
            edit=edit.name,
            fingers=count,
            caption=f"a photo of {describe(edit, side, edited.fingers, count)}",
            source=photo,
            licence=self.licence,
        )


def plain_records(folder: Path) -> Iterator[HandRecord]:
    """The hands of a job's training photographs as they are: edits are made of straight fingers only."""
    detector = HandDetector.load(max_hands=1)
    for name in MalformedPhotoJob(folder).splits()["train"]:
        photo = name.partition(":")[2]
        image = read_image(folder / photo)
        for hand in detector.detect(image):
            box = hand_box(hand.keypoints, RECORD_CROP_SCALE)
            places = hand_in_crop(hand, box, SIZE).keypoints
            places[:, 2] = 1
            yield HandRecord(photo, jpeg(crop_image(image, box, SIZE)), places, side=hand.side, source=photo)


def session(name: str) -> str:
    """Name of a photo without the last two figures: cameras number the photos of one session one after the other."""
    return Path(name).stem[:-2]


def _count(hand: PhotoHand, edit: Edit, edited: Edited) -> int | None:
    if not all(hand.free) or edit.kind == "fused" or edit.name == "forked_finger":
        return None
    return 5 + edited.added


def _framed(rng: np.random.Generator, hand: PhotoHand, edited: Edited) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the hand out, as loosely and as far off as detectors do, and the keypoints that it had before."""
    shown = np.concatenate([hand.keypoints, edited.reach])
    low, high = shown.min(axis=0) - hand.half_width, shown.max(axis=0) + hand.half_width
    side = int(np.ceil(rng.uniform(1.15, 1.6) * (high - low).max()))
    corner = np.round((low + high - side) / 2 + 0.06 * side * rng.uniform(-1, 1, 2)).astype(int)
    places = np.clip(corner[:, None] + np.arange(side), 0, len(hand.image) - 1)
    window = edited.image[places[1][:, None], places[0]]
    image = resize(np.round(window.clip(0, 255)).astype(np.uint8), (SIZE, SIZE))
    return image, ((hand.keypoints - corner) * SIZE / side).astype(np.float32)

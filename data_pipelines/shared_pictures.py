"""Hands that share a picture: records cut out of it, and the picture put together again from its records.

Every record is the square about its own hand. Records of one picture have ids PICTURE#NUMBER and the same source; their
cameras differ in the principal point alone, by what lies between the corners of their squares.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from tqdm import tqdm

from data_pipelines.encoding import jpeg
from data_pipelines.record_labels import UnfitRecordError, needed
from handjax.conditions.crops import crop_image
from handjax.errors import InputError
from handjax.images import decode_image
from handjax.record import HandRecord

MOST_HANDS = 2
"""That files of InterHand2.6M and HIC hold of a picture."""
SAME_FOCAL, SAME_PIXEL = 1e-3, 0.1
"""Share of the focal lengths, and pixels between the corners of two squares and whole ones, up to which they are of one
picture."""


@dataclasses.dataclass(frozen=True)
class PlacedHand:
    """A hand in a picture.

    Attributes:
      record: in pixels of the box.
      box: the square of the picture that the record shows, in whole pixels; it may leave the picture.
    """

    record: HandRecord
    box: Int[np.ndarray, "4"]

    @property
    def keypoints(self) -> Float[np.ndarray, "21 2"]:
        """Pixels of the picture."""
        return needed(self.record, "keypoints_2d")[:, :2] + self.box[:2].astype(np.float32)

    def cut_from(self, picture: UInt8[np.ndarray, "height width 3"]) -> HandRecord:
        """The record with what the picture shows of it."""
        return dataclasses.replace(self.record, image=jpeg(crop_image(picture, self.box)))


def picture_name(record: HandRecord) -> str:
    """The same for records of one picture."""
    picture, mark, _ = record.id.rpartition("#")
    return f"{record.source}#{picture}" if mark else record.id


def hand_type(hands: Sequence[HandRecord]) -> Literal["left", "right", "interacting"]:
    """What InterHand2.6M and HIC call the hands of a picture."""
    return "interacting" if len(hands) > 1 else needed(hands[0], "side")


def fit_pictures(
    records: Sequence[HandRecord], check: Callable[[HandRecord], None], left_out: Counter[str], folder: Path
) -> Iterator[tuple[HandRecord, ...]]:
    """Passes on the pictures that can be written; shows how it goes on stderr.

    Args:
      records: any, read twice; those of one picture need not lie together.
      check: raises UnfitRecordError.
      left_out: receives how many records are left out, by reason; with one, all of its picture are, which would show a
        hand that nobody has labelled.
      folder: named in errors.

    Yields:
      The hands of a picture, as `join_hands` gives them.

    Raises:
      InputError: after all records, where no picture is fit.
    """
    pictures: dict[str, list[int]] = {}
    for number in range(len(records)):
        pictures.setdefault(picture_name(records[number]), []).append(number)
    count = 0
    first: UnfitRecordError | None = None
    for numbers in tqdm(pictures.values(), "write", unit="picture", disable=None):
        hands = [records[number] for number in numbers]
        try:
            for record in hands:
                check(record)
            joined = join_hands(hands)
        except UnfitRecordError as error:
            left_out[error.reason] += len(hands)
            first = first or error
            continue
        count += 1
        yield joined
    if first and not count:
        raise InputError(
            f"{folder}: none of {left_out.total()} records can be written: {first}; take rendered, painted or "
            "published records"
        )
    if not count:
        raise InputError(f"{folder}: there are no records to write; prepare some with launch.precompute")


def join_hands(records: Sequence[HandRecord]) -> tuple[HandRecord, ...]:
    """The hands of one picture, all in pixels of all that their records show of it; black where none reaches.

    Args:
      records: of the picture, with side, keypoints and camera. Of one alone nothing changes.

    Returns:
      The right hand and the left one, with the same image and camera; conditions stay those of their own squares.

    Raises:
      UnfitRecordError: there are more than two hands, or two of a side, or their squares are not of one picture.
    """
    if len(records) == 1:
        return tuple(records)
    if len(records) > MOST_HANDS:
        raise UnfitRecordError(
            "more than two hands in the picture",
            f"record {records[0].id}: its picture has {len(records)} hands, of which these files hold two",
        )
    records = sorted(records, key=lambda record: needed(record, "side"), reverse=True)
    if records[0].side == records[1].side:
        raise UnfitRecordError(
            f"two {records[0].side} hands in the picture",
            f"record {records[0].id}: its picture has two {records[0].side} hands, of which these files hold one",
        )
    corners = _corners(records)
    images = [decode_image(record.image, record.id) for record in records]
    ends = [corner + image.shape[1::-1] for corner, image in zip(corners, images, strict=True)]
    joined = np.zeros((*np.max(ends, axis=0)[::-1], 3), np.uint8)
    for (x0, y0), (x1, y1), image in zip(corners, ends, images, strict=True):
        joined[y0:y1, x0:x1] = image
    encoded = jpeg(joined)
    return tuple(_moved(record, corner, encoded) for record, corner in zip(records, corners, strict=True))


def _corners(records: Sequence[HandRecord]) -> Int[np.ndarray, "hands 2"]:
    """Of the records' squares in the picture that holds them all, whole pixels."""
    cameras = np.array([needed(record, "camera") for record in records], np.float64)
    shifts = cameras[:1, 2:] - cameras[:, 2:]
    corners = np.round(shifts - shifts.min(axis=0)).astype(int)
    off = np.abs(shifts - shifts.min(axis=0) - corners).max()
    if off > SAME_PIXEL or np.abs(cameras[:, :2] / cameras[0, :2] - 1).max() > SAME_FOCAL:
        raise UnfitRecordError(
            "cameras of different pictures",
            f"record {records[0].id}: its camera and that of {records[1].id} are not of one picture",
        )
    return corners


def _moved(record: HandRecord, corner: Int[np.ndarray, "2"], image: bytes) -> HandRecord:
    x, y = corner
    return dataclasses.replace(
        record,
        image=image,
        keypoints_2d=needed(record, "keypoints_2d") + np.array([x, y, 0], np.float32),
        camera=needed(record, "camera") + np.array([0, 0, x, y], np.float32),
    )

"""A folder of photos as a job: what they show becomes hand records."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.captions import Captions
from data_pipelines.precompute import Failures, PhotoSet, photo_records
from data_pipelines.shards import RecordMaker
from data_pipelines.splits import EVAL_FRACTION, split_names
from handjax.images import find_images
from handjax.perception import HandDetector
from handjax.record import HandRecord


@dataclasses.dataclass(frozen=True)
class PhotoJob:
    """Hands in photos (a `Job`).

    Attributes:
      folder: of the photos, searched with its subfolders.
      limit: number of photos to take, evenly over the folder; 0 takes all.
      caption: template of the captions (`Captions`); "" is the default.
      licence: of the photos, as their source states it.
      max_hands: to look for in each photo.
      eval_fraction: share of the photos that is held out.
      captions: file of `launch.caption`; None takes the captions beside the photos.
    """

    folder: Path
    limit: int = 0
    caption: str = ""
    licence: str | None = None
    max_hands: int = 2
    eval_fraction: float = EVAL_FRACTION
    captions: Path | None = None

    name = "hand_photos"
    description = "Hands found in photos by MediaPipe's networks, with conditions of a fitted open hand."
    citation = None

    def settings(self) -> dict[str, Any]:
        """What all records depend on."""
        return {"caption": self.caption, "licence": self.licence, "max_hands": self.max_hands}

    def splits(self) -> dict[str, list[str]]:
        """Photos, relative to the folder."""
        paths = find_images([self.folder])
        if 0 < self.limit < len(paths):
            paths = [paths[number * len(paths) // self.limit] for number in range(self.limit)]
        return split_names([path.relative_to(self.folder).as_posix() for path in paths], self.eval_fraction)

    def states(self, names: Sequence[str]) -> list[Any]:
        """Size, time of the last change and given caption of each photo."""
        captions = self._captions()
        return [[*_size_and_time(self.folder / name), captions.given_to(name)] for name in names]

    def open(self) -> RecordMaker:
        """Loads the detector and the captions."""
        photos = PhotoSet(self.folder, self._captions(), self.licence)
        detector = HandDetector.load(max_hands=self.max_hands)

        def make_records(names: Iterable[str], failures: Failures) -> Iterator[HandRecord]:
            return photo_records((self.folder / name for name in names), photos, detector, failures)

        return make_records

    def _captions(self) -> Captions:
        return Captions.load(self.folder, self.caption or None, self.captions)


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # gone since it was listed: reading it will be counted as a failure
        return -1, -1
    return status.st_size, status.st_mtime_ns

"""Which hands are painted: of random poses, or of those of prepared records."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from data_pipelines.pairs import rendered_pair
from data_pipelines.precompute import Failures
from data_pipelines.prepared import PreparedRecords
from data_pipelines.rendered import posed_records, rendered_records
from data_pipelines.shared_pictures import PlacedHand
from data_pipelines.splits import EVAL_FRACTION, split_names
from handjax.errors import ConfigError, InputError
from handjax.record import HandRecord

NO_POSE = "no pose of the open hand"
CONDITIONS = ("depth", "skeleton", "mesh")
_STREAM, _PAIRS = 1 << 30, 1 << 29
"""Added to a seed, so that no painted hand has the pose of a rendered one of the same seed and number, which may be
held out, nor one of two hands that of one alone."""
_SEED_BITS = 22  # of a hand's number, so that hands of different seeds have different noise


@dataclasses.dataclass(frozen=True)
class PosedPicture:
    """A picture to paint.

    Attributes:
      seed: of its noise, below 2³².
      hands: that it is to show, in records without its image.
      conditions: of all of them, encoded, by their names in records.
    """

    seed: int
    hands: tuple[PlacedHand, ...]
    conditions: Mapping[str, bytes]

    @classmethod
    def of_one(cls, seed: int, record: HandRecord, size: int) -> "PosedPicture":
        """A picture of `size` pixels of one hand, which is the record's."""
        conditions = {name: getattr(record, name) for name in CONDITIONS}
        return cls(seed, (PlacedHand(record, np.array([0, 0, size, size])),), conditions)


@dataclasses.dataclass(frozen=True)
class RandomPoses:
    """Random poses, shapes and places, drawn as those of `rendered_records` are, but others.

    Attributes:
      count: number of pictures; picture n of a seed is always the same, in whatever company.
      seed: of hands and noise.
      eval_fraction: share of the pictures that is held out.
      hands: in a picture; two are the right and the left one of a body.
    """

    count: int
    seed: int = 0
    eval_fraction: float = EVAL_FRACTION
    hands: Literal[1, 2] = 1

    def __post_init__(self):
        if self.count > 1 << _SEED_BITS or self.seed >= 1 << 32 - _SEED_BITS:
            raise ConfigError(f"painted:{self.count}:{self.seed}: COUNT is at most 4194304, SEED at most 1023")

    def settings(self) -> dict[str, Any]:
        """The seed, and the number of hands."""
        return {"seed": self.seed, "hands": self.hands}

    def splits(self) -> dict[str, list[str]]:
        """Numbers of the pictures."""
        return split_names([str(number) for number in range(self.count)], self.eval_fraction)

    def states(self, names: Sequence[str]) -> list[Any]:
        """Nothing but their numbers sets pictures apart."""
        return [None] * len(names)

    def render(self, names: Sequence[str], size: int, failures: Failures) -> list[PosedPicture]:
        """Renders hands before they are painted.

        Args:
          names: which pictures.
          size: side of the pictures in pixels.
          failures: receives how many cannot be rendered.

        Returns:
          The pictures; ids and sources of the records are those of the painted ones.
        """
        numbers = [int(name) for name in names]
        seeds = [(self.seed << _SEED_BITS) + number for number in numbers]
        if self.hands == 2:
            return [self._pair(seed, number, size) for seed, number in zip(seeds, numbers, strict=True)]
        records = rendered_records(numbers, _STREAM + self.seed, size)
        return [
            PosedPicture.of_one(seed, self._named(record, f"painted-{self.seed}-{number:07d}"), size)
            for seed, number, record in zip(seeds, numbers, records, strict=True)
        ]

    def _pair(self, seed: int, number: int, size: int) -> PosedPicture:
        conditions, hands = rendered_pair(number, _STREAM + _PAIRS + self.seed, size)
        name = f"painted-pair-{self.seed}-{number:07d}"
        named = (PlacedHand(self._named(hand.record, f"{name}#{index}"), hand.box) for index, hand in enumerate(hands))
        return PosedPicture(seed, tuple(named), conditions)

    def _named(self, record: HandRecord, id_: str) -> HandRecord:
        return dataclasses.replace(record, id=id_, source=f"painted:{self.seed}")


@dataclasses.dataclass(frozen=True)
class RecordPoses:
    """The hands of prepared records, as these see them; the splits stay.

    Only side and mesh are taken: keypoints, conditions and captions are the mesh's, so that labels are exact also
    where the mesh was fitted or read from a photograph.

    Raises:
      InputError: no record has a mesh of the open hand.
    """

    records: PreparedRecords

    def __post_init__(self):
        if not any(map(_is_posed, self.records)):
            raise InputError(
                f"{self.records.folder}: no record has a pose of the open hand; prepare it without --mano, or paint "
                "random poses with a number in its place"
            )

    def settings(self) -> dict[str, Any]:
        """Nothing that all have in common."""
        return {}

    def splits(self) -> dict[str, list[str]]:
        """Names of the records."""
        return self.records.splits()

    def states(self, names: Sequence[str]) -> list[Any]:
        """Of the files that the records lie in."""
        return self.records.states(names)

    def render(self, names: Sequence[str], size: int, failures: Failures) -> list[PosedPicture]:
        """As `RandomPoses.render`."""
        hands = []
        for name in names:
            record = self.records[name]
            if _is_posed(record):
                hands.append((self.records.number(name), record))
            else:
                failures.leave_out(NO_POSE)
        pictures = []
        for (number, record), rendered in zip(hands, posed_records(hands, 0, size), strict=True):
            named = dataclasses.replace(rendered, id=f"painted-{record.id}", source=f"painted:{record.id}")
            pictures.append(PosedPicture.of_one(number, named, size))
        return pictures


Poses = RandomPoses | RecordPoses


def _is_posed(record: HandRecord) -> bool:
    labels = (record.side, record.pose, record.betas, record.translation)
    return record.hand_model == "open_hand" and all(label is not None for label in labels)

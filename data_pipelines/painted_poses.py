"""Which hands are painted: of random poses, or of those of prepared records."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from data_pipelines.precompute import Failures
from data_pipelines.prepared import PreparedRecords
from data_pipelines.rendered import posed_records, rendered_records
from data_pipelines.splits import EVAL_FRACTION, split_names
from handjax.errors import ConfigError, InputError
from handjax.record import HandRecord

NO_POSE = "no pose of the open hand"
_STREAM = 1 << 30
"""Added to a seed, so that no painted hand has the pose of a rendered one of the same seed and number, which may be
held out."""
_SEED_BITS = 22  # of a hand's number, so that hands of different seeds have different noise


@dataclasses.dataclass(frozen=True)
class RandomPoses:
    """Random poses, shapes and places, drawn as those of `rendered_records` are, but others.

    Attributes:
      count: number of hands; hand n of a seed is always the same, in whatever company.
      seed: of hands and noise.
      eval_fraction: share of the hands that is held out.
    """

    count: int
    seed: int = 0
    eval_fraction: float = EVAL_FRACTION

    def __post_init__(self):
        if self.count > 1 << _SEED_BITS or self.seed >= 1 << 32 - _SEED_BITS:
            raise ConfigError(f"painted:{self.count}:{self.seed}: COUNT is at most 4194304, SEED at most 1023")

    def settings(self) -> dict[str, Any]:
        """The seed."""
        return {"seed": self.seed}

    def splits(self) -> dict[str, list[str]]:
        """Numbers of the hands."""
        return split_names([str(number) for number in range(self.count)], self.eval_fraction)

    def states(self, names: Sequence[str]) -> list[Any]:
        """Nothing but their numbers sets hands apart."""
        return [None] * len(names)

    def render(self, names: Sequence[str], size: int, failures: Failures) -> list[tuple[int, HandRecord]]:
        """Renders hands before they are painted.

        Args:
          names: which hands.
          size: side of the pictures in pixels.
          failures: receives how many cannot be rendered.

        Returns:
          The seed of a hand's noise, below 2³², and its record, whose id and source are those of the painted one.
        """
        numbers = [int(name) for name in names]
        return [
            (
                (self.seed << _SEED_BITS) + number,
                dataclasses.replace(record, id=f"painted-{self.seed}-{number:07d}", source=f"painted:{self.seed}"),
            )
            for number, record in zip(numbers, rendered_records(numbers, _STREAM + self.seed, size), strict=True)
        ]


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

    def render(self, names: Sequence[str], size: int, failures: Failures) -> list[tuple[int, HandRecord]]:
        """As `RandomPoses.render`."""
        hands = []
        for name in names:
            record = self.records[name]
            if _is_posed(record):
                hands.append((self.records.number(name), record))
            else:
                failures.leave_out(NO_POSE)
        return [
            (number, dataclasses.replace(rendered, id=f"painted-{record.id}", source=f"painted:{record.id}"))
            for (number, record), rendered in zip(hands, posed_records(hands, 0, size), strict=True)
        ]


Poses = RandomPoses | RecordPoses


def _is_posed(record: HandRecord) -> bool:
    labels = (record.side, record.pose, record.betas, record.translation)
    return record.hand_model == "open_hand" and all(label is not None for label in labels)

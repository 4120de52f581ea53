"""Prepared records as the inputs of a job, which keeps their splits."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.features import RecordSource, find_dataset, open_records
from handjax.record import HandRecord

SPLITS = ("train", "val", "eval")


@dataclasses.dataclass(frozen=True)
class PreparedRecords:
    """The records of a data set by name, SPLIT:NUMBER.

    Attributes:
      folder: of the data set, as `find_dataset` takes it.
      limit: number of records to take of each split; 0 takes all.
    """

    folder: Path
    limit: int = 0

    @property
    def dataset(self) -> str:
        """Name of the data set's folder."""
        return find_dataset(self.folder).name

    def splits(self) -> dict[str, list[str]]:
        """Names of the records of each split."""
        counts = {split: len(source) for split, source in self._sources.items()}
        taken = {split: min(count, self.limit or count) for split, count in counts.items()}
        return {split: [f"{split}:{number}" for number in range(count)] for split, count in taken.items()}

    def states(self, names: Sequence[str]) -> list[Any]:
        """Size and time of the last change of the files that the records lie in."""
        files = sorted(find_dataset(self.folder).glob("*.array_record*"))
        state = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files if path.suffix != ".json"]
        return [state] * len(names)

    def __getitem__(self, name: str) -> HandRecord:
        split, _, number = name.partition(":")
        return self._sources[split][int(number)]

    def number(self, name: str) -> int:
        """Place of a record among those of all splits."""
        split, _, number = name.partition(":")
        before = itertools.takewhile(lambda other: other != split, self._sources)
        return int(number) + sum(len(self._sources[other]) for other in before)

    def __iter__(self) -> Iterator[HandRecord]:
        return (self[name] for names in self.splits().values() for name in names)

    @functools.cached_property
    def _sources(self) -> dict[str, RecordSource]:
        sources = {split: open_records(self.folder, split) for split in SPLITS}
        return {split: source for split, source in sources.items() if source is not None}

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: every worker opens the records itself."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

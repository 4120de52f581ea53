"""A published data set as a job: its pictures become hand records on all cores, shard by shard."""

import dataclasses
import functools
import hashlib
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.captions import Captions, read_refined
from data_pipelines.datasets.annotation import Sample
from data_pipelines.datasets.builder import DatasetConfig, HandDataset
from data_pipelines.datasets.registry import DATASETS
from data_pipelines.precompute import Failures
from data_pipelines.shards import RecordMaker, file_hash
from handjax.record import HandRecord


@dataclasses.dataclass(frozen=True)
class DatasetJob:
    """Hands of a published data set (a `Job`); the fields are those of `DatasetConfig`.

    Attributes:
      name: of the data set, a key of `DATASETS`.
      captions: file of `launch.caption`, whose captions of pictures take the place of the data set's; None for none.
    """

    name: str
    folder: str
    only: tuple[str, ...] = ()
    limit: int = 0
    paper_eval: int | None = None
    mano: str = ""
    captions: Path | None = None

    @property
    def description(self) -> str:
        """What the data set shows."""
        return DATASETS[self.name].FACTS.description

    @property
    def licence(self) -> str:
        """As its authors state it."""
        return DATASETS[self.name].FACTS.licence

    @property
    def citation(self) -> str:
        """In BibTeX."""
        return DATASETS[self.name].FACTS.citation

    def settings(self) -> dict[str, Any]:
        """The user's MANO files; which pictures are chosen is in the names of the inputs."""
        files = sorted(Path(self.mano).glob("MANO_*")) if self.mano else []
        return {"mano": {path.name: file_hash(path) for path in files}}

    def splits(self) -> dict[str, list[str]]:
        """Chosen pictures by split; the names of the pictures are unique in their splits only."""
        names: dict[str, list[str]] = {}
        for name in self._chosen[1]:
            names.setdefault(name.partition(":")[0], []).append(name)
        return names

    def states(self, names: Sequence[str]) -> list[Any]:
        """What is annotated of each picture, its caption, and its files' sizes and times of the last change."""
        return [_state(self._chosen[1][name]) for name in names]

    def open(self) -> RecordMaker:
        """Reads the annotations."""
        dataset, samples = self._chosen

        def make_records(names: Iterable[str], failures: Failures) -> Iterator[HandRecord]:
            return dataset.records((samples[name] for name in names), failures)

        return make_records

    @functools.cached_property
    def _chosen(self) -> tuple[HandDataset, dict[str, Sample]]:
        """The data set's builder, which writes nothing here, and the samples of all splits by SPLIT:NAME."""
        config = DatasetConfig(
            folder=self.folder, splits=self.only, limit=self.limit, paper_eval=self.paper_eval, mano=self.mano
        )
        with tempfile.TemporaryDirectory() as unused:
            dataset = DATASETS[self.name](config=config, data_dir=unused, file_format="array_record")
        chosen = dataset.chosen(Path(self.folder))
        captioned = self._captioned()
        return dataset, {
            f"{split}:{sample.name}": captioned(sample) for split, samples in chosen.items() for sample in samples
        }

    def _captioned(self) -> Callable[[Sample], Sample]:
        """Gives a sample the caption of its picture, where there is one."""
        if self.captions is None:
            return lambda sample: sample
        given = Captions(read_refined(self.captions, Path(self.folder)))

        def captioned(sample: Sample) -> Sample:
            name = sample.picture.relative_to(self.folder).as_posix()
            return dataclasses.replace(sample, caption=given.given_to(name) or None)

        return captioned

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what was read is read again by every worker."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def _state(sample: Sample) -> list[Any]:
    files = [path.stat() for path in (sample.picture, *sample.others)]
    entry = hashlib.sha256(pickle.dumps(sample.entry, protocol=4)).hexdigest()
    return [entry, sample.caption, *([status.st_size, status.st_mtime_ns] for status in files)]

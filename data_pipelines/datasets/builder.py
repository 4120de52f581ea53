"""The base of all builders of published data sets."""

import abc
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from tqdm import tqdm

from data_pipelines.datasets.annotation import HandAnnotation, Sample
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import check_pictures
from data_pipelines.datasets.mano import load_manos
from data_pipelines.datasets.records import RecordMaker
from data_pipelines.features import record_features, to_example
from data_pipelines.precompute import Failures
from data_pipelines.splits import draw_names, drop_empty
from handjax.errors import InputError
from handjax.hand.model import HandModel
from handjax.images import read_image
from handjax.record import HandRecord, Side


@dataclasses.dataclass
class DatasetConfig(tfds.core.BuilderConfig):
    """What to make of a data set.

    Attributes:
      folder: the unpacked download; "" is TFDS's `manual_dir`.
      splits: which to make; none named means all.
      limit: number of pictures to draw from each split; 0 takes all.
      paper_eval: seed of the papers' evaluation set, which is made, as the split "eval", in place of all others.
      mano: folder of the user's MANO files; "" fits the open hand where a mesh is needed.
      conditions: whether to draw the mesh of each hand (`RecordMaker`).
    """

    name: str = "default"
    folder: str = ""
    splits: tuple[str, ...] = ()
    limit: int = 0
    paper_eval: int | None = None
    mano: str = ""
    conditions: bool = True


class _Draw(NamedTuple):
    """So many pictures of a part, or all for 0, that become a split."""

    split: str
    part: str
    limit: int
    seed: int


class HandDataset(tfds.core.GeneratorBasedBuilder):
    """Builder of a published data set; give it a `DatasetConfig` and file_format="array_record".

    A data set has its `FACTS` and says which pictures there are and what hands each shows; all else is here. After
    `download_and_prepare` the attributes `failures` and `photo_count` say what became of the pictures.
    """

    VERSION = tfds.core.Version("1.0.0")
    FACTS: ClassVar[DatasetFacts]

    def __init_subclass__(cls, **options):
        cls.name, cls.MANUAL_DOWNLOAD_INSTRUCTIONS = cls.FACTS.name, cls.FACTS.download
        super().__init_subclass__(**options)

    @abc.abstractmethod
    def samples(self, folder: Path, part: str) -> Iterable[Sample]:
        """Reads the annotation files of a part.

        Args:
          folder: the unpacked download.
          part: the data set's own name of it, a value of `FACTS.parts`.

        Raises:
          InputError: a file is missing or broken; says which, and where to get it.
        """

    @abc.abstractmethod
    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterable[HandAnnotation]:
        """Gives the hands of a picture in this project's conventions.

        Args:
          sample: one of `samples`.
          size: height and width of its picture.
        """

    def picture(self, sample: Sample) -> UInt8[np.ndarray, "height width 3"]:
        """Reads the picture of a sample; for data sets that do not keep it in a file of its own."""
        return read_image(sample.picture)

    def mano_model(self, side: Side) -> HandModel | None:
        """The user's MANO model, in the data set's own variety; None where the config names no folder."""
        return self._mano.get(side)

    def _info(self) -> tfds.core.DatasetInfo:
        facts = self.FACTS
        return tfds.core.DatasetInfo(
            builder=self,
            description=facts.description,
            features=record_features(),
            homepage=facts.homepage,
            license=facts.licence,
            citation=facts.citation,
        )

    def _split_generators(self, dl_manager):
        folder = Path(self.builder_config.folder or dl_manager.manual_dir)
        self.failures, chosen = Failures(), self.chosen(folder)
        self.photo_count = sum(map(len, chosen.values()))
        splits = drop_empty({split: self._generate_examples(samples, split) for split, samples in chosen.items()})
        if not splits:
            raise InputError(f"{folder}: none of {self.photo_count} pictures gave a hand ({self.failures.counts()})")
        return splits

    def chosen(self, folder: Path) -> dict[str, list[Sample]]:
        """Reads which pictures the config asks for, split by split.

        Raises:
          InputError: a split is unknown, or a file of the download or of MANO is missing or broken.
        """
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; {self.FACTS.download}")
        mano, facts = self.builder_config.mano, self.FACTS
        self._mano = load_manos(Path(mano), facts.tips, facts.left_shape) if mano else {}
        return {draw.split: self._choose(folder, draw) for draw in self._draws()}

    def records(self, samples: Iterable[Sample], failures: Failures) -> Iterator[HandRecord]:
        """Makes the records of chosen pictures, not always in their order.

        Args:
          samples: some of those chosen.
          failures: receives what gives no record, also from `hands`, as the attribute `failures`.
        """
        self.failures = failures
        maker = RecordMaker(self.FACTS, self.picture, self.hands, failures, self._mano, self.builder_config.conditions)
        return maker.records(samples)

    def _draws(self) -> list[_Draw]:
        """What the config asks for.

        Raises:
          InputError: the data set has no such split, or no evaluation set of the papers.
        """
        facts, config = self.FACTS, self.builder_config
        if config.paper_eval is None:
            unknown = [split for split in config.splits if split not in facts.parts]
            if unknown:
                raise InputError(f"{facts.name} has no split {unknown[0]!r}; it has {', '.join(facts.parts)}")
            return [_Draw(split, facts.parts[split], config.limit, 0) for split in config.splits or facts.parts]
        if facts.paper_eval is None:
            raise InputError(f"{facts.name}: no paper draws its evaluation set from it")
        split, count = facts.paper_eval
        return [_Draw("eval", facts.parts[split], config.limit or count, config.paper_eval)]

    def _choose(self, folder: Path, draw: _Draw) -> list[Sample]:
        samples = {sample.name: sample for sample in self.samples(folder, draw.part)}
        names = draw_names(samples, draw.limit, draw.seed) if draw.limit else samples
        chosen = [samples[name] for name in names]
        check_pictures(chosen, self.FACTS.download)
        return chosen

    def _generate_examples(self, samples: Sequence[Sample], split: str) -> Iterator[tuple[str, dict]]:
        for record in self.records(tqdm(samples, split, unit="picture"), self.failures):
            yield record.id, to_example(record)

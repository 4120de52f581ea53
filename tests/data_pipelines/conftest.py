import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.encoding import jpeg, png
from data_pipelines.features import record_features, to_example
from handjax.hand.mano import load_mano
from handjax.record import HandRecord
from tests.hand.mano_files import mano_arrays, mirrored, write_python2

SIDE = 80
NO_KEYPOINTS = 1000
"""This record has no keypoints."""


@dataclasses.dataclass
class Splits(tfds.core.BuilderConfig):
    """The records that each split has."""

    name: str = "splits"
    train: tuple[HandRecord, ...] = dataclasses.field(default=(), repr=False)  # TFDS logs what it is given
    eval: tuple[HandRecord, ...] = dataclasses.field(default=(), repr=False)


class SomeHands(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=record_features())

    def _split_generators(self, dl_manager):
        splits = {"train": self.builder_config.train, "eval": self.builder_config.eval}
        return {split: self._generate_examples(records) for split, records in splits.items() if records}

    def _generate_examples(self, records):
        for record in records:
            yield record.id, to_example(record)


def make_record(number: int) -> HandRecord:
    """A picture whose grey level is the number, with a hand of random keypoints; number 0 has its picture only."""
    rng = np.random.default_rng(number)
    image = np.full((SIDE, SIDE, 3), 10 * number % 256, np.uint8)
    if number == 0:
        return HandRecord(id="only a picture", image=jpeg(image))
    keypoints = rng.uniform(SIDE / 4, SIDE * 3 / 4, (21, 2))
    keypoints[0], keypoints[1] = SIDE / 4, SIDE * 3 / 4
    depth = np.zeros((SIDE, SIDE))
    depth[30:50, 25:60] = 0.6
    return HandRecord(
        id=f"hand-{number}",
        image=jpeg(image),
        keypoints_2d=None if number == NO_KEYPOINTS else np.column_stack([keypoints, np.ones(21)]).astype(np.float32),
        side="left",
        betas=rng.normal(size=7).astype(np.float32),
        depth=png(depth),
        edit="extra_finger",
        fingers=number % 8,
        caption=f"hand {number}, the left one é",
    )


def prepare(folder, **splits):
    """Writes a data set of hand records; those that are numbers are made by `make_record`."""
    made = {
        split: tuple(make_record(each) if isinstance(each, int) else each for each in records)
        for split, records in splits.items()
    }
    SomeHands(config=Splits(**made), data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Folder of a data set with 23 records to train on, number 0 among them, and 3 held out."""
    return prepare(tmp_path_factory.mktemp("prepared"), train=tuple(range(23)), eval=(100, 101, 102))


@pytest.fixture(scope="session")
def prepared_few(tmp_path_factory):
    """Folder of a data set with 2 records to train on and none held out."""
    return prepare(tmp_path_factory.mktemp("prepared_few"), train=(23, 24))


@pytest.fixture(scope="session")
def manos(tmp_path_factory):
    """Both sides of a model in MANO's files, made up."""
    folder = tmp_path_factory.mktemp("mano")
    write_python2(folder / "MANO_RIGHT.pkl", mano_arrays())
    write_python2(folder / "MANO_LEFT.pkl", mirrored(mano_arrays(), fix_shape=True))
    return {side: load_mano(folder / f"MANO_{side.upper()}.pkl") for side in ("left", "right")}

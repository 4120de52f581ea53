"""Training examples whose pictures an autoencoder has encoded ahead of time: a second data set made from records.

Encoding two pictures a step costs an inpainting task more than half of its time. What augmentation would draw anew in
every pass is drawn once here, so the set should have several examples for each record.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipelines.features import find_dataset
from handjax.errors import InputError

Batch = Mapping[str, Any]
_ENCODER = "encoder"
# Latents have a mean square of one: half precision leaves an error of 0.0005. Masks and maps are bytes on disk.
_LEVELS = {"mask": 1, "depth": 255, "mesh": 255, "hand_tokens": 1}
_STORED = {"latents": np.float16, "hidden_latents": np.float16, **dict.fromkeys(_LEVELS, np.uint8)}


@dataclasses.dataclass
class EncodedConfig(tfds.core.BuilderConfig):
    """What to encode.

    Attributes:
      spec: field → shape and dtype of one example, as the training task will ask for it.
      counts: examples of each split.
      encoder: hash of the autoencoder's weights.
      batches: split → batches with the fields of `spec`.
    """

    name: str = "default"
    spec: Mapping[str, jax.ShapeDtypeStruct] = dataclasses.field(default_factory=dict)
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    encoder: str = ""
    batches: Callable[[str], Iterator[Batch]] = lambda split: iter(())


class EncodedExamples(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of encoded examples; give it an `EncodedConfig` and file_format="array_record"."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        spec = self.builder_config.spec
        features = {
            name: tfds.features.Tensor(
                shape=field.shape,
                dtype=_STORED.get(name, field.dtype),
                encoding=tfds.features.Encoding.ZLIB if field.shape else tfds.features.Encoding.NONE,
            )
            for name, field in spec.items()
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="Hand records as latents of an autoencoder.",
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict({_ENCODER: self.builder_config.encoder}),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, n) for split, n in self.builder_config.counts.items() if n}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict]]:
        rows = (row for batch in self.builder_config.batches(split) for row in _rows(batch))
        for number, row in zip(tqdm(range(count), split, unit="example"), rows, strict=False):
            yield number, {name: _store(name, value) for name, value in row.items()}


def _rows(batch: Batch) -> Iterator[dict[str, np.ndarray]]:
    arrays = {name: np.asarray(value) for name, value in batch.items()}
    for number in range(len(next(iter(arrays.values())))):
        yield {name: np.asarray(array[number]) for name, array in arrays.items()}


def _store(name: str, value: np.ndarray) -> np.ndarray:
    if name in _LEVELS:
        value = np.rint(value * _LEVELS[name])
    return np.asarray(value).astype(_STORED.get(name, value.dtype))


def _load(name: str, value: Any, dtype: np.dtype) -> np.ndarray:
    loaded = np.asarray(value).astype(dtype)
    return np.divide(loaded, _LEVELS[name], dtype=dtype) if name in _LEVELS else loaded


class EncodedSource(Sequence[dict[str, np.ndarray]]):
    """The examples of one split, by number, with the fields asked for."""

    def __init__(self, folder: Path, split: str, spec: Mapping[str, jax.ShapeDtypeStruct]):
        self._name = f"{folder}:{split}"
        self._spec = dict(spec)
        self._source = tfds.builder_from_directory(str(folder)).as_data_source(split=split)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number):
        if not 0 <= number < len(self):
            raise IndexError(number)
        stored = self._source[number]
        return {name: _load(name, stored[name], field.dtype) for name, field in self._spec.items()}

    def __repr__(self) -> str:
        return f"EncodedSource({self._name})"


def open_encoded(path: str | Path, split: str, spec: Mapping[str, jax.ShapeDtypeStruct]) -> EncodedSource:
    """Opens one split of what `launch.encode` wrote.

    Args:
      path: its folder.
      split: "train" or "eval".
      spec: the fields to read.

    Raises:
      InputError: there is none, it has no such split, or it lacks a field.
    """
    folder = find_dataset(path)
    builder = tfds.builder_from_directory(str(folder))
    missing = sorted(set(spec) - set(builder.info.features or ()))
    if missing:
        raise InputError(
            f"{folder}: no field {missing[0]!r}, so not examples for this task; make them by launch.encode"
        )
    if split not in builder.info.splits:
        raise InputError(f"{folder}: no {split!r} split; encode it, or set eval_every and preview_every to 0")
    return EncodedSource(folder, split, spec)


def encoder_of(path: str | Path) -> str:
    """Returns the hash of the autoencoder that made an encoded data set; "" for any other data set."""
    metadata = tfds.builder_from_directory(str(find_dataset(path))).info.metadata
    return (metadata or {}).get(_ENCODER, "")

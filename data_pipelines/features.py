"""Hand records on disk: TFDS features in ArrayRecord, written and read without TensorFlow.

An optional field is a sequence of at most one entry, so that an absent field is absent and not a default value.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from handjax.errors import InputError
from handjax.record import HandRecord

_ARRAY_SHAPES = {
    "keypoints_2d": (21, 3),
    "keypoints_3d": (21, 4),
    "pose": (16, 3),
    "betas": (None,),
    "translation": (3,),
    "camera": (4,),
}
_PICTURE_CHANNELS = {"mask": 1, "depth": 1, "skeleton": 3, "mesh": 3}
_TEXTS = ("side", "hand_model", "edit", "caption", "source", "licence")
_NUMBERS = ("fingers",)
_ADDED = {"edit", "fingers"}
"""Fields that data sets made by earlier versions lack."""


class _Encoded(tfds.decode.SkipDecoding):
    """Leaves pictures encoded, also inside sequences, where TFDS's own class stops short."""

    def decode_batch_example_np(self, serialized_example):
        return serialized_example


def record_features() -> tfds.features.FeaturesDict:
    """Returns the TFDS features of a `HandRecord`."""
    optional = tfds.features.Sequence
    features: dict[str, Any] = {"id": tfds.features.Text(), "image": tfds.features.Image(shape=(None, None, 3))}
    for name, shape in _ARRAY_SHAPES.items():
        tensor = np.float32 if shape == (None,) else tfds.features.Tensor(shape=shape, dtype=np.float32)
        features[name] = optional(tensor)
    for name, channels in _PICTURE_CHANNELS.items():
        features[name] = optional(tfds.features.Image(shape=(None, None, channels)))
    for name in _TEXTS:
        features[name] = optional(tfds.features.Text())
    for name in _NUMBERS:
        features[name] = optional(np.int32)
    return tfds.features.FeaturesDict(features)


def to_example(record: HandRecord) -> dict[str, Any]:
    """Turns a record into what a TFDS builder yields for it."""
    example: dict[str, Any] = {"id": record.id, "image": io.BytesIO(record.image)}
    for field in dataclasses.fields(record)[2:]:
        value = getattr(record, field.name)
        if value is None:
            example[field.name] = []
        elif field.name == "betas":
            example[field.name] = np.asarray(value, np.float32)
        elif field.name in _ARRAY_SHAPES:
            example[field.name] = [np.asarray(value, np.float32)]
        else:
            example[field.name] = [io.BytesIO(value) if field.name in _PICTURE_CHANNELS else value]
    return example


def record_serializer() -> Callable[[HandRecord], bytes]:
    """Returns the function that turns a record into bytes that TFDS reads, the same bytes in every process."""
    features = record_features()
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())

    def serialize(record: HandRecord) -> bytes:
        example = serializer.get_tf_example(features.encode_example(to_example(record)))
        return example.SerializeToString(deterministic=True)  # else fields lie in a process's own order

    return serialize


def write_dataset_info(
    folder: Path, name: str, shard_records: Mapping[str, list[int]], sizes: Mapping[str, int], **about: str | None
) -> None:
    """Writes dataset_info.json and features.json, by which TFDS and `open_records` know a folder of shards.

    Args:
      folder: holds files NAME-SPLIT.array_record-00000-of-00001.
      name: of the data set.
      shard_records: split → number of records in each of its files.
      sizes: split → size of its files, bytes.
      about: description, license and citation.
    """
    template = tfds.core.ShardedFileTemplate(data_dir=folder, dataset_name=name, filetype_suffix="array_record")
    splits = [
        tfds.core.SplitInfo(
            name=split, shard_lengths=lengths, num_bytes=sizes[split], filename_template=template.replace(split=split)
        )
        for split, lengths in shard_records.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=record_features(), split_infos=splits, check_data=False, **about
    )


def from_example(example: dict[str, Any]) -> HandRecord:
    """Turns what TFDS reads, with pictures left encoded, back into the record."""
    fields: dict[str, Any] = {"id": example["id"].decode(), "image": example["image"]}
    for name in (*_ARRAY_SHAPES, *_PICTURE_CHANNELS, *_TEXTS, *_NUMBERS):
        values = example.get(name, ())  # a data set made before a field was added lacks it
        if len(values):
            fields[name] = np.asarray(values) if name == "betas" else values[0]
            if name in _TEXTS:
                fields[name] = values[0].decode()
            if name in _NUMBERS:
                fields[name] = int(values[0])
    return HandRecord(**fields)


class RecordSource(Sequence[HandRecord]):
    """The records of one split, by number: what Grain reads from."""

    def __init__(self, folder: Path, split: str):
        builder = tfds.builder_from_directory(str(folder))
        decoders = {name: _Encoded() for name in ("image", *_PICTURE_CHANNELS)}
        self._name = f"{folder}:{split}"
        self._source = builder.as_data_source(split=split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number):
        if not 0 <= number < len(self):
            raise IndexError(number)
        return from_example(self._source[number])

    def __repr__(self) -> str:
        return f"RecordSource({self._name})"


def find_dataset(path: str | Path) -> Path:
    """Finds the prepared data set in a folder or in the folders below it.

    Args:
      path: what `launch.precompute --output` or a TFDS builder wrote, or a folder above it.

    Raises:
      InputError: there is none, or more than one.
    """
    path = Path(path)
    found = sorted(p.parent for p in path.rglob("dataset_info.json")) if path.is_dir() else []
    if not found:
        raise InputError(f"{path}: no prepared data set; make one with `launch.precompute --output {path}`")
    if len(found) > 1:
        raise InputError(f"{path}: holds {len(found)} data sets; name one, such as {found[0]}")
    return found[0]


def open_records(path: str | Path, split: str) -> RecordSource | None:
    """Opens one split of a prepared data set; None where the data set does not have it.

    Raises:
      InputError: there is no data set at `path`, or what lies there is not one of hand records.
    """
    folder = find_dataset(path)
    try:
        builder = tfds.builder_from_directory(str(folder))
    except (ValueError, KeyError, OSError) as error:
        raise InputError(f"{folder}: not a readable data set ({error}); make it again") from error
    if not set(record_features()) - _ADDED <= set(builder.info.features or ()) <= set(record_features()):
        raise InputError(f"{folder}: not a data set of hand records; make one with `launch.precompute`")
    splits = builder.info.splits
    return RecordSource(folder, split) if split in splits and splits[split].num_examples else None

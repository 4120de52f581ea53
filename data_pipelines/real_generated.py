"""Pairs of examples from two sets of records, photographs and generated pictures: what a discriminator learns from."""

from collections.abc import Mapping

import grain
import jax
import ml_collections

from data_pipelines.loader import make_examples, share_of_batches
from data_pipelines.options import LoaderConfig
from handjax.errors import InputError

SECTIONS = {"real": "path", "generated": "generated"}
"""Prefix of the fields, and the recipe's field with the folders."""
_SEED_STRIDE = 1_000_003


def make_loader(
    config: ml_collections.ConfigDict,
    batch_spec: Mapping[str, jax.ShapeDtypeStruct],
    batch_size: int,
    seed: int,
    split: str,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset:
    """Makes the endless stream of this process's batches, as `data_pipelines.loader.make_loader`.

    Args:
      config: the recipe's `data` section: fields of `LoaderConfig`, and `generated`, folders as `path`.
      batch_spec: fields of both sides, with "real_" or "generated_" before their names; ids are `input_ids`.
      batch_size: of the global batch; each example is a pair.
      seed: of order and augmentation.
      split: "train" or "eval".
      process_index: of this process.
      process_count: must divide `batch_size`.

    Raises:
      ConfigError: a field, shape or size that does not fit.
      InputError: no such records, or records without a field asked for.
    """
    if not config.generated.strip():
        raise InputError("data.generated is empty; make pictures by launch.generate, then records of them")
    common = {name: value for name, value in config.items() if name not in SECTIONS.values()}
    sides = []
    for number, (side, section) in enumerate(SECTIONS.items()):
        options = LoaderConfig.from_config(ml_collections.ConfigDict({**common, "path": config[section]}))
        spec = {_field(name): want for name, want in batch_spec.items() if name.startswith(side)}
        examples = make_examples(options, spec, seed + _SEED_STRIDE * number, split)
        sides.append(examples.map(lambda example, side=side: _named(example, side)))
    pairs = grain.experimental.ZipMapDataset(sides).map(lambda pair: {**pair[0], **pair[1]})
    return share_of_batches(pairs, batch_size, process_index, process_count).to_iter_dataset(
        grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    )


def _field(name: str) -> str:
    """The record's field that a side's is made from."""
    own = name.partition("_")[2]
    return "input_ids" if own == "ids" else own


def _named(example: dict, side: str) -> dict:
    return {f"{side}_{'ids' if name == 'input_ids' else name}": value for name, value in example.items()}

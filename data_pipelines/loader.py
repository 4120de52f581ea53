"""Batches for training from prepared hand records: shuffled, augmented, sharded by process, resumable."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import jax
import ml_collections
import numpy as np

from data_pipelines.encoded import open_encoded
from data_pipelines.examples import Example, ExampleMaker, add_skeletons, without_skeleton
from data_pipelines.features import RecordSource, open_records
from data_pipelines.options import LoaderConfig
from handjax.errors import ConfigError, InputError

_WEIGHT_MARK = "@"
_BATCHES_AHEAD = 4


def make_loader(
    config: ml_collections.ConfigDict,
    batch_spec: Mapping[str, jax.ShapeDtypeStruct],
    batch_size: int,
    seed: int,
    split: str,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset:
    """Makes the endless stream of this process's batches.

    The stream of examples depends on the seed alone. Process p gets rows p·b to (p+1)·b of every global batch, so any
    number of processes sees the same batches in the same order.

    Args:
      config: the recipe's `data` section (`LoaderConfig`).
      batch_spec: field → shape and dtype of one example; only these fields are made. Known are image [s, s, 3] in
        [-1, 1], mask [s, s, 1] (1 is to be painted), depth [s, s, 1], mesh [s, s, 1], skeleton [s, s, 3], keypoints
        [21, 2] (pixels of the example), keypoints_valid [] (whether there are any), keypoints_known [21] (which have a
        place to learn from), keypoints_weight [21] (the record's confidence, 0 without a place), keypoints_confidence
        [21] (0 also of those that cannot be seen in the picture), box_side [] (longer side of the tight box, pixels),
        pose [16, 3] (axis-angle as the example shows the hand), betas [10], mesh_known [] (whether there are these
        two), keypoints_3d [21, 3] (metres from the wrist), keypoints_3d_known [21], is_right [], input_ids
        [max_length], hand_tokens [max_length] (1 where they are of words on hands); encoded data have latents
        [h, w, c] and hidden_latents [h, w, c] in place of image.
      batch_size: of the global batch.
      seed: of order and augmentation.
      split: "train", or "eval" for the plain window and mask of repair.
      process_index: of this process.
      process_count: must divide `batch_size`.

    Returns:
      An IterDataset whose iterator has `get_state` and `set_state`.

    Raises:
      ConfigError: a field, shape or size that does not fit.
      InputError: no such records, or records without a field asked for.
    """
    options = LoaderConfig.from_config(config)
    make = _encoded_examples if options.encoded else make_examples
    share = share_of_batches(make(options, batch_spec, seed, split), batch_size, process_index, process_count)
    if "skeleton" in batch_spec:
        share = share.map(functools.partial(add_skeletons, names=tuple(batch_spec), size=options.image_size))
    return share.to_iter_dataset(
        grain.ReadOptions(num_threads=options.read_threads, prefetch_buffer_size=_BATCHES_AHEAD)
    )


def share_of_batches(
    examples: grain.MapDataset, batch_size: int, process_index: int, process_count: int
) -> grain.MapDataset:
    """This process's rows of the batches of an endless stream.

    Raises:
      ConfigError: processes that do not divide the batch.
    """
    if batch_size % process_count:
        raise ConfigError(f"batch_size {batch_size} cannot be divided among {process_count} processes")
    # the stream is endless; keeping a remainder of it would divide its length as a float, which overflows for batch 1
    return examples.batch(batch_size // process_count, drop_remainder=True)[process_index::process_count]


def make_examples(
    options: LoaderConfig, batch_spec: Mapping[str, jax.ShapeDtypeStruct], seed: int, split: str
) -> grain.MapDataset:
    """Makes the endless stream of examples, not yet in batches; arguments and errors as of `make_loader`."""
    make_example = ExampleMaker(options, batch_spec, training=split == "train")
    sources, weights = open_sources(options.path, split)
    _check(make_example(sources[0][0], np.random.default_rng(0)), batch_spec)
    datasets = [_endless(source, seed + number, options.shuffle) for number, source in enumerate(sources)]
    examples = grain.MapDataset.mix(datasets, weights) if len(datasets) > 1 else datasets[0]
    return examples.seed(seed).random_map(make_example)


def _encoded_examples(
    options: LoaderConfig, batch_spec: Mapping[str, jax.ShapeDtypeStruct], seed: int, split: str
) -> grain.MapDataset:
    source = open_encoded(options.path, split, without_skeleton(batch_spec))
    _check(source[0], batch_spec)
    return _endless(source, seed, options.shuffle)


def open_sources(paths: str, split: str) -> tuple[list[RecordSource], list[float]]:
    """The data sets of `data.path` that have the split, and the share of each: its number of records times its weight.

    Raises:
      ConfigError: a weight that is no number.
      InputError: none has the split, or one is no data set.
    """
    if not paths.strip():
        raise InputError("data.path is empty; prepare records with launch.precompute and name their folder")
    sources, weights = [], []
    for item in paths.split(","):
        path, _, weight = item.strip().partition(_WEIGHT_MARK)
        try:
            factor = float(weight or 1)
        except ValueError:
            raise ConfigError(f"data.path: {weight!r} in {item!r} is not a weight; write FOLDER@NUMBER") from None
        source = open_records(path, split)
        if source is not None and factor > 0:
            sources.append(source)
            weights.append(len(source) * factor)
    if not sources:
        raise InputError(f"{paths}: no records in the {split!r} split; prepare more pictures or another fraction")
    return sources, [weight / sum(weights) for weight in weights]


def _endless(source: Sequence[Any], seed: int, shuffle: bool) -> grain.MapDataset:
    dataset = grain.MapDataset.source(source)
    return (dataset.shuffle(seed=seed % 2**32) if shuffle else dataset).repeat()


def _check(example: Example, batch_spec: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    for name, spec in batch_spec.items():
        if name == "skeleton":
            continue
        made = example[name]
        if made.shape != spec.shape or made.dtype != spec.dtype:
            raise ConfigError(
                f"the task takes {name} {spec.dtype}{list(spec.shape)}, data gives {made.dtype}{list(made.shape)}; "
                "set data.image_size and data.max_length to the model's"
            )

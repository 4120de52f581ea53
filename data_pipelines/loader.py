"""Batches for training from prepared hand records: shuffled, augmented, sharded by process, resumable."""

import dataclasses
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import jax
import ml_collections
import numpy as np
from PIL import Image

from data_pipelines.encoded import open_encoded
from data_pipelines.features import RecordSource, open_records
from data_pipelines.transforms import Augmentation, Window, draw_window, swap_sides
from handjax.conditions.crops import box_side
from handjax.conditions.pictures import inpaint_mask
from handjax.diffusion.model import find_model
from handjax.diffusion.tokenizer import Tokenizer
from handjax.errors import ConfigError, InputError
from handjax.hand.draw import draw_skeleton
from handjax.record import HandRecord

Example = dict[str, np.ndarray]
_RECORD_FIELDS = ("image", "mask", "depth", "keypoints", "keypoints_valid", "box_side", "input_ids")
_WEIGHT_MARK = "@"
_MASK_PADDING_RANGE = (0.5, 2.0)
_BATCHES_AHEAD = 4
_CAPTIONS_KEPT = 65_536


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """The fields of a recipe's `data` section.

    Attributes:
      path: folders of prepared records, separated by commas. Records of "folder@3" are seen three times as often.
      image_size: side of the examples in pixels.
      shuffle: whether every pass over the records has its own order.
      augment: whether the training split is augmented by the four fields that follow (see `Augmentation`).
      crop_scale, max_shift, max_rotation, flip_prob: see `Augmentation`.
      full_mask_prob: how often a training example's whole picture is to be painted.
      tokenizer: folder of the CLIP tokenizer for `input_ids`, or its name in the package's assets.
      max_length: number of tokens of a caption.
      read_threads: threads that make batches ahead of time.
      encoded: whether `path` is one folder of encoded examples (`launch.encode`); augmentation is then in them.
      loader: names this module in the recipe.
    """

    path: str
    image_size: int = 512
    shuffle: bool = True
    augment: bool = True
    crop_scale: tuple[float, float] = (1.3, 1.9)
    max_shift: float = 0.15
    max_rotation: float = 15.0
    flip_prob: float = 0.5
    full_mask_prob: float = 0.0
    tokenizer: str = ""
    max_length: int = 77
    read_threads: int = 2
    encoded: bool = False
    loader: str = ""

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "LoaderConfig":
        """Reads the recipe's section.

        Raises:
          ConfigError: a field that this loader does not know.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(config) - known)
        if unknown:
            raise ConfigError(
                f"data.{unknown[0]} is unknown to data_pipelines.loader; it has {', '.join(sorted(known))}"
            )
        return cls(**dict(config))


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
        [-1, 1], mask [s, s, 1] (1 is to be painted), depth [s, s, 1], skeleton [s, s, 3], keypoints [21, 2] (pixels of
        the example), keypoints_valid [], box_side [] (longer side of the tight box, pixels), input_ids [max_length];
        encoded data have latents [h, w, c] and hidden_latents [h, w, c] in place of image.
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
    if batch_size % process_count:
        raise ConfigError(f"batch_size {batch_size} cannot be divided among {process_count} processes")
    make_examples = _encoded_examples if options.encoded else _examples
    examples = make_examples(options, batch_spec, seed, split)
    # the stream is endless; keeping a remainder of it would divide its length as a float, which overflows for batch 1
    batches = examples.batch(batch_size // process_count, drop_remainder=True)
    share = batches[process_index::process_count]
    if "skeleton" in batch_spec:
        share = share.map(functools.partial(_add_skeletons, names=tuple(batch_spec), size=options.image_size))
    return share.to_iter_dataset(
        grain.ReadOptions(num_threads=options.read_threads, prefetch_buffer_size=_BATCHES_AHEAD)
    )


def _examples(
    options: LoaderConfig, batch_spec: Mapping[str, jax.ShapeDtypeStruct], seed: int, split: str
) -> grain.MapDataset:
    make_example = _ExampleMaker(options, batch_spec, training=split == "train")
    sources, weights = _open_sources(options.path, split)
    _check(make_example(sources[0][0], np.random.default_rng(0)), batch_spec)
    datasets = [_endless(source, seed + number, options.shuffle) for number, source in enumerate(sources)]
    examples = grain.MapDataset.mix(datasets, weights) if len(datasets) > 1 else datasets[0]
    return examples.seed(seed).random_map(make_example)


def _encoded_examples(
    options: LoaderConfig, batch_spec: Mapping[str, jax.ShapeDtypeStruct], seed: int, split: str
) -> grain.MapDataset:
    source = open_encoded(options.path, split, _made_from_records(batch_spec))
    _check(source[0], batch_spec)
    return _endless(source, seed, options.shuffle)


def _made_from_records(batch_spec: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.ShapeDtypeStruct]:
    """The fields to make for each example; the skeleton is drawn for the whole batch at once, from its keypoints."""
    fields = {name: spec for name, spec in batch_spec.items() if name != "skeleton"}
    if "skeleton" not in batch_spec:
        return fields
    return {
        "keypoints": jax.ShapeDtypeStruct((21, 2), np.float32),
        "keypoints_valid": jax.ShapeDtypeStruct((), np.bool_),
    } | fields


def _open_sources(paths: str, split: str) -> tuple[list[RecordSource], list[float]]:
    """The data sets that have the split, and the share of each: its number of records times its weight."""
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


class _ExampleMaker:
    """Makes the fields of one example from a record and the example's own randomness."""

    def __init__(self, options: LoaderConfig, batch_spec: Mapping[str, jax.ShapeDtypeStruct], training: bool):
        self._names = set(_made_from_records(batch_spec))
        unknown = sorted(self._names - set(_RECORD_FIELDS))
        if unknown:
            raise ConfigError(f"the task asks for {unknown[0]!r}; records give {', '.join(_RECORD_FIELDS)}, skeleton")
        self._options = options
        self._training = training
        self._augmentation = (
            Augmentation(options.crop_scale, options.max_shift, options.max_rotation, options.flip_prob)
            if training and options.augment
            else Augmentation()
        )
        self._tokenize = _tokenizer(options.tokenizer, options.max_length)

    def __call__(self, record: HandRecord, rng: np.random.Generator) -> Example:
        record_side = Image.open(io.BytesIO(record.image)).width
        window = draw_window(record_side, self._options.image_size, self._augmentation, rng)
        makers: dict[str, Callable[[], np.ndarray]] = {
            "image": lambda: window.photo(record.image),
            "mask": lambda: self._mask(record, window, rng)[..., None],
            "depth": lambda: window.map(_need(record, "depth"))[..., None],
            "keypoints": lambda: _keypoints(record, window),
            "keypoints_valid": lambda: np.array(record.keypoints_2d is not None),
            "box_side": lambda: np.array(box_side(_keypoints(record, window)), np.float32),
            "input_ids": lambda: self._tokenize(_caption(record, window)),
        }
        return {name: makers[name]() for name in sorted(self._names)}

    def _mask(self, record: HandRecord, window: Window, rng: np.random.Generator) -> np.ndarray:
        size = window.size
        if self._training and rng.random() < self._options.full_mask_prob:
            return np.ones((size, size), np.float32)
        padding = rng.uniform(*_MASK_PADDING_RANGE, 4) if self._training and self._options.augment else 1.0
        depth = window.map(_need(record, "depth"))
        # without keypoints the hand's extent is that of its mesh
        points = np.argwhere(depth)[:, ::-1] if record.keypoints_2d is None else _keypoints(record, window)
        return inpaint_mask(depth, points, padding)


def _need(record: HandRecord, name: str) -> Any:
    value = getattr(record, name)
    if value is None:
        raise InputError(f"record {record.id} has no {name}, which the task needs; prepare it with launch.precompute")
    return value


def _keypoints(record: HandRecord, window: Window) -> np.ndarray:
    """Keypoints in the window; NaN would poison a batch, so a record without them has all in the centre, not valid."""
    if record.keypoints_2d is None:
        return np.full((21, 2), window.size / 2, np.float32)
    return window.points(record.keypoints_2d[:, :2])


def _caption(record: HandRecord, window: Window) -> str:
    caption = record.caption or ""
    return swap_sides(caption) if window.mirrored else caption


def _add_skeletons(batch: Example, names: tuple[str, ...], size: int) -> Example:
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        skeletons = np.asarray(_draw_skeletons(batch["keypoints"], batch["keypoints_valid"], size))
    batch = batch | {"skeleton": skeletons}
    return {name: batch[name] for name in names}


@functools.partial(jax.jit, static_argnames="size")
def _draw_skeletons(keypoints, valid, size: int):
    return jax.vmap(lambda points, seen: draw_skeleton(points, size, size, seen * jax.numpy.ones(21)))(keypoints, valid)


def _tokenizer(folder: str, max_length: int) -> Callable[[str], np.ndarray]:
    tokenizer = Tokenizer(str(find_model(folder)), max_length)

    @functools.lru_cache(maxsize=_CAPTIONS_KEPT)
    def tokenize(caption: str) -> np.ndarray:
        return tokenizer([caption])[0]

    return tokenize

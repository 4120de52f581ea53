"""Feature maps of hands with their labels: what HandAnat's head learns from, made once from records.

The landmark network costs a step several times what the head costs. What augmentation would draw anew in every pass is
drawn once here.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from data_pipelines.loader import share_of_batches
from data_pipelines.malformed.edits import BY_NAME
from handjax.anatomy.head import COUNTS, KINDS, NOT_COUNTED, cut_hand, feature_maps, head_region, load_landmark_network
from handjax.errors import InputError
from handjax.files import atomic_write
from handjax.images import decode_image
from handjax.perception.regions import Picture, Region
from handjax.record import HandRecord

BATCH = 32
MOST_TURN, MOST_SHIFT, MOST_SCALE = 0.3, 0.06, 0.15
"""By which a region is moved, as malformed hands mislead detectors: radians, shares of the side."""
LEAST_LIGHT, MOST_LIGHT, MOST_TINT = 0.6, 1.35, 0.12


def write_maps(records: Sequence[HandRecord], folder: Path, seed: int) -> int:
    """Writes one example for each record.

    Args:
      records: with keypoints and square pictures of one size; those without an edit are normal hands.
      folder: is made; holds one array a field.
      seed: of regions and colours.

    Returns:
      The number of examples.
    """
    landmark = load_landmark_network()
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        batches = (_encode(landmark, batch, rng) for batch in _batches(records))
        for number, batch in enumerate(tqdm(batches, total=-(-len(records) // BATCH), unit="batch", disable=None)):
            for name, values in batch.items():
                if name not in arrays:  # on disk: all of them fill many gigabytes
                    shape, path = (len(records), *values.shape[1:]), temporary / f"{name}.npy"
                    arrays[name] = np.lib.format.open_memmap(path, "w+", values.dtype, shape)
                arrays[name][number * BATCH :][: len(values)] = values
    return len(records)


def label(record: HandRecord) -> tuple[int, int]:
    """Numbers of a record's kind and of its count of fingers, which is NOT_COUNTED where no edit tells it."""
    if record.edit is None:
        return KINDS.index("normal"), NOT_COUNTED
    fingers = record.fingers if record.fingers in COUNTS else None
    return KINDS.index(BY_NAME[record.edit].kind), COUNTS.index(fingers)


def _batches(records: Sequence[HandRecord]) -> Iterator[list[HandRecord]]:
    for start in range(0, len(records), BATCH):
        yield [records[number] for number in range(start, min(start + BATCH, len(records)))]


def _encode(landmark: Any, records: list[HandRecord], rng: np.random.Generator) -> dict[str, np.ndarray]:
    padded = records + records[:1] * (BATCH - len(records))
    images = np.stack([decode_image(record.image, record.id) for record in padded])
    points = np.stack([_keypoints(record) for record in padded])
    mirrored = rng.random(BATCH) < 0.5
    images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    points = np.where(mirrored[:, None, None], points * [-1, 1] + [images.shape[2], 0], points)
    moves = rng.uniform(-1, 1, (BATCH, 4)) * [MOST_TURN, MOST_SHIFT, MOST_SHIFT, MOST_SCALE]
    light = np.exp(rng.uniform(np.log(LEAST_LIGHT), np.log(MOST_LIGHT), (BATCH, 1)))
    tint = light * (1 + rng.uniform(-MOST_TINT, MOST_TINT, (BATCH, 3)))
    maps = _maps(landmark, images, points.astype(np.float32), moves.astype(np.float32), tint.astype(np.float32))
    kinds, counts = np.array([label(record) for record in records], np.int32).T
    return {name: np.asarray(value[: len(records)]) for name, value in maps.items()} | {"kind": kinds, "count": counts}


def _keypoints(record: HandRecord) -> Float[np.ndarray, "21 2"]:
    if record.keypoints_2d is None:
        raise InputError(f"record {record.id} has no keypoints_2d, which say where its hand is; prepare it again")
    return record.keypoints_2d[:, :2]


@jax.jit
def _maps(landmark, images, points, moves, tint):
    size = jnp.array(images.shape[1:3])

    def crop(image, points, moves, tint):
        region = head_region(points)
        moved = Region(
            center=region.center + region.side * moves[1:3],
            side=region.side * (1 + moves[3]),
            rotation=region.rotation + moves[0],
        )
        return jnp.clip(cut_hand(Picture(image.reshape(-1, 3), size), moved) * tint, 0, 1)

    maps = feature_maps(landmark, jax.vmap(crop)(images, points, moves, tint))
    return jax.tree.map(lambda x: x.astype(jnp.float16), maps)


class MapSource(Sequence[dict[str, np.ndarray]]):
    """Examples of folders that `write_maps` wrote, by number."""

    def __init__(self, folders: Sequence[Path], names: Sequence[str]):
        self._folders = folders
        self._arrays = [{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names} for folder in folders]
        self._ends = np.cumsum([len(arrays[names[0]]) for arrays in self._arrays])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number):
        folder = int(np.searchsorted(self._ends, number, side="right"))
        row = number - (self._ends[folder - 1] if folder else 0)
        return {name: np.asarray(array[row]) for name, array in self._arrays[folder].items()}

    def __repr__(self) -> str:
        return f"MapSource({[str(folder) for folder in self._folders]})"


def make_loader(
    config: ml_collections.ConfigDict,
    batch_spec: Mapping[str, jax.ShapeDtypeStruct],
    batch_size: int,
    seed: int,
    split: str,
    process_index: int = 0,
    process_count: int = 1,
) -> grain.IterDataset:
    """Makes the endless stream of this process's batches of `config.path`, as `data_pipelines.loader.make_loader`.

    The path names folders of `write_maps`' splits, separated by commas.

    Raises:
      ConfigError: processes that do not divide the batch.
      InputError: a folder has no such split.
    """
    folders = [Path(path) / split for path in config.path.split(",")]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no feature maps of hands; make them by launch.assets.anatomy_head")
    dataset = grain.MapDataset.source(MapSource(folders, tuple(batch_spec))).shuffle(seed=seed % 2**32).repeat()
    return share_of_batches(dataset, batch_size, process_index, process_count).to_iter_dataset(
        grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
    )

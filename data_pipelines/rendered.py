"""Rendered hands as a TFDS data set: any number, exact ground truth, the same again from the same seed."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from data_pipelines.encoding import jpeg, png, to_bytes
from data_pipelines.features import record_features, to_example
from data_pipelines.scene import render_scenes
from data_pipelines.skin import SkinMap, skin_map
from data_pipelines.splits import EVAL_FRACTION, split_names
from handjax.hand.describe import describe_hand, with_article
from handjax.hand.model import HandModel, load_open_hand, mirror_pose
from handjax.record import HandRecord, Side

SIZE = 192
BATCH = 16
LICENCE = "CC0-1.0"


@dataclasses.dataclass
class RenderedConfig(tfds.core.BuilderConfig):
    """Number of hands, seed, side of the pictures in pixels, and the share held out."""

    name: str = "default"
    count: int = 1000
    seed: int = 0
    size: int = SIZE
    eval_fraction: float = EVAL_FRACTION


class RenderedHands(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of rendered hands; give it a `RenderedConfig` and file_format="array_record"."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="The open hand of handjax in random poses, shapes, skins, lights and surroundings.",
            features=record_features(),
            license=LICENCE,
        )

    def _split_generators(self, dl_manager):
        names = [str(number) for number in range(self.builder_config.count)]
        splits = split_names(names, self.builder_config.eval_fraction)
        return {split: self._generate_examples([int(name) for name in part], split) for split, part in splits.items()}

    def _generate_examples(self, numbers: Sequence[int], split: str) -> Iterator[tuple[str, dict]]:
        records = rendered_records(numbers, self.builder_config.seed, self.builder_config.size)
        for record in tqdm(records, split, total=len(numbers), unit="hand"):
            yield record.id, to_example(record)


def rendered_records(numbers: Sequence[int], seed: int, size: int = SIZE) -> Iterator[HandRecord]:
    """Renders hands.

    Args:
      numbers: which hands; hand n of a seed is always the same.
      seed: of all hands.
      size: side of the pictures in pixels.

    Yields:
      One record a number, with every field.
    """
    forearm, hand, parts = _arm()
    key = jax.random.key(seed)
    for first in range(0, len(numbers), BATCH):
        part = list(numbers[first : first + BATCH])
        padded = jnp.array(part + part[-1:] * (BATCH - len(part)))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, padded)
        scenes = jax.device_get(render_scenes(keys, forearm, hand, parts, size))._asdict()
        for place, number in enumerate(part):
            yield _record({name: values[place] for name, values in scenes.items()}, seed, number)


@functools.cache
def _arm() -> tuple[HandModel, HandModel, SkinMap]:
    forearm = load_open_hand("right", "forearm")
    return forearm, load_open_hand("right", "hand"), skin_map(forearm)


def _record(scene: dict[str, np.ndarray], seed: int, number: int) -> HandRecord:
    """Encodes a `Scene`; every second hand, by the parity of its number, is mirrored into a left one."""
    side: Side = "left" if number % 2 else "right"
    scene = _mirrored(scene) if side == "left" else scene
    ones = np.ones((21, 1), np.float32)
    return HandRecord(
        id=f"rendered-{seed}-{number:07d}",
        image=jpeg(to_bytes(scene["image"])),
        keypoints_2d=np.concatenate([scene["keypoints"], ones], axis=1),
        keypoints_3d=np.concatenate([scene["keypoints_3d"], ones], axis=1),
        side=side,
        hand_model="open_hand",
        pose=scene["pose"],
        betas=scene["betas"],
        translation=scene["translation"],
        camera=scene["camera"],
        mask=png(scene["mask"]),
        depth=png(scene["depth"]),
        skeleton=png(scene["skeleton"]),
        mesh=png(scene["mesh"]),
        caption=f"a rendered photo of {with_article(describe_hand(scene['keypoints_3d'], side))}",
        source=f"rendered:{seed}",
        licence=LICENCE,
    )


def _mirrored(scene: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    flip = np.array([-1.0, 1.0, 1.0], np.float32)
    size = len(scene["image"])
    focal_x, focal_y, center_x, center_y = scene["camera"]
    return {name: scene[name][:, ::-1] for name in ("image", "mask", "depth", "skeleton", "mesh")} | {
        "keypoints": scene["keypoints"] * flip[:2] + np.array([size, 0.0], np.float32),
        "keypoints_3d": scene["keypoints_3d"] * flip,
        "pose": np.asarray(mirror_pose(jnp.asarray(scene["pose"]))),
        "betas": scene["betas"],
        "translation": scene["translation"] * flip,
        "camera": np.array([focal_x, focal_y, size - center_x, center_y], np.float32),
    }

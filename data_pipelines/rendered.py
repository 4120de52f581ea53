"""Rendered hands as a job: any number, exact ground truth, the same again from the same seed."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.encoding import jpeg, png, to_bytes
from data_pipelines.scene import render_scenes
from data_pipelines.shards import RecordMaker
from data_pipelines.skin import SkinMap, skin_map
from data_pipelines.splits import EVAL_FRACTION, split_names
from handjax.hand.convert import HandParameters
from handjax.hand.describe import describe_hand, with_article
from handjax.hand.model import HandModel, load_open_hand, mirror_pose
from handjax.record import HandRecord, Side

SIZE = 192
BATCH = 16
LICENCE = "CC0-1.0"
_SIDES: tuple[Side, ...] = ("right", "left")
_MIRROR = np.array([-1.0, 1.0, 1.0], np.float32)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class RenderedJob:
    """Rendered hands (a `Job`).

    Attributes:
      count: number of hands.
      seed: of all hands.
      size: side of the pictures in pixels.
      eval_fraction: share of the hands that is held out.
    """

    count: int
    seed: int = 0
    size: int = SIZE
    eval_fraction: float = EVAL_FRACTION

    name = "rendered_hands"
    description = "The open hand of handjax in random poses, shapes, skins, lights and surroundings."
    licence = LICENCE
    citation = None

    def settings(self) -> dict[str, Any]:
        """What all records depend on."""
        return {"seed": self.seed, "size": self.size}

    def splits(self) -> dict[str, list[str]]:
        """Numbers of the hands."""
        return split_names([str(number) for number in range(self.count)], self.eval_fraction)

    def states(self, names: Sequence[str]) -> list[Any]:
        """Nothing but their numbers sets hands apart."""
        return [None] * len(names)

    def open(self) -> RecordMaker:
        """Returns the renderer, for which nothing can fail."""
        return lambda names, failures: rendered_records(map(int, names), self.seed, self.size)


def rendered_records(numbers: Iterable[int], seed: int, size: int = SIZE) -> Iterator[HandRecord]:
    """Renders hands; every second one, by the parity of its number, is a left one.

    Args:
      numbers: which hands; hand n of a seed is always the same.
      seed: of all hands.
      size: side of the pictures in pixels.

    Yields:
      One record a number, with every field.
    """
    waiting = iter(numbers)
    while part := list(itertools.islice(waiting, BATCH)):
        yield from _records(part, [_SIDES[number % 2] for number in part], seed, size)


def posed_records(hands: Iterable[tuple[int, HandRecord]], seed: int, size: int = SIZE) -> Iterator[HandRecord]:
    """Renders hands of given sides, poses, shapes and places; all else is drawn.

    Args:
      hands: number and a record, of which the side and the open hand's pose, betas and translation are taken.
      seed: of what is drawn, as `rendered_records` has it.
      size: side of the pictures in pixels.

    Yields:
      One record a hand, with every field.
    """
    waiting = iter(hands)
    while part := list(itertools.islice(waiting, BATCH)):
        numbers, given = zip(*part, strict=True)
        values = zip(*_padded([_as_right(record) for record in given]), strict=True)
        posed = HandParameters(*(jnp.asarray(np.stack(each)) for each in values))
        yield from _records(numbers, [record.side for record in given], seed, size, posed)


def _records(
    numbers: Sequence[int], sides: Sequence[Side], seed: int, size: int, posed: HandParameters | None = None
) -> Iterator[HandRecord]:
    forearm, hand, parts = _arm()
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.array(_padded(numbers)))
    scenes = jax.device_get(render_scenes(keys, forearm, hand, parts, size, posed))._asdict()
    for place, (number, side) in enumerate(zip(numbers, sides, strict=True)):
        yield _record({name: values[place] for name, values in scenes.items()}, side, seed, number)


def _padded(items: Sequence[T]) -> list[T]:
    return [*items, *[items[-1]] * (BATCH - len(items))]


def _as_right(record: HandRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pose, betas and translation of a record's hand; a left one mirrored into a right one."""
    assert record.pose is not None and record.betas is not None and record.translation is not None
    if record.side == "right":
        return record.pose, record.betas, record.translation
    return np.asarray(mirror_pose(jnp.asarray(record.pose))), record.betas, record.translation * _MIRROR


@functools.cache
def _arm() -> tuple[HandModel, HandModel, SkinMap]:
    forearm = load_open_hand("right", "forearm")
    return forearm, load_open_hand("right", "hand"), skin_map(forearm)


def _record(scene: dict[str, np.ndarray], side: Side, seed: int, number: int) -> HandRecord:
    """Encodes a `Scene`, mirrored where the hand is to be a left one."""
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
    size = len(scene["image"])
    focal_x, focal_y, center_x, center_y = scene["camera"]
    return {name: scene[name][:, ::-1] for name in ("image", "mask", "depth", "skeleton", "mesh")} | {
        "keypoints": scene["keypoints"] * _MIRROR[:2] + np.array([size, 0.0], np.float32),
        "keypoints_3d": scene["keypoints_3d"] * _MIRROR,
        "pose": np.asarray(mirror_pose(jnp.asarray(scene["pose"]))),
        "betas": scene["betas"],
        "translation": scene["translation"] * _MIRROR,
        "camera": np.array([focal_x, focal_y, size - center_x, center_y], np.float32),
    }

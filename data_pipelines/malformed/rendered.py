"""Rendered malformed hands as a job: any number to train on, and a test set of other hands and of more edits."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.encoding import jpeg, png, to_bytes
from data_pipelines.malformed.edits import Edit, describe, draw_edit
from data_pipelines.malformed.mesh import CHAINS, finger_mesh
from data_pipelines.malformed.mesh_edits import RENDERED_EDITS, Drawn, RestingHand, draw_plan, open_angles
from data_pipelines.malformed.render import Arm, render_malformed
from data_pipelines.precompute import Failures
from data_pipelines.shards import RecordMaker
from data_pipelines.skin import skin_map
from handjax.errors import InputError
from handjax.hand.model import load_open_hand
from handjax.hand.sampling import sample_angles
from handjax.record import HandRecord, Side

SIZE = 192
BATCH = 16
TEST_COUNT = 3200
"""Hands drawn for testing; those whose edit nobody would see are left out."""
LICENCE = "CC0-1.0"
LEAST_SEEN = 0.012
"""Share of the hand's pixels by which a finger is noticed: a quarter of what the last two bones of one usually have."""
LEAST_MOVED = 0.08
"""Shares of the hand's box by which an edit moves a fingertip in the picture if it is to be noticed."""
LEAST_WIDTH = 0.35
"""Of the knuckles in the picture, in lengths of the palm, if fingers are to be counted: about half of the usual."""
MOST_BENT = np.radians(45.0)
"""Flexion of the middle joint up to which what is wrong with a finger can be seen."""
_SEEDS = {"train": 0, "eval": 1}
_TIPS = np.array([4, 8, 12, 16, 20])


@dataclasses.dataclass(frozen=True)
class MalformedJob:
    """Rendered malformed hands (a `Job`); inputs are named by split and number, as "train:12".

    Attributes:
      count: number of hands to draw for training.
      seed: of all hands; the test set of seed 0 is the one that figures are given of.
      size: side of the pictures in pixels.
      only: splits to make; none named means all.
    """

    count: int
    seed: int = 0
    size: int = SIZE
    only: tuple[str, ...] = ()

    name = "malformed_hands"
    description = "The open hand of handjax with wrong fingers, and without, rendered."
    licence = LICENCE
    citation = None

    def settings(self) -> dict[str, Any]:
        """What all records depend on."""
        return {"seed": self.seed, "size": self.size}

    def splits(self) -> dict[str, list[str]]:
        """Numbers of the hands.

        Raises:
          InputError: one of `only` is not a split.
        """
        counts = {"train": self.count, "eval": TEST_COUNT}
        chosen = self.only or tuple(counts)
        if unknown := [split for split in chosen if split not in counts]:
            raise InputError(f"malformed hands have no split {unknown[0]!r}; they have {', '.join(counts)}")
        return {split: [f"{split}:{number}" for number in range(counts[split])] for split in chosen}

    def states(self, names: Sequence[str]) -> list[Any]:
        """Nothing but their names sets hands apart."""
        return [None] * len(names)

    def open(self) -> RecordMaker:
        """Returns the renderer."""
        return lambda names, failures: malformed_records(names, self.seed, self.size, failures)


def malformed_records(names: Iterable[str], seed: int, size: int, failures: Failures) -> Iterator[HandRecord]:
    """Renders hands, malformed and normal.

    Args:
      names: which hands, as "train:12"; a name of a seed is always the same hand.
      seed: of all hands.
      size: side of the pictures in pixels.
      failures: receives the number of those whose edit is out of sight.

    Yields:
      Records with picture, mask, depth, keypoints of the hand without copies, side, edit, number of fingers and
      caption.
    """
    arm, rest = _arm()
    waiting = iter(names)
    while part := list(itertools.islice(waiting, BATCH)):
        padded = part + part[-1:] * (BATCH - len(part))
        keys = jnp.stack([_key(seed, name) for name in padded])
        usual, folded = (np.asarray(angles) for angles in _angles(keys))
        drawn = [_draw(seed, *each, rest) for each in zip(padded, usual, folded, strict=True)]
        plans = jax.tree.map(lambda *leaves: np.stack(leaves), *(d.plan for _, d in drawn))
        base = jnp.asarray(np.stack([d.usual for _, d in drawn]))
        scenes = jax.device_get(render_malformed(keys, plans, base, arm, size))._asdict()
        for place, name in enumerate(part):
            scene = {field: values[place] for field, values in scenes.items()}
            record = _record(scene, *drawn[place], seed, name)
            if record is None:
                failures.leave_out("edit out of sight")
            else:
                yield record


def random_of(seed: int, name: str) -> np.random.Generator:
    """The source of randomness that a hand's edit and then its plan are drawn from."""
    split, _, number = name.partition(":")
    return np.random.default_rng([seed, _SEEDS[split], int(number)])


@functools.cache
def _arm() -> tuple[Arm, RestingHand]:
    forearm = load_open_hand("right", "forearm")
    hand_vertices = len(load_open_hand("right", "hand").template)
    return Arm(forearm, skin_map(forearm), finger_mesh(forearm), hand_vertices), RestingHand(forearm)


@jax.jit
def _angles(keys):
    """Joint angles of an open and of any hand, by key."""
    keys = jax.vmap(jax.random.split)(keys)
    return jax.vmap(open_angles)(keys[:, 0]), jax.vmap(sample_angles)(keys[:, 1])


def _key(seed: int, name: str):
    split, _, number = name.partition(":")
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _SEEDS[split]), int(number))


def _draw(seed: int, name: str, usual: np.ndarray, folded: np.ndarray, rest: RestingHand) -> tuple[Edit, Drawn]:
    rng = random_of(seed, name)
    edit = draw_edit(rng, RENDERED_EDITS, held_out=name.startswith("eval"))
    return edit, draw_plan(rng, edit, usual, folded, rest)


def _record(scene: dict[str, np.ndarray], edit: Edit, drawn: Drawn, seed: int, name: str) -> HandRecord | None:
    """Encodes a scene; every second hand is mirrored into a left one. None where the edit cannot be seen."""
    count = _count(scene, drawn)
    if not _shows(scene, edit, drawn, count):
        return None
    side: Side = "left" if int(name.rpartition(":")[2]) % 2 else "right"
    flip, origin = (-1.0, scene["image"].shape[1]) if side == "left" else (1.0, 0.0)
    image, mask, depth = (scene[field][:, :: int(flip)] for field in ("image", "mask", "depth"))
    ones = np.ones((21, 1), np.float32)
    return HandRecord(
        id=f"malformed-{seed}-{name.replace(':', '-')}",
        image=jpeg(to_bytes(image)),
        keypoints_2d=np.concatenate([scene["keypoints"] * [flip, 1] + [origin, 0], ones], axis=1).astype(np.float32),
        keypoints_3d=np.concatenate([scene["keypoints_3d"] * [flip, 1, 1], ones], axis=1).astype(np.float32),
        side=side,
        mask=png(mask),
        depth=png(depth),
        edit=edit.name,
        fingers=count,
        caption=f"a rendered photo of {describe(edit, side, drawn.fingers, count)}",
        source=f"malformed:{seed}",
        licence=LICENCE,
    )


def _count(scene: dict[str, np.ndarray], drawn: Drawn) -> int | None:
    """Number of fingers, where all of them are in sight and the palm or its back is turned to the camera."""
    palm = scene["usual"][[5, 0]] - scene["usual"][[17, 9]]
    width, length = np.linalg.norm(palm, axis=1)
    if width < LEAST_WIDTH * length or drawn.shown is None or (scene["seen"][list(drawn.shown)] < LEAST_SEEN).any():
        return None
    return len(drawn.shown)


def _shows(scene: dict[str, np.ndarray], edit: Edit, drawn: Drawn, count: int | None) -> bool:
    """Whether somebody who looks at the picture would notice the edit."""
    if edit.kind == "normal":
        return True
    fingers = list(drawn.fingers)
    if (drawn.usual[CHAINS[[finger for finger in fingers if finger], 1], 0] > MOST_BENT).any():
        return False
    if edit.name in ("extra_finger", "missing_finger", "second_thumb"):
        return count is not None
    if (scene["seen"][fingers] < LEAST_SEEN * 0.7).any():
        return False
    if edit.name in ("forked_finger", "extra_joint"):
        return bool(scene["seen"][5] > LEAST_SEEN)
    box = np.ptp(scene["usual"], axis=0).max()
    if edit.name in ("thin_finger", "thick_finger"):
        return True
    if edit.kind == "fused":
        across = np.linalg.norm(np.diff(scene["usual"][_TIPS[fingers] - 2], axis=0), axis=1)
        return bool((across > 0.5 * LEAST_MOVED * box).all())
    moved = np.linalg.norm(scene["keypoints"] - scene["usual"], axis=1)[_TIPS[fingers]]
    return bool((moved > LEAST_MOVED * box).all())

"""Records whose meshes are what MMHMR reads from their pictures: pseudo labels, where a data set has none."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.encoding import png
from data_pipelines.precompute import CONDITION_SIZES, MAX_FIT_ERROR, Failures
from data_pipelines.prepared import PreparedRecords
from data_pipelines.shards import RecordMaker, file_hash, maker_hash
from handjax.conditions.crops import box_side
from handjax.conditions.pictures import hand_pictures
from handjax.errors import InputError, WeightsError
from handjax.hand.camera import PinholeCamera, default_camera, project
from handjax.hand.mano import load_hand
from handjax.images import decode_image
from handjax.inference.reconstruct import HandReconstructor
from handjax.inference.scene import ReconstructedHand
from handjax.perception.hands import DetectedHand
from handjax.record import HandRecord
from handjax.recovery.files import load_recovery

HandModelName = Literal["open_hand", "mano"]
_MAKERS = (
    "handjax/recovery",
    "handjax/inference/reconstruct.py",
    "handjax/inference/scene.py",
    "handjax/diffusion/attention.py",
    "handjax/diffusion/transformer.py",
)
"""What reads meshes, beside what makes all records."""


@dataclasses.dataclass(frozen=True)
class RelabelledJob:
    """Prepared records with meshes by MMHMR in place of their own (a `Job`). Pictures and splits stay.

    Attributes:
      records: what is relabelled.
      model: folder of exported weights of mmhmr.py.
      hand_model: path of the MANO file that they know; empty is the open hand.
    """

    records: PreparedRecords
    model: Path
    hand_model: str = ""

    name = "relabelled_hands"
    citation = None

    def __post_init__(self):
        if not self.model.is_dir():
            raise WeightsError(
                f"{self.model}: no such folder; give --recovery, the folder of an exported run of mmhmr.py"
            )
        load_hand(self.hand_model)  # raises where that is no MANO file

    @property
    def description(self) -> str:
        """What is in it."""
        return f"Records of {self.records.dataset} with meshes that MMHMR has read from their pictures."

    @property
    def licence(self) -> str | None:
        """Of the pictures, as the first record has it."""
        return next(iter(self.records)).licence

    def settings(self) -> dict[str, Any]:
        """The weights, and the code that runs them."""
        paths = sorted(path for path in self.model.rglob("*") if path.is_file())
        files = {path.relative_to(self.model).as_posix(): file_hash(path) for path in paths}
        hand = file_hash(Path(self.hand_model)) if self.hand_model else ""
        return {"model": files, "hand_model": hand, "makers": maker_hash(_MAKERS)}

    def splits(self) -> dict[str, list[str]]:
        """Names of the records."""
        return self.records.splits()

    def states(self, names: Sequence[str]) -> list[Any]:
        """Of the files that the records lie in."""
        return self.records.states(names)

    def open(self) -> RecordMaker:
        """Loads the network.

        Raises:
          WeightsError: a file is missing or damaged.
          ConfigError: it knows another hand model.
        """
        name: HandModelName = "mano" if self.hand_model else "open_hand"
        reconstructor = HandReconstructor(load_recovery(self.model), load_hand(self.hand_model))

        def make_records(names: Iterable[str], failures: Failures) -> Iterator[HandRecord]:
            for record in map(self.records.__getitem__, names):
                try:
                    yield relabelled(record, reconstructor, name)
                except InputError as error:
                    failures.add(Path(record.source or record.id), "not read", str(error))

        return make_records


def relabelled(record: HandRecord, reconstructor: HandReconstructor, hand_model: HandModelName) -> HandRecord:
    """The record with the mesh that the network reads, given the record's keypoints, and what the camera sees of it.

    Args:
      record: with side and keypoints.
      reconstructor: the network.
      hand_model: name of the hand model that it knows.

    Raises:
      InputError: side or keypoints are unknown, the hand is too small, or the mesh lies elsewhere than the keypoints.
    """
    if record.side is None or record.keypoints_2d is None or not np.isfinite(record.keypoints_2d[:, :2]).all():
        raise InputError(f"record {record.id} has no side or not all keypoints; prepare it with a detector's")
    image = decode_image(record.image, record.id)
    points = np.column_stack([record.keypoints_2d[:, :2], np.zeros(21)]).astype(np.float32)
    found = DetectedHand.from_landmarks(record.side, 1.0, points, np.zeros((21, 3), np.float32))
    hand, camera = reconstructor.read(image, found), default_camera(*image.shape[:2])
    places = np.asarray(project(camera, jnp.asarray(hand.keypoints)))
    error = np.linalg.norm(places - points[:, :2], axis=1).mean() / box_side(points)
    if error >= MAX_FIT_ERROR:
        raise InputError(f"record {record.id}: the mesh is off by {error:.0%} of the hand's box")
    return dataclasses.replace(
        record,
        hand_model=hand_model,
        pose=hand.pose,
        betas=hand.betas,
        translation=hand.translation,
        camera=np.concatenate([camera.focal, camera.center]).astype(np.float32),
        **_pictures(hand, camera, len(image)),
    )


def _pictures(hand: ReconstructedHand, camera: PinholeCamera, side: int) -> dict[str, Any]:
    size = next((size for size in CONDITION_SIZES if size >= side), CONDITION_SIZES[-1])
    scaled = jax.tree.map(lambda x: x * size / side, camera)
    drawn = hand_pictures(jnp.asarray(hand.vertices), jnp.asarray(hand.faces), scaled, size)
    return {name: png(np.asarray(picture)) for name, picture in drawn._asdict().items()}

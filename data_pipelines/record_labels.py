"""Labels of records as the files of published data sets need them."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handjax.errors import InputError
from handjax.hand.convert import HandParameters, convert_hand
from handjax.hand.model import HandModel, load_open_hand
from handjax.record import HandRecord, Side

MOST_OFF = 0.05
"""Mean distance of keypoints in the picture from those in space as the camera sees them, as a share of the hand's box,
from which these are in another space than the camera's."""


_MESH = ("pose", "betas", "translation")


class UnfitRecordError(InputError):
    """A record that files of a published data set cannot hold.

    Attributes:
      reason: the class that it is counted in.
    """

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class Written(NamedTuple):
    """What became of records: how many are in the files, in how many pictures, and how many were left out by reason."""

    records: int
    pictures: int
    left_out: Counter[str]


def needed(record: HandRecord, field: str) -> Any:
    """A field of a record; raises UnfitRecordError where it has none."""
    value = getattr(record, field)
    if value is None:
        raise UnfitRecordError(f"no {field}", f"record {record.id} has no {field}, without which it cannot be written")
    return value


def check_labels(record: HandRecord, mesh: bool) -> None:
    """Raises UnfitRecordError where a record lacks its side, camera or keypoints, or its mesh if that is to be written.

    Keypoints about the wrist or the hand's centre, as detectors give them, are no labels in camera space.
    """
    for field in ("side", *(_MESH if mesh else ())):
        needed(record, field)
    check_space(record)


def check_space(record: HandRecord) -> None:
    """Raises UnfitRecordError where keypoints in space are not where the camera sees them."""
    points, seen = needed(record, "keypoints_3d"), needed(record, "keypoints_2d")[:, :2]
    focal, center = np.split(np.asarray(needed(record, "camera"), np.float64), 2)
    known = np.isfinite(points[:, :3]).all(axis=1) & (points[:, 3] > 0) & np.isfinite(seen).all(axis=1)
    before = points[known, 2] > 0
    if known.any() and before.all():
        projected = focal * points[known, :2] / points[known, 2:3] + center
        off = np.linalg.norm(projected - seen[known], axis=1).mean()
        if off <= MOST_OFF * np.ptp(seen[known], axis=0).max():
            return
    raise UnfitRecordError(
        "keypoints in another space than the camera's",
        f"record {record.id}: its keypoints in space are not where the camera sees them, which these files need",
    )


def mano_parameters(record: HandRecord, mano: Mapping[Side, HandModel]) -> HandParameters:
    """MANO's parameters of a record, in camera space and relative to the flat hand; the open hand's are converted.

    Raises:
      UnfitRecordError: the record has no mesh.
    """
    side: Side = needed(record, "side")
    parameters = HandParameters(*(jnp.asarray(needed(record, name)) for name in ("pose", "betas", "translation")))
    if record.hand_model == "mano":
        return parameters
    return _convert(load_open_hand(side), mano[side], parameters)


_convert = jax.jit(convert_hand)

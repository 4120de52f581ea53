"""Predictions as the servers of FreiHAND and HO-3D want them: a zip file with one JSON document."""

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from handjax.errors import InputError
from handjax.files import atomic_write
from handjax.hand.topology import keypoint_permutation

Benchmark = Literal["freihand", "ho3d_v2", "ho3d_v3"]
DOCUMENT = "pred.json"
DECIMALS = 6
"""Metres are written to a thousandth of a millimetre."""
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class _Rules:
    """Pictures of the evaluation set, order of keypoints, and signs of the axes x right, y down, z ahead."""

    pictures: int
    order: str
    signs: tuple[int, int, int]


RULES: dict[Benchmark, _Rules] = {
    "freihand": _Rules(3960, "openpose", (1, 1, 1)),
    "ho3d_v2": _Rules(11524, "mano", (1, -1, -1)),
    "ho3d_v3": _Rules(20137, "mano", (1, -1, -1)),
}


def write_submission(
    path: str | os.PathLike,
    benchmark: Benchmark,
    keypoints: Float[np.ndarray, "_pictures 21 3"],
    vertices: Float[np.ndarray, "_pictures _vertices 3"],
) -> None:
    """Writes the predictions of a whole evaluation set.

    Args:
        path: the zip file.
        benchmark: whose server it is for.
        keypoints: in OpenPose's order, in metres before the camera (x right, y down, z ahead), in the order of the
            set's pictures.
        vertices: MANO's 778 of each hand, likewise.

    Raises:
        InputError: not one prediction for each picture, values that are no numbers, or hands behind the camera.

    Source:
        `dump` of lmb-freiburg/freihand:pred.py, and of shreyashampali/ho3d:pred.py, whose axes are OpenGL's and whose
        keypoints are in MANO's order.
    """
    rules = RULES[benchmark]
    wanted = {"keypoints": (rules.pictures, 21, 3), "vertices": (rules.pictures, 778, 3)}
    for name, values in (("keypoints", keypoints), ("vertices", vertices)):
        if values.shape != wanted[name]:
            raise InputError(
                f"{name} have shape {values.shape}; {benchmark} wants {wanted[name]}: predict every picture"
            )
        if not np.isfinite(values).all():
            raise InputError(f"{name} have values that are no numbers; give every picture a hand, a mean one at worst")
        if (values[..., 2] < 0).all(axis=1).any():
            raise InputError(f"{name} of some hands lie behind the camera; z is ahead, in metres")
    ordered = keypoints[:, keypoint_permutation("openpose", rules.order)]
    lists = [np.round(values * rules.signs, DECIMALS).tolist() for values in (ordered, vertices)]
    with atomic_write(Path(path)) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(DOCUMENT, _FIRST_DAY), json.dumps(lists), zipfile.ZIP_DEFLATED)

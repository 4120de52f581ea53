"""Records in the files of HIC that InterWild measures hands by: HIC.json, pictures, and MANO's meshes.

HIC has one camera and its files do not name it, so that pictures become what that camera would have seen: pictures of
640 x 480 in which a record is a window before black. Meshes stay where they are.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_pipelines.datasets.annotation import HALF_PIXEL, ManoHand, project_points
from data_pipelines.datasets.mano import posed_hand
from data_pipelines.record_labels import (
    UnfitRecordError,
    Written,
    check_labels,
    fit_records,
    mano_parameters,
    needed,
)
from handjax.files import write_json
from handjax.hand.mesh_files import HALF_TURN, Mesh, write_mesh
from handjax.hand.model import HandModel
from handjax.images import decode_image, write_image
from handjax.record import HandRecord, Side

ANNOTATIONS = "HIC.json"
SEQUENCE = "handjax"
SIZE = (640, 480)
CAMERA = np.array([525.0, 525.0, 319.5 + HALF_PIXEL, 239.5 + HALF_PIXEL])
"""fx, fy, cx, cy in pixels."""
_SIDES: tuple[Side, ...] = ("right", "left")
_FINER = 2
"""Samples of a pixel in each direction."""


def write_hic(records: Iterable[HandRecord], folder: Path, mano: Mapping[Side, HandModel]) -> Written:
    """Writes HIC.json with pictures and meshes beside it; its place in InterWild is data/HIC/data.

    Args:
      records: with keypoints in space, mesh, side and camera, in sight of HIC's camera; others are left out.
      folder: made when missing; HIC.json is replaced.
      mano: your MANO models; parameters of the open hand are converted for them.

    Returns:
      How many records are written, and how many left out by reason.

    Raises:
      BackendError: trimesh, which writes meshes, is not installed.
      InputError: there is no record that can be written.

    Source: github.com/facebookresearch/InterWild, data/HIC/HIC.py: meshes are PLY files of 778 vertices, metres, in
      camera space; focal length 525, principal point (319.5, 239.5), counted from the centre of the first pixel.
    """
    images, annotations, left_out = [], [], Counter[str]()
    for number, record in enumerate(fit_records(records, _check, left_out, folder)):
        side = needed(record, "side")
        picture = f"{SEQUENCE}/1/rgb/{number:05d}.png"
        mesh = f"{SEQUENCE}/1/mano/{number:05d}_{side}.ply"
        posed = posed_hand(mano[side], ManoHand(*jax.device_get(mano_parameters(record, mano))))
        vertices = np.asarray(posed.vertices)
        # files of `write_mesh` have the axes of viewers, HIC's have the camera's
        write_mesh(folder / mesh, Mesh(vertices * HALF_TURN, np.asarray(mano[side].faces)))
        write_image(folder / picture, seen_by_hic(record))
        width, height = SIZE
        images.append({"id": number, "file_name": picture, "width": width, "height": height})
        meshes = {f"{each}_mano_path": mesh if each == side else None for each in _SIDES}
        annotations.append({"id": number, "image_id": number, "hand_type": side, **meshes})
    write_json(folder / ANNOTATIONS, {"images": images, "annotations": annotations})
    return Written(len(images), left_out)


def seen_by_hic(record: HandRecord) -> UInt8[np.ndarray, "480 640 3"]:
    """A record's picture as HIC's camera sees it; black where the record does not reach."""
    camera = np.asarray(needed(record, "camera"), np.float64)
    image = Image.fromarray(decode_image(record.image, record.id))
    ratio = camera[:2] / CAMERA[:2]
    factor = max(int(ratio.min()), 1)
    image, scale = image.reduce(factor), ratio / _FINER
    shift = camera[2:] - ratio * CAMERA[2:]
    rows = np.column_stack([np.diag(scale), shift]) / factor
    finer = SIZE[0] * _FINER, SIZE[1] * _FINER
    seen = image.transform(finer, Image.Transform.AFFINE, rows.ravel().tolist(), Image.Resampling.BILINEAR)
    return np.asarray(seen.reduce(_FINER))


def _check(record: HandRecord) -> None:
    """Raises UnfitRecordError where labels are missing, or a keypoint is out of sight of HIC's camera."""
    check_labels(record, mesh=True)
    places = project_points(needed(record, "keypoints_3d")[:, :3], CAMERA)
    if (places < 0).any() or (places > SIZE).any():
        raise UnfitRecordError(
            "out of sight of HIC's camera", f"record {record.id}: HIC's camera would not see all of its hand"
        )

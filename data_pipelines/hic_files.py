"""Records in the files of HIC that InterWild measures hands by: HIC.json, pictures, and MANO's meshes.

HIC has one camera and its files do not name it, so that pictures become what that camera would have seen: pictures of
640 x 480 in which records are windows before black. Meshes stay where they are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data_pipelines.datasets.annotation import HALF_PIXEL, ManoHand, project_points
from data_pipelines.datasets.mano import posed_hand
from data_pipelines.record_labels import UnfitRecordError, Written, check_labels, mano_parameters, needed
from data_pipelines.shared_pictures import fit_pictures, hand_type
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


def write_hic(records: Sequence[HandRecord], folder: Path, mano: Mapping[Side, HandModel]) -> Written:
    """Writes HIC.json with pictures and meshes beside it; its place in InterWild is data/HIC/data.

    A right and a left hand of one picture become one picture of interacting hands.

    Args:
      records: with keypoints in space, mesh, side and camera, in sight of HIC's camera; others are left out, and so
        are pictures of more hands.
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
    count = 0
    for number, hands in enumerate(fit_pictures(records, _check, left_out, folder)):
        picture = f"{SEQUENCE}/1/rgb/{number:05d}.png"
        meshes: dict[str, str | None] = {f"{side}_mano_path": None for side in _SIDES}
        for record in hands:
            meshes[f"{record.side}_mano_path"] = _write_mesh(record, folder, number, mano)
        write_image(folder / picture, seen_by_hic(hands[0]))
        width, height = SIZE
        images.append({"id": number, "file_name": picture, "width": width, "height": height})
        annotations.append({"id": number, "image_id": number, "hand_type": hand_type(hands), **meshes})
        count += len(hands)
    write_json(folder / ANNOTATIONS, {"images": images, "annotations": annotations})
    return Written(count, len(images), left_out)


def _write_mesh(record: HandRecord, folder: Path, number: int, mano: Mapping[Side, HandModel]) -> str:
    """Writes the mesh of a hand; returns its path below `folder`."""
    side: Side = needed(record, "side")
    name = f"{SEQUENCE}/1/mano/{number:05d}_{side}.ply"
    posed = posed_hand(mano[side], ManoHand(*jax.device_get(mano_parameters(record, mano))))
    # files of `write_mesh` have the axes of viewers, HIC's have the camera's
    write_mesh(folder / name, Mesh(np.asarray(posed.vertices) * HALF_TURN, np.asarray(mano[side].faces)))
    return name


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

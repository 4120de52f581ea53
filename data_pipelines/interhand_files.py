"""Records in InterHand2.6M's files, which InterWild and others train on.

Every picture is a frame and a camera of its own; cameras stand at the origin, so that the world is their space.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from data_pipelines.record_labels import Written, check_labels, mano_parameters, needed
from data_pipelines.shared_pictures import fit_pictures, hand_type
from handjax.files import atomic_write, write_json
from handjax.hand.mano import relative_pose
from handjax.hand.model import HandModel
from handjax.hand.topology import keypoint_permutation
from handjax.images import decode_image
from handjax.record import HandRecord, Side

CAPTURE, SEQUENCE, SUBJECT = 0, "handjax", 0
PREFIX = "InterHand2.6M"
_TO_INTERHAND = keypoint_permutation("openpose", "interhand")
_SIDES: tuple[Side, ...] = ("right", "left")
_MILLIMETRES = 1e3
_JPEG = b"\xff\xd8"
Fields = dict[str, Any]
Hands = tuple[HandRecord, ...]


def write_interhand(
    records: Sequence[HandRecord], folder: Path, part: str, mano: Mapping[Side, HandModel] | None = None
) -> Written:
    """Writes images/PART, annotations/PART and InterWild's list of annotations below a folder.

    A right and a left hand of one picture become one picture of interacting hands.

    Args:
      records: with keypoints in space, side and camera, and a mesh where `mano` is given; others are left out, and so
        are pictures of more hands.
      folder: which gets them; annotations of the part are replaced.
      part: "train", "val" or "test".
      mano: your MANO models; parameters of the open hand are converted for them. Without them only records that have
        MANO's own would have a fit, and none is written: the file of fits is empty.

    Returns:
      How many records are written, and how many left out by reason.

    Raises:
      InputError: there is no record that can be written.

    Source:
      github.com/facebookresearch/InterHand2.6M, version 1.0: README and DATASET.md; camera space is
      camrot (X - campos), MANO is in metres and relative to the mean pose. github.com/facebookresearch/InterWild,
      data/InterHand26M/InterHand26M.py: reads the annotations whose numbers are in aid_human_annot_PART.txt.
      github.com/PengfeiRen96/DIR, dataset/prepare_data.py: keeps interacting hands that both have a fit.
    """
    images, annotations, left_out = [], [], Counter[str]()
    cameras: Fields = {name: {} for name in ("campos", "camrot", "focal", "princpt")}
    joints: Fields = {}
    fits: Fields = {}
    count = 0
    check = functools.partial(check_labels, mesh=mano is not None)
    for number, hands in enumerate(fit_pictures(records, check, left_out, folder)):
        name, size = _write_picture(hands[0], folder / "images" / part, number)
        images.append(_image(number, name, size))
        annotations.append(_annotation(number, hands, size))
        joints[str(number)] = _joints(hands)
        for key, value in _camera(hands[0]).items():
            cameras[key][str(number)] = value
        if mano is not None:
            fits[str(number)] = _fits(hands, mano)
        count += len(hands)
    documents = {
        "data": {"images": images, "annotations": annotations},
        "camera": {str(CAPTURE): cameras},
        "joint_3d": {str(CAPTURE): joints},
        "MANO_NeuralAnnot": {str(CAPTURE): fits},  # also without a fit: InterWild opens it before it looks for one
    }
    for key, document in documents.items():
        write_json(folder / "annotations" / part / f"{PREFIX}_{part}_{key}.json", document)
    with atomic_write(folder / f"aid_human_annot_{part}.txt") as temporary:
        temporary.write_text("".join(f"{annotation['id']}\n" for annotation in annotations))
    return Written(count, len(images), left_out)


def _write_picture(record: HandRecord, folder: Path, number: int) -> tuple[str, tuple[int, int]]:
    """Writes the picture as it is; returns its path below `folder`, its width and its height."""
    height, width = decode_image(record.image, record.id).shape[:2]
    ending = "jpg" if record.image.startswith(_JPEG) else "png"
    name = f"Capture{CAPTURE}/{SEQUENCE}/cam{number}/image{number}.{ending}"
    with atomic_write(folder / name) as temporary:
        temporary.write_bytes(record.image)
    return name, (width, height)


def _image(number: int, name: str, size: tuple[int, int]) -> Fields:
    place = {"capture": CAPTURE, "subject": SUBJECT, "seq_name": SEQUENCE, "camera": str(number), "frame_idx": number}
    return {"id": number, "file_name": name, "width": size[0], "height": size[1], **place}


def _annotation(number: int, hands: Hands, size: tuple[int, int]) -> Fields:
    points = np.concatenate([needed(record, "keypoints_2d") for record in hands])
    known = points[np.isfinite(points[:, :2]).all(axis=1), :2]
    low, high = np.clip(known.min(axis=0), 0, size), np.clip(known.max(axis=0), 0, size)
    return {
        "id": number,
        "image_id": number,
        "bbox": [*map(float, low), *map(float, high - low)],
        "joint_valid": _both(hands, _seen).astype(int).tolist(),
        "hand_type": hand_type(hands),
        "hand_type_valid": 1,
    }


def _joints(hands: Hands) -> Fields:
    return {
        "world_coord": (_both(hands, _world) * _MILLIMETRES).tolist(),
        "joint_valid": _both(hands, _known).astype(int).tolist(),
        "hand_type": hand_type(hands),
        "hand_type_valid": True,
    }


def _seen(record: HandRecord) -> Bool[np.ndarray, "21 1"]:
    return needed(record, "keypoints_2d")[:, 2:] > 0


def _known(record: HandRecord) -> Bool[np.ndarray, "21 1"]:
    points = needed(record, "keypoints_3d")
    return np.isfinite(points[:, :3]).all(axis=1, keepdims=True) & (points[:, 3:] > 0)


def _world(record: HandRecord) -> Float[np.ndarray, "21 3"]:
    return np.where(_known(record), needed(record, "keypoints_3d")[:, :3], 0)


def _camera(record: HandRecord) -> Fields:
    focal_and_center = np.asarray(needed(record, "camera"), np.float64).tolist()
    return {
        "campos": [0.0, 0.0, 0.0],
        "camrot": np.eye(3).tolist(),
        "focal": focal_and_center[:2],
        "princpt": focal_and_center[2:],
    }


def _fits(hands: Hands, mano: Mapping[Side, HandModel]) -> Fields:
    """MANO's parameters of each hand; None for one that is not there."""
    by_side = {record.side: _fit(record, mano) for record in hands}
    return {side: by_side.get(side) for side in _SIDES}


def _fit(record: HandRecord, mano: Mapping[Side, HandModel]) -> Fields:
    parameters = mano_parameters(record, mano)
    relative = relative_pose(mano[needed(record, "side")], parameters.pose)
    fit = {"pose": relative, "shape": parameters.betas, "trans": parameters.translation}
    return {name: np.asarray(value, np.float64).ravel().tolist() for name, value in fit.items()}


def _both(
    hands: Hands, of_hand: Callable[[HandRecord], Shaped[np.ndarray, "21 columns"]]
) -> Shaped[np.ndarray, "42 columns"]:
    """Values of the right hand's joints in InterHand2.6M's order, then the left hand's; zeros where there is none."""
    by_side = {record.side: of_hand(record)[_TO_INTERHAND] for record in hands}
    nothing = np.zeros_like(next(iter(by_side.values())))
    return np.concatenate([by_side.get(side, nothing) for side in _SIDES])

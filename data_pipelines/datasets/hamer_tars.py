"""HaMeR's training data: hands of ten data sets in one form, in tar archives, many with MANO's parameters.

Layout and meaning are those of the authors' reader (github.com/geopavlakos/hamer: hamer/datasets/image_dataset.py,
load_tars_as_webdataset and process_webdataset_tar_item; hamer/datasets/utils.py; hamer/configs/datasets_tar.yaml; and
hamer/models/mano_wrapper.py for MANO). Beside each picture in an archive stands `data.pyd`, a pickle, or `data.json`,
of a list of hands, each with keypoints in OpenPose's order (2-D: pixels; 3-D: metres in camera axes, of which only the
differences are meant; then confidence), `right`, `hand_pose` (16 axis-angles, zero the flat hand, of the hand's own
side), `betas` and whether they are known. That reader mirrors a left hand's x to width - x - 1, so pixels are counted
from 0 at the centre of the first one. It knows neither a camera nor where the hand is: its model sees hands by a
camera at the middle of their crop, and so does the MANO hand here, placed where that camera sees its keypoints best.
Of a `detection.npz`, which that reader takes for masks of whole people, nothing is read.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from data_pipelines.datasets.annotation import HALF_PIXEL, HandAnnotation, ManoHand, Sample, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.mano import posed_hand, seen_at
from data_pipelines.datasets.tar_files import TarMember, tar_samples
from handjax.conditions.crops import RECORD_CROP_SCALE, hand_box
from handjax.errors import InputError
from handjax.hand.camera import default_camera
from handjax.hand.model import HandModel
from handjax.images import decode_image
from handjax.pickles import parse_pickle
from handjax.record import Side

_KINDS = (("jpg", "jpeg", "png"), ("data.pyd", "data.json"))
"""Suffixes of a sample's picture and of its labels."""
_SHAPES = {"keypoints_2d": (21, 3), "keypoints_3d": (21, 4), "hand_pose": (48,), "betas": (10,)}
_FLAGS = ("right", "has_hand_pose", "has_betas")


class HamerTars(HandDataset):
    """TFDS builder of HaMeR's training archives."""

    FACTS = DatasetFacts(
        name="hamer_tars",
        description="2.7 million hands of FreiHAND, InterHand2.6M, MTC, RHD, COCO-WholeBody, Halpe, MPII+NZSL, HO3D, "
        "H2O3D and DexYCB, as HaMeR was trained on them.",
        homepage="https://github.com/geopavlakos/hamer",
        licence="that of each data set it is made of; most are for research, no commercial use",
        citation="""@inproceedings{pavlakos2024reconstructing,
  title = {Reconstructing Hands in 3{D} with Transformers},
  author = {Pavlakos, Georgios and Shan, Dandan and Radosavovic, Ilija and Kanazawa, Angjoo and Fouhey, David and
    Malik, Jitendra},
  booktitle = {CVPR},
  year = {2024},
}""",
        download="get hamer_training_data with fetch_training_data.sh of https://github.com/geopavlakos/hamer and name "
        "its folder dataset_tars, or one of the folders of .tar files in it, such as freihand-train",
        parts={"train": ""},
        min_seen=5,
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Looks what is in each archive, without reading it: whole sets do not fit into memory."""
        archives = sorted(folder.rglob("*.tar"))
        if not archives:
            raise InputError(f"{folder}/**/*.tar: missing; {self.FACTS.download}")
        for archive in archives:
            place = archive.relative_to(folder).with_suffix("").as_posix()
            for key, files in tar_samples(archive, self.FACTS.download):
                entry = [next((files[suffix] for suffix in kind if suffix in files), None) for kind in _KINDS]
                if None in entry:
                    kinds = " or ".join(_KINDS[entry.index(None)])
                    raise InputError(f"{archive}: {key} has no .{kinds}; {self.FACTS.download}")
                yield Sample(f"{place}/{key}", archive, (*entry, "data.pyd" in files))

    def picture(self, sample: Sample) -> UInt8[np.ndarray, "height width 3"]:
        """Decodes the picture out of its archive."""
        member: TarMember = sample.entry[0]
        return decode_image(member.read(), f"{sample.picture}: {sample.name}")

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """All hands of the list."""
        name = f"{sample.picture}: {sample.name}"
        _, labels, is_pickle = sample.entry
        for entry in _entries(labels, is_pickle, name, self.FACTS.download):
            hand = _checked(entry, name, self.FACTS.download)
            side: Side = "right" if hand["right"] > 0 else "left"
            model = self.mano_model(side) if hand["has_hand_pose"] > 0 and hand["has_betas"] > 0 else None
            keypoints, space = _known(hand["keypoints_2d"]), _known(hand["keypoints_3d"])
            keypoints[:, :2] += HALF_PIXEL
            annotation = HandAnnotation(keypoints, side, space if space[:, 3].any() else None)
            yield annotation if model is None or not annotation.placed.any() else _with_mano(annotation, model, hand)


def _entries(labels: TarMember, is_pickle: bool, name: str, remedy: str) -> list[Any]:
    try:
        content = parse_pickle(labels.read(), name, remedy) if is_pickle else json.loads(labels.read())
    except ValueError as error:
        raise InputError(f"{name}: not JSON ({error}); {remedy}") from error
    if not isinstance(content, list):
        raise InputError(f"{name}: its labels are a {type(content).__name__}, no list of hands; {remedy}")
    return content


def _checked(entry: dict[str, Any], name: str, remedy: str) -> dict[str, Any]:
    """Arrays of their shapes and plain numbers."""
    try:
        arrays = {key: np.array(entry.get(key, np.nan), np.float64) for key in (*_SHAPES, *_FLAGS)}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{name}: a hand is no dictionary of arrays ({error}); {remedy}") from error
    shapes = {key: arrays[key].shape for key in _SHAPES}
    flawed = [key for key in _FLAGS if arrays[key].size != 1 or np.isnan(arrays[key]).any()]
    if shapes != _SHAPES or flawed:
        raise InputError(f"{name}: a hand has {shapes} and lacks {flawed}, not {_SHAPES}; {remedy}")
    return arrays | {key: float(arrays[key].item()) for key in _FLAGS}


def _known(points: Float[np.ndarray, "21 dims"]) -> Float[np.ndarray, "21 dims"]:
    """With no place where the confidence is 0."""
    confidence = points[:, -1].clip(0.0, 1.0)
    return with_confidence(np.where(confidence[:, None] > 0, points[:, :-1], np.nan), confidence)


def _with_mano(hand: HandAnnotation, model: HandModel, labels: dict[str, Any]) -> HandAnnotation:
    """Adds MANO's hand and its camera, and moves the 3-D keypoints to the model's."""
    box = hand_box(hand.keypoints_2d[hand.placed], RECORD_CROP_SCALE)
    crop = default_camera(*(box[2:] - box[:2]).tolist())
    camera = np.concatenate([crop.focal, crop.center + box[:2]]).astype(np.float64)
    mano = ManoHand(labels["hand_pose"].reshape(16, 3), labels["betas"], np.zeros(3))
    mano = seen_at(model, mano, hand.keypoints_2d[hand.placed], np.flatnonzero(hand.placed), camera)
    space = hand.keypoints_3d
    if space is not None:
        shift = np.nanmean(posed_hand(model, mano).keypoints - space[:, :3], axis=0)
        space = space + np.append(shift, 0.0)
    return HandAnnotation(hand.keypoints_2d, hand.side, space, mano, camera)

"""HO-3D, versions 2 and 3: a right hand that handles an object, with keypoints and MANO fits in camera space.

Layout and meaning are those of the authors' scripts (github.com/shreyashampali/ho3d: utils/vis_utils.py for files and
axes, vis_HO3D.py for keys and MANO without mean pose, setup_mano.py for fingertips, joint_order.png, pred.py and
eval.py for the evaluation). Keypoints are in MANO's order, in metres; OpenGL's axes: y up and z backwards. A pickle a
picture says all in training and only the wrist in evaluation; there the keypoints are in `evaluation_xyz.json`, listed
as in `evaluation.txt`, which the authors published in 2024 as a download of its own. That those are of the same order,
axes and unit is taken from eval.py, which compares predictions with them, and checked at the wrist. Pixels count from
the centre of the first one, as in the authors' drawings, which round them.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data_pipelines.datasets.annotation import (
    HALF_PIXEL,
    HandAnnotation,
    ManoHand,
    Sample,
    camera_of,
    project_points,
    with_confidence,
)
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import check_shapes, need_file, read_json
from data_pipelines.datasets.mano import moved_hand
from handjax.errors import InputError
from handjax.hand.model import HandModel
from handjax.hand.topology import keypoint_permutation
from handjax.pickles import read_pickle

_TO_OPENPOSE = keypoint_permutation("mano", "openpose")
_FROM_OPENGL = np.diag([1.0, -1.0, -1.0])
_MANO: dict[str, tuple[int, ...]] = {"handPose": (48,), "handBeta": (10,), "handTrans": (3,)}
_SAME = 1e-3
"""Metres by which two notes of the same joint may differ."""


def listed_frames(folder: Path, part: str, suffix: str, remedy: str) -> Iterator[Sample]:
    """Reads `PART.txt`, lines of SEQUENCE/FRAME: pictures in `rgb`, pickles in `meta`, which are read later.

    Raises:
      InputError: the list is missing or empty.
    """
    for line in need_file(folder / f"{part}.txt", remedy).read_text().split():
        sequence, frame = line.split("/")
        place = folder / part / sequence
        meta = place / "meta" / f"{frame}.pkl"
        yield Sample(f"{part}/{line}", place / "rgb" / f"{frame}{suffix}", None, (meta,))


def camera_space(points: Float[np.ndarray, "21 3"]) -> Float[np.ndarray, "21 3"]:
    """Keypoints of HO-3D's order and axes in ours."""
    return np.asarray(points, np.float64)[_TO_OPENPOSE] @ _FROM_OPENGL


def camera_space_mano(
    model: HandModel, pose: Float[np.ndarray, "48"], betas: Float[np.ndarray, "10"], place: Float[np.ndarray, "3"]
) -> ManoHand:
    """MANO parameters of HO-3D's axes, pose relative to the flat hand, in ours."""
    hand = ManoHand(pose.astype(np.float64).reshape(16, 3), betas, place)
    return moved_hand(model, hand, _FROM_OPENGL, np.zeros(3))


def read_meta(sample: Sample, shapes: Mapping[str, tuple[int, ...]], remedy: str) -> dict[str, Any]:
    """Reads the pickle of a picture and its camera, in our pixels, as "camera".

    Raises:
      InputError: it is no pickle of arrays, or lacks one of the shapes.
    """
    meta = read_pickle(sample.others[0], remedy)
    check_shapes(meta, {"camMat": (3, 3), **shapes}, sample.others[0], remedy)
    return meta | {"camera": camera_of(meta["camMat"], HALF_PIXEL)}


def _facts(version: str, count: str, kinds: str) -> DatasetFacts:
    return DatasetFacts(
        name=f"ho3d_{version}",
        description=f"{count} pictures, 640 x 480, of 10 people's right hands with objects, with keypoints in space.",
        homepage="https://github.com/shreyashampali/ho3d",
        licence="for academic research only, no commercial use, no redistribution (Graz University of Technology)",
        citation="""@inproceedings{hampali2020honnotate,
  author = {Shreyas Hampali and Mahdi Rad and Markus Oberweger and Vincent Lepetit},
  title = {HOnnotate: A method for 3D Annotation of Hand and Object Poses},
  booktitle = {CVPR},
  year = {2020},
}""",
        download=f"unpack HO-3D {version} ({kinds} pictures), linked from https://github.com/shreyashampali/ho3d, and "
        "put evaluation_xyz.json of its GT download beside evaluation.txt (with --splits train the first will do)",
        parts={"train": "train", "eval": "evaluation"},
        tips="ho3d",
    )


class Ho3dV2(HandDataset):
    """TFDS builder of HO-3D version 2."""

    FACTS = _facts("v2", "66,034 and 11,524", ".png")
    SUFFIX = ".png"

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads the list of a part, and of the evaluation the keypoints."""
        frames = list(listed_frames(folder, part, self.SUFFIX, self.FACTS.download))
        if part == "train":
            yield from frames
            return
        path = folder / f"{part}_xyz.json"
        points = read_json(path, self.FACTS.download)
        if len(points) != len(frames):
            raise InputError(f"{path}: {len(points)} entries, {part}.txt has {len(frames)}; {self.FACTS.download}")
        for sample, entry in zip(frames, points, strict=True):
            check_shapes({sample.name: entry}, {sample.name: (21, 3)}, path, self.FACTS.download)
            yield dataclasses.replace(sample, entry=np.array(entry, np.float64))

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The one hand of a picture."""
        mano = None
        if sample.entry is None:
            meta = read_meta(sample, {"handJoints3D": (21, 3), **_MANO}, self.FACTS.download)
            points, model = camera_space(meta["handJoints3D"]), self.mano_model("right")
            if model is not None:
                mano = camera_space_mano(model, *(meta[name] for name in _MANO))
        else:
            meta = read_meta(sample, {"handJoints3D": (3,)}, self.FACTS.download)
            points = camera_space(sample.entry)
            if np.abs(points[0] - _FROM_OPENGL @ meta["handJoints3D"]).max() > _SAME:
                raise InputError(f"{sample.others[0]}: the wrist is not that of evaluation_xyz.json")
        yield HandAnnotation(
            keypoints_2d=with_confidence(project_points(points, meta["camera"])),
            side="right",
            keypoints_3d=with_confidence(points),
            mano=mano,
            camera=meta["camera"],
        )


class Ho3dV3(Ho3dV2):
    """TFDS builder of HO-3D version 3, whose pictures are JPEGs."""

    FACTS = _facts("v3", "78,297 and 20,137", ".jpg")
    SUFFIX = ".jpg"

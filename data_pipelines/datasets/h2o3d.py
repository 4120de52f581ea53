"""H2O-3D: two hands that handle an object, with keypoints and MANO fits in camera space, annotated as HO-3D.

Layout and meaning are those of the authors' scripts (github.com/shreyashampali/ho3d: vis_H2O3D.py; and
github.com/shreyashampali/kypt_transformer: data/dataset_h2o3d.py, data/dataset_ho3d_h2o3d.py for `jointValid*` and the
pictures' suffix). The order of `jointValid*` is nowhere said, so a hand is taken only if all its joints are valid. The
evaluation's keypoints are not published. Of the left hand's shape the authors' scripts say two things: the one negates
all of MANO's left shape directions, the other their x only, which is what mirrors the right hand's and is done here.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.datasets.annotation import HandAnnotation, Sample, project_points, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.ho3d import camera_space, camera_space_mano, listed_frames, read_meta
from handjax.record import Side

_OF_A_SIDE: dict[str, tuple[int, ...]] = {"Joints3D": (21, 3), "Pose": (48,), "Trans": (3,)}
_SIDES: tuple[tuple[Side, str], ...] = (("right", "Right"), ("left", "Left"))
_SHAPES = {
    "handBeta": (10,),
    **{f"{side}Hand{name}": shape for side, _ in _SIDES for name, shape in _OF_A_SIDE.items()},
}


class H2o3d(HandDataset):
    """TFDS builder of H2O-3D version 1."""

    FACTS = DatasetFacts(
        name="h2o3d",
        description="76,340 pictures, 640 x 480, of two hands with an object; in training with keypoints in space.",
        homepage="https://github.com/shreyashampali/ho3d",
        licence="for academic research only, no commercial use, no redistribution (Graz University of Technology)",
        citation="""@inproceedings{hampali2022keypointtransformer,
  author = {Shreyas Hampali and Sayan Deb Sarkar and Mahdi Rad and Vincent Lepetit},
  title = {Keypoint Transformer: Solving Joint Identification in Challenging Hands and Object Interactions for
           Accurate 3D Pose Estimation},
  booktitle = {CVPR},
  year = {2022},
}""",
        download="unpack H2O-3D v1, linked from https://github.com/shreyashampali/ho3d, and name the folder that holds "
        "train.txt",
        parts={"train": "train"},
        tips="ho3d",
        left_shape="negate",
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads the list of the part."""
        return listed_frames(folder, part, ".jpg", self.FACTS.download)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The right hand and the left one, where they are annotated in full."""
        meta = read_meta(sample, _SHAPES, self.FACTS.download)
        for side, word in _SIDES:
            if not np.all(meta.get(f"jointValid{word}", True)):
                continue
            points, model = camera_space(meta[f"{side}HandJoints3D"]), self.mano_model(side)
            mano = None
            if model is not None and np.all(meta.get(f"poseValid{word}", True)):
                pose, place = meta[f"{side}HandPose"], meta[f"{side}HandTrans"]
                mano = camera_space_mano(model, pose, meta["handBeta"], place)
            yield HandAnnotation(
                keypoints_2d=with_confidence(project_points(points, meta["camera"])),
                side=side,
                keypoints_3d=with_confidence(points),
                mano=mano,
                camera=meta["camera"],
            )

"""Re:InterHand: two interacting hands, captured in a studio and rendered in other light, with MANO fits in its world.

Layout and meaning are those of the authors' loader (github.com/facebookresearch/InterWild:
data/ReInterHand/ReInterHand.py for files, names of keypoints and the test captures, common/utils/preprocessing.py for
MANO, tool/ReInterHand/download for the parts of the download). Taken are the pictures of the studio's cameras with an
environment a frame; those of the headset are a fisheye's, which this project's cameras are not. A hand has 24
keypoints, three more than ours, in millimetres; a camera sees X at R X + t. MANO's parameters are metres and relative
to the mean pose. The pictures are a quarter of the filmed ones, so that a principal point scaled alike is within 0.2
pixels of this project's wherever theirs began.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.datasets.annotation import HandAnnotation, ManoHand, Sample, project_points, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import check_shapes, read_json
from data_pipelines.datasets.mano import from_mean_pose, moved_hand
from handjax.errors import InputError
from handjax.hand.model import HandModel
from handjax.record import Side

_TEST_CAPTURES = {
    "m--20221215--0949--RNS217--pilot--ProjectGoliathScript--Hands--two-hands",
    "m--20221216--0953--NKC880--pilot--ProjectGoliathScript--Hands--two-hands",
    "m--20230317--1130--QZX685--pilot--ProjectGoliath--Hands--two-hands",
}
_SIDES: tuple[Side, ...] = ("right", "left")
_TO_OPENPOSE = np.array([0, *range(2, 18), *range(19, 23)])
"""Theirs: wrist, thumb 0 to 4, index, middle and ring 1 to 4, little 0 to 4, forearm; ours begin fingers at 1."""
_CAMERA: dict[str, tuple[int, ...]] = {"focal": (2,), "princpt": (2,), "R": (3, 3), "t": (3,)}
_MANO: dict[str, tuple[int, ...]] = {"pose": (48,), "shape": (10,), "trans": (3,)}
_MILLIMETRES = 1e-3


class ReInterHand(HandDataset):
    """TFDS builder of Re:InterHand's studio cameras."""

    FACTS = DatasetFacts(
        name="reinterhand",
        description="Renderings, 667 x 1024, of 10 people's interacting hands in any light, with keypoints in space.",
        homepage="https://mks0601.github.io/ReInterHand/",
        licence="CC-BY-NC-4.0",
        citation="""@inproceedings{moon2023reinterhand,
  author = {Moon, Gyeongsik and Saito, Shunsuke and Xu, Weipeng and Joshi, Rohan and Buffalini, Julia and Bellan,
            Harley and Rosen, Nicholas and Richardson, Jesse and Mize Mallorie and Bree, Philippe and Simon, Tomas and
            Peng, Bo and Garg, Shubham and McPhail, Kevyn and Shiratori, Takaaki},
  title = {A Dataset of Relighted {3D} Interacting Hands},
  booktitle = {NeurIPS Track on Datasets and Benchmarks},
  year = {2023},
}""",
        download="download Mugsy_cameras/envmap_per_frame, orig_fits and mano_fits of each capture as "
        "https://mks0601.github.io/ReInterHand/ says, and name the folder that holds the captures m--*",
        parts={"train": "train", "eval": "test"},
        kind="rendered photo",
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads the cameras of each capture and lists its pictures."""
        captures = [path for path in sorted(folder.glob("m--*")) if (path.name in _TEST_CAPTURES) == (part == "test")]
        if not captures:
            raise InputError(f"{folder}: no capture of the part {part}; {self.FACTS.download}")
        for capture in captures:
            pictures = capture / "Mugsy_cameras" / "envmap_per_frame" / "images"
            found = sorted(pictures.glob("*/*.png"))
            if not found:
                raise InputError(f"{pictures}: no pictures in it; {self.FACTS.download}")
            path = capture / "Mugsy_cameras" / "cam_params.json"
            cameras = read_json(path, self.FACTS.download)
            for picture in found:
                name = picture.parent.name
                check_shapes(cameras.get(name, {}), _CAMERA, path, self.FACTS.download)
                entry = {key: np.array(cameras[name][key], np.float64) for key in _CAMERA}
                yield Sample(f"{capture.name}/{name}/{picture.stem}", picture, entry, self._fits(capture, picture.stem))

    def _fits(self, capture: Path, frame: str) -> tuple[Path, ...]:
        """Files of keypoints by `_SIDES`, then, where there is a MANO model for them, of its parameters."""
        number = int(frame)
        keypoints = [capture / "orig_fits" / side / "Keypoints" / f"keypoint-{number:06d}.json" for side in _SIDES]
        mano = [capture / "mano_fits" / "params" / f"{number}_{side}.json" for side in _SIDES if self.mano_model(side)]
        return (*keypoints, *mano)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """Both hands; that none or too little of one is seen is for the base to say."""
        lens = sample.entry
        shift = lens["t"] * _MILLIMETRES
        camera = np.concatenate([lens["focal"], lens["princpt"]])
        for number, side in enumerate(_SIDES):
            path = sample.others[number]
            entries = read_json(path, self.FACTS.download)
            check_shapes({"keypoints": entries}, {"keypoints": (24, 3)}, path, self.FACTS.download)
            world = np.array(entries, np.float64)[_TO_OPENPOSE] * _MILLIMETRES
            points, model = world @ lens["R"].T + shift, self.mano_model(side)
            mano = None
            if model is not None:
                mano = moved_hand(model, self._in_world(model, sample.others[2 + number]), lens["R"], shift)
            yield HandAnnotation(
                keypoints_2d=with_confidence(project_points(points, camera)),
                side=side,
                keypoints_3d=with_confidence(points),
                mano=mano,
                camera=camera,
            )

    def _in_world(self, model: HandModel, path: Path) -> ManoHand:
        fit = read_json(path, self.FACTS.download)
        check_shapes(fit, _MANO, path, self.FACTS.download)
        pose, betas, place = (np.array(fit[name], np.float64) for name in _MANO)
        return ManoHand(from_mean_pose(model, pose.reshape(16, 3)), betas, place)

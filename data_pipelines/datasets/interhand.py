"""InterHand2.6M: one or two hands in a studio of up to 139 cameras, with keypoints and MANO fits in its world.

Layout and meaning are those of version 1.0 and its authors' code (github.com/facebookresearch/InterHand2.6M: README and
data/InterHand2.6M/dataset.py for files and cameras, DATASET.md for fields, tool/MANO_world_to_camera for MANO).
Keypoints are in the order "interhand", the right hand's first, in millimetres; a camera at `campos` turned by `camrot`
sees X at camrot (X - campos). MANO's parameters are metres and relative to the mean pose. The pictures are an eighth of
the filmed ones, so that a principal point scaled alike is within 0.1 pixels of this project's wherever theirs began.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.datasets.annotation import HandAnnotation, ManoHand, Sample, project_points, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import read_json
from data_pipelines.datasets.mano import from_mean_pose, moved_hand
from handjax.errors import InputError
from handjax.hand.topology import keypoint_permutation
from handjax.record import Side

_TO_OPENPOSE = keypoint_permutation("interhand", "openpose")
_SIDES: tuple[Side, ...] = ("right", "left")
_MILLIMETRES = 1e-3


class InterHand(HandDataset):
    """TFDS builder of InterHand2.6M, of 5 or 30 pictures a second alike."""

    FACTS = DatasetFacts(
        name="interhand",
        description="2.6 million pictures of 27 people's single and interacting hands, 512 x 334, keypoints in space.",
        homepage="https://mks0601.github.io/InterHand2.6M/",
        licence="CC-BY-NC-4.0",
        citation="""@inproceedings{Moon_2020_ECCV_InterHand2.6M,
  author = {Moon, Gyeongsik and Yu, Shoou-I and Wen, He and Shiratori, Takaaki and Lee, Kyoung Mu},
  title = {InterHand2.6M: A Dataset and Baseline for 3D Interacting Hand Pose Estimation from a Single RGB Image},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year = {2020},
}""",
        download="unpack images and annotations of https://mks0601.github.io/InterHand2.6M/ and name the folder that "
        "holds images/PART and annotations/PART for the parts train, val and test (or fewer, with --splits)",
        parts={"train": "train", "val": "val", "eval": "test"},
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads the files `data`, `camera`, `joint_3d` and, where there is a MANO model for it, `MANO_NeuralAnnot`."""
        names = ["data", "camera", "joint_3d", *(["MANO_NeuralAnnot"] if self.mano_model("right") else [])]
        paths = {name: folder / "annotations" / part / f"InterHand2.6M_{part}_{name}.json" for name in names}
        read = {name: read_json(path, self.FACTS.download) for name, path in paths.items()}
        images = {image["id"]: image for image in read["data"]["images"]}
        for annotation in read["data"]["annotations"]:
            image = images[annotation["image_id"]]
            capture, frame, camera = (str(image[name]) for name in ("capture", "frame_idx", "camera"))
            try:
                lens = read["camera"][capture]
                entry = {
                    "seen": annotation["joint_valid"],
                    "joints": read["joint_3d"][capture][frame],
                    "camera": {name: lens[name][camera] for name in ("campos", "camrot", "focal", "princpt")},
                    "mano": read.get("MANO_NeuralAnnot", {}).get(capture, {}).get(frame, {}),
                }
            except KeyError as error:
                others = f"{paths['camera']} or {paths['joint_3d'].name}"
                raise InputError(f"{others}: nothing on {image['file_name']}; {self.FACTS.download}") from error
            yield Sample(f"{part}/{image['file_name']}", folder / "images" / part / image["file_name"], entry)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """Those hands of a frame of which something is annotated."""
        lens = {name: np.asarray(value, np.float64) for name, value in sample.entry["camera"].items()}
        camera = np.concatenate([lens["focal"], lens["princpt"]])
        world = np.asarray(sample.entry["joints"]["world_coord"], np.float64).reshape(2, 21, 3)
        known = np.asarray(sample.entry["joints"]["joint_valid"]).reshape(2, 21) > 0
        seen = np.asarray(sample.entry["seen"], np.float64).reshape(2, 21) * known
        for number, side in enumerate(_SIDES):
            if not seen[number].any():
                continue
            points = (world[number] - lens["campos"]) @ lens["camrot"].T * _MILLIMETRES
            points = np.where(known[number, :, None], points, np.nan)[_TO_OPENPOSE]
            yield HandAnnotation(
                keypoints_2d=with_confidence(project_points(points, camera), seen[number, _TO_OPENPOSE]),
                side=side,
                keypoints_3d=with_confidence(points, known[number, _TO_OPENPOSE]),
                mano=self._mano_hand(side, sample.entry["mano"].get(side), lens),
                camera=camera,
            )

    def _mano_hand(self, side: Side, fit: dict[str, Any] | None, lens: dict[str, np.ndarray]) -> ManoHand | None:
        model = self.mano_model(side)
        if model is None or fit is None:
            return None
        pose, betas, place = (np.asarray(fit[name], np.float64).ravel() for name in ("pose", "shape", "trans"))
        in_world = ManoHand(from_mean_pose(model, pose.reshape(16, 3)), betas, place)
        return moved_hand(model, in_world, lens["camrot"], -lens["camrot"] @ lens["campos"] * _MILLIMETRES)

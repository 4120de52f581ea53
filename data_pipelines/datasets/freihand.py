"""FreiHAND: right hands filmed from eight sides, with keypoints and MANO fits in camera space.

Layout and meaning are those of the authors' toolbox (github.com/lmb-freiburg/freihand: utils/fh_utils.py for files and
order, utils/model.py for MANO). Each of N training samples has four pictures, of the numbers n, n + N, n + 2 N and
n + 3 N: as filmed before a green screen, and three with other backgrounds. Keypoints are in OpenPose's order. The
principal point is (112, 112) in pictures of 224 pixels, so the picture's middle is at 112 and its first pixel's centre
at (0.5, 0.5), as here.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float

from data_pipelines.datasets.annotation import (
    HandAnnotation,
    ManoHand,
    Sample,
    camera_of,
    project_points,
    with_confidence,
)
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import read_json
from data_pipelines.datasets.mano import from_mean_pose, posed_hand
from handjax.errors import InputError
from handjax.hand.model import HandModel
from handjax.images import read_image

_BACKGROUNDS = {"training": 4, "evaluation": 1}
_ROOT = 9


class FreiHand(HandDataset):
    """TFDS builder of FreiHAND, version 2."""

    FACTS = DatasetFacts(
        name="freihand",
        description="4 x 32,560 and 3,960 pictures of right hands, 224 x 224, with keypoints and MANO fits in space.",
        homepage="https://lmb.informatik.uni-freiburg.de/projects/freihand/",
        licence="for research purposes only, no commercial use (University of Freiburg)",
        citation="""@inproceedings{Freihand2019,
  author = {Christian Zimmermann and Duygu Ceylan and Jimei Yang and Bryan Russell and Max Argus and Thomas Brox},
  title = {FreiHAND: A Dataset for Markerless Capture of Hand Pose and Shape from Single RGB Images},
  booktitle = {IEEE International Conference on Computer Vision (ICCV)},
  year = {2019},
}""",
        download="unpack FreiHAND_pub_v2.zip and FreiHAND_pub_v2_eval.zip, which has the evaluation's annotations, of "
        "https://lmb.informatik.uni-freiburg.de/resources/datasets/FreihandDataset.en.html into one folder (with "
        "--splits train the first will do)",
        parts={"train": "training", "eval": "evaluation"},
        paper_eval=("train", 10_000),
        tips="freihand",
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads `PART_K.json`, `PART_xyz.json` and, where there is a MANO model for it, `PART_mano.json`."""
        names = ["K", "xyz", *(["mano"] if self.mano_model("right") else [])]
        lists = {name: read_json(folder / f"{part}_{name}.json", self.FACTS.download) for name in names}
        count = len(lists["K"])
        for name, entries in lists.items():
            if len(entries) != count:
                raise InputError(
                    f"{folder / part}_{name}.json: {len(entries)} entries, {part}_K.json has {count}; "
                    f"{self.FACTS.download}"
                )
        for number in range(_BACKGROUNDS[part] * count):
            entry = {name: np.asarray(entries[number % count], np.float64) for name, entries in lists.items()}
            mask = [folder / part / "mask" / f"{number % count:08d}.jpg"] if part == "training" else []
            yield Sample(f"{part}/{number:08d}", folder / part / "rgb" / f"{number:08d}.jpg", entry, tuple(mask))

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The one hand of a picture."""
        camera, points = camera_of(sample.entry["K"]), sample.entry["xyz"]
        model = self.mano_model("right")
        yield HandAnnotation(
            keypoints_2d=with_confidence(project_points(points, camera)),
            side="right",
            keypoints_3d=with_confidence(points),
            mano=None if model is None else _mano_hand(model, sample.entry["mano"].ravel(), camera),
            camera=camera,
            mask=read_image(sample.others[0])[..., 0] > 127 if sample.others else None,
        )


def _mano_hand(model: HandModel, theta: Float[np.ndarray, "61"], camera: Float[np.ndarray, "4"]) -> ManoHand:
    """Parameters from pose relative to the mean, shape, and pixel and scale (pixels per metre) of keypoint 9."""
    pose = from_mean_pose(model, theta[:48].reshape(16, 3))
    centred = ManoHand(pose, theta[48:58], np.zeros(3))
    root = np.append(theta[58:60] - camera[2:], camera[:2].mean()) / theta[60]
    return ManoHand(pose, theta[48:58], root - posed_hand(model, centred).keypoints[_ROOT])

"""RHD, the Rendered Handpose Dataset: people and both their hands, rendered, with all keypoints in space.

Layout and meaning are those of the authors' own reader (github.com/lmb-freiburg/hand3d: create_binary_db.py,
data/BinaryDbReader.py) and of the README in the download. Each hand has 21 of 42 keypoints, the left hand's first, in
the order "rhd"; `mask` numbers a person's parts, the left hand's from 2 to 17 and the right hand's from 18 to 33. The
principal point is (160, 160) in pictures of 320 pixels, so the picture's middle is at 160 and its first pixel's centre
at (0.5, 0.5), as here.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.datasets.annotation import HandAnnotation, Sample, camera_of, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import need_file, read_labels
from handjax.errors import InputError
from handjax.hand.topology import keypoint_permutation
from handjax.pickles import read_pickle
from handjax.record import Side

_SHAPES = {"xyz": (42, 3), "uv_vis": (42, 3), "K": (3, 3)}
_TO_OPENPOSE = keypoint_permutation("rhd", "openpose")
_MASK_VALUES: dict[Side, range] = {"left": range(2, 18), "right": range(18, 34)}


class Rhd(HandDataset):
    """TFDS builder of RHD."""

    FACTS = DatasetFacts(
        name="rhd",
        description="41,258 and 2,728 renderings of 20 people, 320 x 320, with 42 keypoints in space and part masks.",
        homepage="https://lmb.informatik.uni-freiburg.de/resources/datasets/RenderedHandposeDataset.en.html",
        licence="for research purposes only, no commercial use (University of Freiburg)",
        citation="""@inproceedings{zb2017hand,
  author = {Christian Zimmermann and Thomas Brox},
  title = {Learning to Estimate 3D Hand Pose from Single RGB Images},
  booktitle = {IEEE International Conference on Computer Vision (ICCV)},
  year = {2017},
}""",
        download="unpack RHD_v1-1.zip of https://lmb.informatik.uni-freiburg.de/resources/datasets/"
        "RenderedHandposeDataset.en.html and name its folder RHD_published_v2, which holds training and evaluation",
        parts={"train": "training", "eval": "evaluation"},
        kind="rendered photo",
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads `PART/anno_PART.pickle`: number of the picture → xyz, uv_vis and K."""
        path = need_file(folder / part / f"anno_{part}.pickle", self.FACTS.download)
        for number, entry in sorted(read_pickle(path, self.FACTS.download).items()):
            shapes = {name: getattr(entry.get(name), "shape", None) for name in _SHAPES}
            if shapes != _SHAPES:
                raise InputError(f"{path}: picture {number} has {shapes}, not {_SHAPES}; {self.FACTS.download}")
            picture, mask = (folder / part / kind / f"{number:05d}.png" for kind in ("color", "mask"))
            yield Sample(f"{part}/{number:05d}", picture, entry, (mask,))

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """Both hands of the person; that none or too little of one is seen is for the base to say."""
        parts = read_labels(sample.others[0])
        for number, (side, values) in enumerate(_MASK_VALUES.items()):
            order = 21 * number + _TO_OPENPOSE
            seen = (sample.entry["uv_vis"][order, 2] == 1).astype(np.float64)
            yield HandAnnotation(
                keypoints_2d=with_confidence(sample.entry["uv_vis"][order, :2], seen),
                side=side,
                keypoints_3d=with_confidence(sample.entry["xyz"][order]),
                camera=camera_of(sample.entry["K"]),
                mask=np.isin(parts, list(values)),
            )

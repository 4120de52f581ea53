"""MPII+NZSL: hands in photos of everyday life and in films of New Zealand Sign Language, annotated by people.

It is the manual part of the hand data of Simon et al., on which OpenPose's hand detector was trained
(domedb.perception.cs.cmu.edu/handdb.html, hand_labels.zip). Its own readme could not be read; layout and meaning are
those of readers of it: github.com/MengHao666/Minimal-Hand-pytorch (datasets/hand_labels.py) and
github.com/naoc-1861355/Public_Handpose_Datasets (CMU/hand_labels/viz.py, order of the keypoints): beside each
picture a .json of `hand_pts`, 21 of x, y and 1 where the keypoint is annotated, in OpenPose's order, and `is_left`, 1
for a left hand. Where pixels are counted from is not said; they are taken to count the left edge as 0, as here.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.datasets.annotation import HandAnnotation, Sample, with_confidence
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.facts import DatasetFacts
from data_pipelines.datasets.layout import read_json
from handjax.errors import InputError
from handjax.record import Side


class MpiiNzsl(HandDataset):
    """TFDS builder of MPII+NZSL."""

    FACTS = DatasetFacts(
        name="mpii_nzsl",
        description="1,912 and 846 hands in pictures of MPII Human Pose and New Zealand Sign Language, with keypoints.",
        homepage="https://arxiv.org/abs/1704.07809",
        licence="not stated with the data; MPII Human Pose is for research, no commercial use",
        citation="""@inproceedings{simon2017hand,
  author = {Tomas Simon and Hanbyul Joo and Iain Matthews and Yaser Sheikh},
  title = {Hand Keypoint Detection in Single Images using Multiview Bootstrapping},
  booktitle = {CVPR},
  year = {2017},
}""",
        download="unpack hand_labels.zip of http://domedb.perception.cs.cmu.edu/handdb.html and name its folder "
        "hand_labels, which holds manual_train and manual_test",
        parts={"train": "manual_train", "eval": "manual_test"},
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads the .json beside each .jpg."""
        stems = sorted({path.stem for suffix in ("jpg", "json") for path in (folder / part).glob(f"*.{suffix}")})
        if not stems:
            raise InputError(f"{folder / part}: missing; {self.FACTS.download}")
        for stem in stems:
            path = folder / part / f"{stem}.json"
            entry = read_json(path, self.FACTS.download)
            if "is_left" not in entry or np.shape(entry.get("hand_pts")) != (21, 3):
                raise InputError(f"{path}: has no is_left, or no 21 hand_pts of 3 numbers; {self.FACTS.download}")
            yield Sample(f"{part}/{stem}", folder / part / f"{stem}.jpg", entry)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The one annotated hand."""
        triples = np.array(sample.entry["hand_pts"], np.float64)
        known = triples[:, 2] > 0
        points = np.where(known[:, None], triples[:, :2], np.nan)
        side: Side = "left" if sample.entry["is_left"] else "right"
        yield HandAnnotation(with_confidence(points, known.astype(np.float64)), side=side)

"""Halpe Full-Body: the hands of people in HICO-DET's and COCO's photos.

Layout and meaning are those of the authors' repositories (github.com/Fang-Haoshu/Halpe-FullBody: README, vis.py;
github.com/MVIG-SJTU/AlphaPose: docs/INSTALL.md for folders, alphapose/datasets/single_hand.py). The file has COCO's
form; of a person's 136 keypoints 94 to 114 are the left hand and 115 to 135 the right one, in OpenPose's order. As in
that reader a keypoint is known if its v is at least 0.35 and its place is not 0.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.datasets.annotation import HandAnnotation, Sample
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.coco import annotated_pictures, coco_hand
from data_pipelines.datasets.facts import DatasetFacts
from handjax.errors import InputError
from handjax.record import Side

_KEYPOINTS = 136
_HANDS: dict[Side, slice] = {"left": slice(94, 115), "right": slice(115, 136)}
_LEAST = 0.35
_FOLDERS = {"train": "train2015", "val": "val2017"}


class Halpe(HandDataset):
    """TFDS builder of Halpe's hands."""

    FACTS = DatasetFacts(
        name="halpe",
        description="Hands of 50,000 people in photos of HICO-DET and COCO, with 21 keypoints.",
        homepage="https://github.com/Fang-Haoshu/Halpe-FullBody",
        licence="not stated by the authors; the photos have the terms of HICO-DET and COCO (Flickr)",
        citation="""@article{alphapose,
  author = {Fang, Hao-Shu and Li, Jiefeng and Tang, Hongyang and Xu, Chao and Zhu, Haoyi and Xiu, Yuliang and
    Li, Yong-Lu and Lu, Cewu},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  title = {AlphaPose: Whole-Body Regional Multi-Person Pose Estimation and Tracking in Real-Time},
  year = {2022},
}""",
        download="name the folder that holds annotations/halpe_train_v1.json, annotations/halpe_val_v1.json, "
        "images/train2015 (of HICO-DET) and images/val2017 (of COCO), which "
        "https://github.com/Fang-Haoshu/Halpe-FullBody names",
        parts={"train": "train", "eval": "val"},
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads the annotations of the photos in which a hand is known."""
        path = folder / "annotations" / f"halpe_{part}_v1.json"
        for image, people in annotated_pictures(path, self.FACTS.download):
            hands = [hand for person in people for hand in _hands(person, path, self.FACTS.download)]
            if hands:
                name, place = image["file_name"], _FOLDERS[part]
                yield Sample(f"{place}/{Path(name).stem}", folder / "images" / place / name, hands)

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The hands of all people of whom something is known."""
        yield from sample.entry


def _hands(person: dict, path: Path, remedy: str) -> Iterator[HandAnnotation]:
    # vis.py passes by entries that have no list of keypoints
    if not isinstance(person.get("keypoints"), list):
        return
    triples = np.array(person["keypoints"], np.float64)
    if len(triples) != 3 * _KEYPOINTS:
        raise InputError(f"{path}: a person of {len(triples) // 3} keypoints, not {_KEYPOINTS}; {remedy}")
    triples = triples.reshape(_KEYPOINTS, 3)
    triples[(triples[:, 2] < _LEAST) | (triples[:, :2] <= 0).any(axis=1), 2] = 0.0
    for side, part in _HANDS.items():
        if triples[part, 2].any():
            yield coco_hand(triples[part], side)

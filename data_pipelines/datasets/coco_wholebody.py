"""COCO-WholeBody: the hands of people in COCO's photos, and the same with what COCO's captions say of the photo.

Layout and meaning are those of the authors' repository (github.com/jin-s13/COCO-WholeBody: data_format.md,
evaluation/example_gt.json); the names of folders are COCO's, as in MMPose's documentation of the data set. Of a person
`lefthand_kpts` and `righthand_kpts` hold x, y, v of 21 keypoints in OpenPose's order where `lefthand_valid` and
`righthand_valid` say that they could be labelled; v is above 0 where the keypoint is reliable, and often a fraction: 1
does not mean hidden, as it does of COCO's own keypoints.
COCO's captions are those of cocodataset.org/#format-data: `image_id` and `caption`, five to a photo.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipelines.datasets.annotation import HandAnnotation, Sample
from data_pipelines.datasets.builder import HandDataset
from data_pipelines.datasets.coco import annotated_pictures, coco_hand, read_coco
from data_pipelines.datasets.facts import DatasetFacts
from handjax.record import Side

_HOMEPAGE = "https://github.com/jin-s13/COCO-WholeBody"
_LICENCE = "CC BY-NC 4.0, only for research (annotations); Flickr's terms of use (photos)"
_CITATION = """@inproceedings{jin2020whole,
  title = {Whole-Body Human Pose Estimation in the Wild},
  author = {Jin, Sheng and Xu, Lumin and Xu, Jin and Wang, Can and Liu, Wentao and Qian, Chen and Ouyang, Wanli and
    Luo, Ping},
  booktitle = {Proceedings of the European Conference on Computer Vision (ECCV)},
  year = {2020},
}"""
_PARTS = {"train": "train", "eval": "val"}
_SIDES: tuple[Side, ...] = ("left", "right")


class CocoWholeBody(HandDataset):
    """TFDS builder of COCO-WholeBody's hands."""

    FACTS = DatasetFacts(
        name="coco_wholebody",
        description="Hands of people in the 118,287 and 5,000 photos of COCO 2017, with 21 keypoints.",
        homepage=_HOMEPAGE,
        licence=_LICENCE,
        citation=_CITATION,
        download="name the folder that holds annotations/coco_wholebody_PART_v1.0.json of "
        "https://github.com/jin-s13/COCO-WholeBody and the folders PART2017 of https://cocodataset.org/#download, for "
        "the parts train and val",
        parts=_PARTS,
    )

    def samples(self, folder: Path, part: str) -> Iterator[Sample]:
        """Reads the annotations of the photos in which a hand could be labelled."""
        path = folder / "annotations" / f"coco_wholebody_{part}_v1.0.json"
        captions = self.captions(folder, part)
        for image, people in annotated_pictures(path, self.FACTS.download):
            caption = captions.get(image["id"])
            hands = [
                coco_hand(np.array(person[f"{side}hand_kpts"], np.float64).reshape(21, 3), side, caption=caption)
                for person in people
                for side in _SIDES
                if person.get(f"{side}hand_valid")
            ]
            if hands:
                name = image["file_name"]
                yield Sample(f"{part}2017/{Path(name).stem}", folder / f"{part}2017" / name, hands)

    def captions(self, folder: Path, part: str) -> dict[int, str]:
        """What is said of photos, by their number: here of none."""
        return {}

    def hands(self, sample: Sample, size: tuple[int, int]) -> Iterator[HandAnnotation]:
        """The labelled hands of all people."""
        yield from sample.entry


class CocoCaptions(CocoWholeBody):
    """TFDS builder of the same hands, each with the first of the captions of its photo."""

    FACTS = DatasetFacts(
        name="coco_captions",
        description="Hands of COCO-WholeBody with COCO's captions of the photos in which they are.",
        homepage="https://cocodataset.org",
        licence=f"CC BY 4.0 (captions); COCO-WholeBody: {_LICENCE}",
        citation=f"""@misc{{chen2015coco,
  title = {{Microsoft COCO Captions: Data Collection and Evaluation Server}},
  author = {{Xinlei Chen and Hao Fang and Tsung-Yi Lin and Ramakrishna Vedantam and Saurabh Gupta and Piotr Dollar and
    C. Lawrence Zitnick}},
  year = {{2015}},
  eprint = {{1504.00325}},
  archivePrefix = {{arXiv}},
}}
{_CITATION}""",
        download="name the folder that holds annotations/captions_PART2017.json and the folders PART2017 of "
        "https://cocodataset.org/#download, and annotations/coco_wholebody_PART_v1.0.json of "
        "https://github.com/jin-s13/COCO-WholeBody, for the parts train and val",
        parts=_PARTS,
    )

    def captions(self, folder: Path, part: str) -> dict[int, str]:
        """Reads `captions_PART2017.json`."""
        path = folder / "annotations" / f"captions_{part}2017.json"
        entries = read_coco(path, self.FACTS.download, "annotations")["annotations"]
        last_first = sorted(entries, key=lambda entry: entry["id"], reverse=True)
        return {entry["image_id"]: " ".join(entry["caption"].split()) for entry in last_first}
